"""Who is to blame for ways between nodes that do not work: by how many partners it fails."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gpudoctor.facts.links import Way

Ends = tuple[str, str]  # source and target
Kind = Literal["in", "out", "both", "link", "all"]


_AT_SOURCE = ("ENETUNREACH", "EACCES", "EPERM", "EADDRNOTAVAIL")  # the source's own kernel says it


class Fault(Struct, frozen=True):
    """What explains some ways that do not work.

    Attributes:
        kind: "in": nobody reaches the node; "out": it reaches nobody; "both"; "link": both ways
            between two nodes that are well with others; "all": too many fail to blame anybody.
        nodes: the one to blame; of a link its two ends, of which neither is; of "all" none.
        ways: that it explains.
    """

    kind: Kind
    nodes: tuple[str, ...]
    ways: tuple[Way, ...]

    @property
    def blamed(self) -> tuple[str, ...]:
        return self.nodes if self.kind in ("in", "out", "both") else ()


def faults(ways: Iterable[Way], broken: Iterable[Way]) -> list[Fault]:
    """What explains the ways that are broken, the worst first.

    Where only one direction between two nodes fails the wire is well, and the target is blamed:
    what keeps connections out mostly stands at the door.

    Args:
        ways: all that were tried.
        broken: those of them that do not work.
    """
    broken = list(broken)
    tried = {(way.source, way.target): way for way in ways}
    left = {(way.source, way.target): way for way in broken}
    nodes = {name for ends in tried for name in ends}
    found: list[Fault] = []
    while left:
        suspects = _suspects(nodes, tried, left)
        if not suspects:
            break
        best = max(suspects, key=lambda fault: len(fault.ways))
        if 2 * sum(len(fault.ways) == len(best.ways) for fault in suspects) > len(nodes):
            break  # all are as bad
        found.append(best)
        for way in best.ways:
            del left[way.source, way.target]
        # What the node has to do with it tells nothing more of its partners.
        tried = {ends: way for ends, way in tried.items() if way not in best.ways}
    blamed = {name for fault in found for name in fault.nodes}
    too_many = 2 * len(blamed) > len(nodes) or bool(_suspects(nodes, tried, left))
    if too_many or (len(nodes) == 2 and len(left) == 2):
        return [Fault("all", (), tuple(broken))]
    pairs: dict[Ends, list[Way]] = {}
    for (source, target), way in left.items():
        pairs.setdefault((min(source, target), max(source, target)), []).append(way)
    return found + [_between(ends, some) for ends, some in pairs.items()]


def _between(ends: Ends, ways: list[Way]) -> Fault:
    """What fails between two nodes that are well with others."""
    if len(ways) == 2:
        return Fault("link", ends, tuple(ways))
    (way,) = ways
    if way.error in _AT_SOURCE:
        return Fault("out", (way.source,), (way,))
    return Fault("in", (way.target,), (way,))


def _suspects(nodes: Iterable[str], tried: dict[Ends, Way], left: dict[Ends, Way]) -> list[Fault]:
    """The nodes that fail with most of their partners, in one direction or both."""
    found: list[Fault] = []
    for node in sorted(nodes):
        inward = [way for (_, target), way in left.items() if target == node]
        outward = [way for (source, _), way in left.items() if source == node]
        shut_in = _most(inward, sum(target == node for _, target in tried))
        shut_out = _most(outward, sum(source == node for source, _ in tried))
        if shut_in and shut_out:
            found.append(Fault("both", (node,), (*inward, *outward)))
        elif shut_in:
            found.append(Fault("in", (node,), tuple(inward)))
        elif shut_out:
            found.append(Fault("out", (node,), tuple(outward)))
    return found


def _most(failed: list[Way], tried: int) -> bool:
    return len(failed) > 1 and 2 * len(failed) > tried
