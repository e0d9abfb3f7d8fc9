"""How far each node's clock is from the median of all, out of offsets between pairs."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from gpudoctor.facts.links import Way


class Deviation(Struct, frozen=True):
    """A clock minus the median of all, and how far that may be wrong; in seconds."""

    seconds: float
    uncertainty: float

    def exceeds(self, seconds: float) -> bool:
        """Whether it is surely further off than this."""
        return abs(self.seconds) - self.uncertainty > seconds


def deviations(ways: Iterable[Way]) -> dict[str, Deviation]:
    """Of the largest group of nodes that offsets tie together; fewer than two: none.

    From node to node the surest offsets are taken, so that errors add up as little as may be.
    """
    offsets = _offsets(ways)
    groups: list[dict[str, Deviation]] = []
    names = sorted({name for ends in offsets for name in ends})
    for name in names:
        if not any(name in group for group in groups):
            groups.append(_from(name, offsets))
    largest = max(groups, key=len, default={})
    if len(largest) < 2:
        return {}
    middle = sorted(largest.values(), key=lambda found: found.seconds)[(len(largest) - 1) // 2]
    return {
        name: Deviation(
            found.seconds - middle.seconds,
            0.0 if found is middle else found.uncertainty + middle.uncertainty,
        )
        for name, found in largest.items()
    }


def _offsets(ways: Iterable[Way]) -> dict[tuple[str, str], Deviation]:
    """The target's clock minus the source's, each pair in both directions, by its surest way."""
    found: dict[tuple[str, str], Deviation] = {}
    for way in ways:
        if way.clock_offset_seconds is None or way.clock_uncertainty_seconds is None:
            continue
        for ends, sign in (((way.source, way.target), 1), ((way.target, way.source), -1)):
            told = Deviation(sign * way.clock_offset_seconds, way.clock_uncertainty_seconds)
            if ends not in found or told.uncertainty < found[ends].uncertainty:
                found[ends] = told
    return found


def _from(first: str, offsets: Mapping[tuple[str, str], Deviation]) -> dict[str, Deviation]:
    """All nodes tied to the first, by Dijkstra's way with uncertainties for lengths."""
    partners: dict[str, list[tuple[str, Deviation]]] = {}
    for (source, target), told in offsets.items():
        partners.setdefault(source, []).append((target, told))
    near = {first: Deviation(0.0, 0.0)}
    found: dict[str, Deviation] = {}
    while near:
        name = min(near, key=lambda other: (near[other].uncertainty, other))
        here = found[name] = near.pop(name)
        for other, told in partners.get(name, ()):
            way = Deviation(here.seconds + told.seconds, here.uncertainty + told.uncertainty)
            if other not in found and (
                other not in near or way.uncertainty < near[other].uncertainty
            ):
                near[other] = way
    return found
