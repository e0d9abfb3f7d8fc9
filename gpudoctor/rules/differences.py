"""What differs between nodes, told in few words, and judged."""

import re
from collections.abc import Callable, Iterable, Sequence

from gpudoctor.facts.members import Nodes
from gpudoctor.finding import Finding, Fix, fail, ok, skip, warn
from gpudoctor.hostlist import fold
from gpudoctor.rules.alike import Comparison, Group, compare
from gpudoctor.snapshot import Absent, Snapshot
from gpudoctor.units import count_of

WIDTH = 79  # of a summary
MOST_NAMES, MOST_LINES = 60, 12  # letters in a list of nodes; lines of evidence
ONE_NODE = "one node: there is nobody to compare it with; start it on every node of the job"

Levelling = Callable[[Sequence[Comparison], Sequence[Snapshot]], Fix]


def who(names: Iterable[str], most: int = MOST_NAMES) -> str:
    """The nodes as a host list, or how many, if that is longer than `most` letters."""
    names = sorted(set(names))
    short = sorted({name.partition(".")[0] for name in names})
    if len(short) < len(names) or all(name.isdigit() for name in short):
        short = names  # addresses, or domains that tell nodes apart
    for folded in (fold(names), fold(short)):
        if len(folded) <= most:
            return folded
    return f"{len(names)} nodes" if len(names) > 1 else _cut(short[0], most)


def remark(name: str) -> str:
    """A node's name as it may stand in a comment of a command: another node chose it."""
    return re.sub(r"[^\w.:#-]", "?", name)


def listed(names: Iterable[str]) -> str:
    """The nodes as a host list; of very many the first."""
    names = sorted(set(names))
    folded = fold(names)
    return folded if len(folded) <= 200 else f"{fold(names[:10])} and {len(names) - 10} more"


def summary(difference: Comparison, more: int = 0) -> str:
    """ "torch 2.8.0 on n7, 2.9.1 on 63 others"."""
    groups, usual = difference.split.groups, difference.split.usual
    label, outliers = difference.trait.label, difference.split.outliers
    tail = f", and {more} more" if more else ""
    for most, letters in ((24, 32), (14, 16), (10, 10), (8, 6)):
        if usual is not None and len(groups) == 2:
            (other,) = (value for value in groups if value != usual)
            words = f"{_cut(other, letters)} on {who(outliers, most)}"
            text = f"{label} {words}, {_cut(usual, letters)} on {_others(len(groups[usual]))}"
        elif usual is not None:
            text = f"{label} {_cut(usual, letters)} on {count_of(len(groups[usual]), 'node')},"
            text += f" others on {who(outliers, most)}"
        elif len(groups) == 2:
            parts = [f"{_cut(v, letters)} on {who(names, most)}" for v, names in groups.items()]
            text = f"{label} {', '.join(parts)}"
        else:
            total = sum(map(len, groups.values()))
            text = f"{label}: {len(groups)} different among {total} nodes"
        if len(text + tail) <= WIDTH:
            return text + tail
    return _cut(text, WIDTH - len(tail)) + tail


def line(difference: Comparison) -> str:
    """ "torch: 2.9.1 on n[1-6,8-64]; 2.8.0 on n7"."""
    groups = list(difference.split.groups.items())
    parts = [f"{_cut(value, 60)} on {listed(names)}" for value, names in groups[:4]]
    parts += [f"{len(groups) - 4} more"] if len(groups) > 4 else []
    among = f" (of {difference.model})" if difference.model else ""
    return f"{difference.trait.label}{among}: {'; '.join(parts)}"


def judged(
    nodes: Nodes,
    group: Group,
    level: Levelling,
    *,
    blank: str,
    spare: Callable[[Comparison], bool] = lambda difference: False,
    also: Callable[[Comparison], bool] = lambda difference: False,
) -> Finding:
    """What a group of traits comes to.

    Args:
        nodes: with their facts.
        group: of traits.
        level: makes the fix of the differences that count.
        blank: why there is nothing to compare, and what would bring it.
        spare: differences that are known to be meant.
        also: differences that count here, though mostly they are only said.
    """
    if len(nodes.snapshots) < 2:
        return skip(ONE_NODE)
    compared = compare(nodes.snapshots, group)
    if not compared:
        return skip(blank)
    apart = [c for c in compared if not c.split.alike]
    counts = [c for c in apart if (c.trait.matters != "said" or also(c)) and not spare(c)]
    spared = [c for c in apart if c not in counts]
    worst = [c for c in counts if c.trait.matters == "fail"]
    first, rest = worst or counts, [c for c in counts if worst and c not in worst]
    evidence = _few([line(c) for c in [*first, *rest, *spared]])
    evidence += _unseen(nodes, compared)
    if not first:
        return ok(_alike(compared, len(nodes.snapshots)), evidence)
    return (fail if worst else warn)(
        summary(first[0], len(first) + len(rest) - 1),
        level([*first, *rest], nodes.snapshots),
        evidence=evidence,
        basis="measured",
        owner=first[0].trait.owner,
        nodes=dict.fromkeys(name for c in first for name in c.split.outliers),
    )


def _alike(compared: Sequence[Comparison], count: int) -> str:
    """ "64 nodes: torch 2.9.1, NCCL 2.27.5"."""
    text = f"{count} nodes alike"
    for number, same in enumerate(c for c in compared if c.split.alike):
        (value,) = same.split.groups
        longer = f"{text}{', ' if number else ': '}{same.trait.label} {value}"
        if len(longer) > WIDTH:
            break
        text = longer
    return text


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more that differ"] if more > 0 else [])]


def _unseen(nodes: Nodes, compared: Sequence[Comparison]) -> list[str]:
    """Facts that could not be had on some node, though others have them."""
    kinds = sorted({c.trait.fact for c in compared if c.trait.fact})
    found: dict[str, list[str]] = {}
    for node in nodes.snapshots:
        for kind in kinds:
            fact = node.facts.get(kind)
            if isinstance(fact, Absent) and fact.broken:
                found.setdefault(f"{kind}: {fact.absent}", []).append(node.name)
    return [f"not known on {listed(names)}: {why}" for why, names in found.items()]


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def _others(count: int) -> str:
    return f"{count} others" if count > 1 else "the other"
