"""Nodes with the same GPUs, and how they differ: a majority accuses, a tie blames nobody."""

from collections.abc import Mapping, Sequence

from gpudoctor.fleet.gathered import Gathered
from gpudoctor.fleet.model import Cohort, Difference, Hosts, Value
from gpudoctor.fleet.tables import Column
from gpudoctor.hostlist import fold
from gpudoctor.rules import alike
from gpudoctor.rules.traits import GPU_MODEL, Trait

MOST_VALUES = 12  # of one trait that are told apart
MOST_TRAITS = 100  # of one cohort; packages alone can be hundreds
OF_ONE_JOB = ("MASTER_PORT", "WORLD_SIZE", "number of nodes")  # a fleet has many jobs
_RANK = {"fail": 0, "warn": 1, "said": 2}


Unlike = dict[int, dict[str, str]]  # by node, traits in which it is not as most


def cohorts(gathered: Gathered) -> tuple[tuple[Cohort, ...], Unlike]:
    """The cohorts, the largest first, and what is unusual about single nodes.

    Whether nodes whose GPUs are not known should be alike nobody knows.
    """
    unlike: Unlike = {}
    members: dict[str, list[int]] = {}
    for number, row in enumerate(gathered.rows):
        members.setdefault(row.model, []).append(number)
    for column in (*gathered.traits.values(), *gathered.has.values()):
        column.reach(len(gathered.rows))
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(_cohort(name, nodes, gathered, unlike) for name, nodes in ordered), unlike


def _cohort(name: str, nodes: Sequence[int], gathered: Gathered, unlike: Unlike) -> Cohort:
    same, differ = {}, []
    for trait, column in gathered.traits.items() if name else ():
        if trait.label in OF_ONE_JOB or trait == GPU_MODEL:
            continue
        values = _values(trait, column, nodes, gathered)
        told = set(filter(None, values))
        if len(told) == 1:
            same[trait.label] = next(iter(told))
        elif told:
            having = _having(values, nodes)
            difference = _difference(trait, having, gathered)
            differ.append(difference)
            for value, some in having.items() if difference.usual else ():
                if value != difference.usual:
                    for node in some:
                        unlike.setdefault(node, {})[trait.label] = value
    differ.sort(key=lambda each: (not each.usual, _RANK[each.matters], each.outliers, each.trait))
    return Cohort(
        name=name,
        nodes=_hosts(nodes, gathered),
        alike=same,
        differ=tuple(differ[:MOST_TRAITS]),
    )


def _values(trait: Trait, column: Column, nodes: Sequence[int], gathered: Gathered) -> list[str]:
    """The value of each node; empty: not known."""
    told = column.told
    values = [told[column.cells[node]] for node in nodes]
    has = gathered.has.get(trait.fact)
    if trait.unset and has is not None:
        unset = ("", trait.unset)
        values = [
            value or unset[has.cells[node]] for value, node in zip(values, nodes, strict=True)
        ]
    if trait.close:
        known = {number: value for number, value in enumerate(values) if value}
        close = alike.merged(known, trait.close)
        values = [close.get(number, "") for number in range(len(values))]
    return values


def _having(values: Sequence[str], nodes: Sequence[int]) -> dict[str, list[int]]:
    """Nodes by value, the most frequent first."""
    found: dict[str, list[int]] = {}
    for value, node in zip(values, nodes, strict=True):
        if value:
            found.setdefault(value, []).append(node)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _difference(trait: Trait, having: Mapping[str, list[int]], gathered: Gathered) -> Difference:
    usual, count = next((value, len(some)) for value, some in having.items())
    if 2 * count <= sum(map(len, having.values())):
        usual, count = "", 0
    others = [value for value in having if value != usual]
    shown = [Value(value, _hosts(having[value], gathered)) for value in others[:MOST_VALUES]]
    if rest := [node for value in others[MOST_VALUES:] for node in having[value]]:
        words = f"{len(others) - MOST_VALUES} other values"
        shown.append(Value(words, _hosts(rest, gathered)))
    return Difference(
        trait=trait.label,
        usual=usual,
        count=count,
        others=tuple(shown),
        matters=trait.matters,
        owner=trait.owner,
    )


def _hosts(nodes: Sequence[int], gathered: Gathered) -> Hosts:
    return Hosts(len(nodes), fold(gathered.rows[node].name for node in nodes))
