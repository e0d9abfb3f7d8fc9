"""Problems by kind, and what the nodes that have one have in common."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gpudoctor.finding import Status
from gpudoctor.fleet import patterns
from gpudoctor.fleet.gathered import Gathered
from gpudoctor.fleet.model import Finding, Hosts, Pattern, Problem, Said
from gpudoctor.fleet.tables import Column
from gpudoctor.hostlist import fold
from gpudoctor.rules.traits import GPU_MODEL

MOST_SAID = 5  # wordings of one problem
TELLING = ("versions", "image")  # groups of traits; limits and links are what checks judge anyway
_RANK = (Status.FAIL, Status.ERROR, Status.WARN)
_NUMBER = re.compile(r"\d+")
Found = list[tuple[int, Finding]]  # by node


def problems(gathered: Gathered, places: Sequence[Mapping[str, str]]) -> tuple[Problem, ...]:
    """All kinds, those first that fail, then those on most nodes.

    Args:
        gathered: of all nodes.
        places: of each, by the inventory: {"rack": "c2"}.
    """
    surroundings = _Surroundings(gathered, places)
    by_check: dict[int, Found] = {}
    by_cause: dict[str, Found] = {}
    together = {each.finding.check for each in gathered.of_cluster}
    for node, row in enumerate(gathered.rows):
        for finding in row.findings:
            if finding.check in together:
                continue
            if finding.status is Status.ERROR:
                cause = _NUMBER.sub("#", gathered.texts.values[finding.summary])
                by_cause.setdefault(cause, []).append((node, finding))
            else:
                by_check.setdefault(finding.check, []).append((node, finding))
    found = [
        _problem(gathered.about[check].id, gathered.about[check].title, some, surroundings)
        for check, some in by_check.items()
    ]
    found += [
        _problem(f"unchecked-{number}", _title(some, gathered), some, surroundings)
        for number, some in enumerate(by_cause.values(), 1)
    ]
    found += _of_cluster(gathered)
    found.sort(key=lambda each: (_RANK.index(each.status), -each.nodes.count, each.id))
    return tuple(found)


def _title(found: Found, gathered: Gathered) -> str:
    """What nobody knows for one cause."""
    checks = {finding.check for _, finding in found}
    if len(checks) == 1:
        about = gathered.about[checks.pop()]
        return f"{about.id} could not be checked"
    return f"{len(checks)} checks could not look"


def _problem(name: str, title: str, found: Found, around: "_Surroundings") -> Problem:
    statuses = {finding.status for _, finding in found}
    nodes = sorted({node for node, _ in found})
    gathered = around.gathered
    texts = gathered.texts.values
    wordings: dict[tuple[str, Status], set[int]] = {}
    for node, finding in found:
        wordings.setdefault((texts[finding.summary], finding.status), set()).add(node)
    said = sorted(wordings.items(), key=lambda item: (-len(item[1]), item[0][0]))
    owners = Counter(finding.owner for _, finding in found)
    return Problem(
        id=name,
        checks=tuple(sorted({finding.check for _, finding in found})),
        title=title,
        status=next(status for status in _RANK if status in statuses),
        owner=owners.most_common(1)[0][0],
        nodes=around.hosts(nodes),
        failed=len({node for node, finding in found if finding.status is not Status.WARN}),
        patterns=around.in_common(nodes, found),
        said=tuple(
            Said(words, status, around.hosts(some)) for (words, status), some in said[:MOST_SAID]
        ),
        more=max(0, len(said) - MOST_SAID),
    )


def _of_cluster(gathered: Gathered) -> list[Problem]:
    found = []
    for each in gathered.of_cluster:
        about = gathered.about[each.finding.check]
        blamed = Hosts(len(each.nodes), fold(each.nodes))
        found.append(
            Problem(
                id=about.id,
                checks=(each.finding.check,),
                title=about.title,
                status=each.finding.status,
                owner=each.finding.owner,
                nodes=blamed,
                failed=len(each.nodes) if each.finding.status is not Status.WARN else 0,
                of_cluster=True,
                said=(
                    Said(gathered.texts.values[each.finding.summary], each.finding.status, blamed),
                ),
            )
        )
    return found


class _Surroundings:
    """Where nodes stand and what they have, to be asked for each problem."""

    def __init__(self, gathered: Gathered, places: Sequence[Mapping[str, str]]) -> None:
        self.gathered = gathered
        self._names = [row.name for row in gathered.rows]
        self._orders = patterns.orders(self._names)
        self._of_place = _columns(places)
        groups = [dict(enumerate(patterns.name_groups(name))) for name in self._names]
        self._of_name = _columns([{str(k): v for k, v in each.items()} for each in groups])
        self._traits = {
            trait: column
            for trait, column in gathered.traits.items()
            if (trait.group in TELLING or trait == GPU_MODEL) and len(column.told) > 2
        }
        columns = (*self._of_place.values(), *self._of_name.values(), *self._traits.values())
        for column in columns:
            column.reach(len(self._names))
        self._tallies = {id(column): column.tally() for column in columns}

    def hosts(self, nodes: Iterable[int]) -> Hosts:
        known = set(nodes)
        return Hosts(len(known), fold(self._names[node] for node in known))

    def in_common(self, nodes: Sequence[int], found: Found) -> tuple[Pattern, ...]:
        """Of each sort the most telling: which device, where, what else they have."""
        if len(nodes) < patterns.FEWEST:
            return ()
        known = (self._device(nodes, found), self._place(nodes), self._trait(nodes))
        return tuple(pattern for pattern in known if pattern)

    def _device(self, nodes: Sequence[int], found: Found) -> Pattern | None:
        named: dict[int, dict[str, set[str]]] = {node: {} for node in nodes}
        texts = self.gathered.texts.values
        for node, finding in found:
            for text in (finding.summary, *finding.evidence):
                for kind, names in patterns.devices(texts[text]).items():
                    named[node].setdefault(kind, set()).update(names)
        have: dict[str, int] = {}
        for node in nodes:
            for kind, count in self.gathered.rows[node].devices.items():
                have[kind] = max(count, have.get(kind, 0))
        return patterns.device(
            list(named.values()), {k: count for k, count in have.items() if count}
        )

    def _place(self, nodes: Sequence[int]) -> Pattern | None:
        told = patterns.best(
            self._shared(kind, column, nodes, "{some} on {kind} {value}")
            for kind, column in self._of_place.items()
        )
        return told or patterns.best(
            [
                *(
                    self._shared("name", column, nodes, "{some} named {value}")
                    for column in self._of_name.values()
                ),
                *(patterns.neighbours(nodes, order, self._names) for order in self._orders),
            ]
        )

    def _trait(self, nodes: Sequence[int]) -> Pattern | None:
        return patterns.best(
            self._shared(trait.label, column, nodes, "{some} have {kind} {value}")
            for trait, column in self._traits.items()
        )

    def _shared(
        self, kind: str, column: Column, nodes: Sequence[int], phrase: str
    ) -> patterns.Judged | None:
        tally = self._tallies[id(column)]
        return patterns.shared(kind, nodes, column.cells, column.told, tally, phrase)


def _columns(rows: Sequence[Mapping[str, str]]) -> dict[str, Column]:
    """Rows by their keys; what is the same, or different, on every node tells nothing."""
    columns: dict[str, Column] = {}
    for node, row in enumerate(rows):
        for key, value in row.items():
            columns.setdefault(key, Column()).put(node, value)
    return {key: column for key, column in columns.items() if 2 < len(column.told) <= len(rows)}
