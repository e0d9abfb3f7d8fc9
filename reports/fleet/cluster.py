"""What a page shows of nodes that were looked at together: links, clocks, all-reduce."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup
from msgspec import Struct

from gpudoctor import wording
from gpudoctor.facts.all_reduce import AllReduce, PairReduce
from gpudoctor.facts.links import Links, Way
from gpudoctor.facts.members import Members
from gpudoctor.finding import Status
from gpudoctor.fleet import Fleet
from gpudoctor.report import Result
from gpudoctor.snapshot import Absent, F, Fact

from .. import drawings

SLOW = 0.7  # of the middle of all figures, as cluster-throughput has it
MOST_NODES = 16  # of the matrix: those with the most trouble; all are in the JSON


class Cell(Struct, frozen=True):
    """One direction of a link; kind: pass, warn, fail, skip, self."""

    kind: str
    words: str
    long: str


class ClusterView(Struct, frozen=True, kw_only=True):
    results: tuple[Result, ...]
    members: Members | None
    names: tuple[str, ...] = ()  # of the matrix
    cells: tuple[tuple[Cell, ...], ...] = ()
    left_out: int = 0
    about_links: tuple[str, ...] = ()
    drawn: tuple[Markup, ...] = ()
    notes: tuple[str, ...] = ()
    exclude: Mapping[str, str] = {}


def cluster_view(fleet: Fleet) -> ClusterView | None:
    """The section, if there is something for it."""
    cluster = fleet.cluster
    if cluster is None:
        return None
    members, links = _fact(cluster.facts, Members), _fact(cluster.facts, Links)
    reduced = _fact(cluster.facts, AllReduce)
    pairs = _fact(cluster.facts, PairReduce)
    drawn, notes = [], []
    if links is not None:
        drawn.append(drawings.clock_offsets(links.ways))
    if pairs is not None and (slow := _pairs(pairs)):
        drawn.append(slow)
    if reduced is not None and reduced.points:
        about = (f"{reduced.ranks} ranks", reduced.library or reduced.backend)
        over = f"over {', '.join(reduced.transports)}" if reduced.transports else ""
        note = ", ".join(filter(None, (*about, over)))
        drawn.append(
            drawings.sweep(
                reduced.points, reduced.again, title="All-reduce of all nodes", note=note
            )
        )
    if reduced is not None and reduced.error:
        notes.append(f"All-reduce did not come to its end: {reduced.error}")
    ways = links.ways if links is not None else ()
    names, left = _worst(ways)
    return ClusterView(
        results=tuple(sorted(cluster.results, key=lambda r: _RANK[r.status])),
        members=members,
        names=names,
        cells=_matrix(names, ways, _blamed(cluster.results)),
        left_out=left,
        about_links=_about(links) if links is not None else (),
        drawn=tuple(filter(None, drawn)),
        notes=tuple(notes),
        exclude={k: v for k, v in cluster.exclude_lines.items() if k not in fleet.exclude_lines},
    )


_RANK = {
    s: n for n, s in enumerate((Status.FAIL, Status.ERROR, Status.WARN, Status.PASS, Status.SKIP))
}


def _fact(facts: Mapping[str, Any], kind: type[F]) -> F | None:
    """A fact that may still be plain JSON; None: it is not there."""
    from gpudoctor.snapshot import name_of

    value = facts.get(name_of(kind))
    if (
        value is None
        or isinstance(value, Absent)
        or (isinstance(value, Mapping) and "absent" in value)
    ):
        return None
    try:
        return value if isinstance(value, Fact) else msgspec.convert(value, kind)  # type: ignore[return-value]
    except msgspec.ValidationError:
        return None  # of another version


def _worst(ways: Sequence[Way]) -> tuple[tuple[str, ...], int]:
    """The nodes of the matrix: in their order, those with trouble kept where there are too many."""
    names = sorted({name for way in ways for name in (way.source, way.target)})
    trouble = dict.fromkeys(names, 0)
    for way in ways:
        if way.error:
            trouble[way.source] += 1
            trouble[way.target] += 1
    kept = set(sorted(names, key=lambda name: (-trouble[name], name))[:MOST_NODES])
    return tuple(name for name in names if name in kept), len(names) - len(kept)


def _blamed(results: Sequence[Result]) -> set[str]:
    """The nodes that a finding names: only theirs are shown as slow."""
    found = (Status.FAIL, Status.WARN)
    return {name for result in results if result.status in found for name in result.nodes}


def _matrix(
    names: Sequence[str], ways: Sequence[Way], blamed: set[str]
) -> tuple[tuple[Cell, ...], ...]:
    known = {(way.source, way.target): way for way in ways}
    speeds = sorted(way.bytes_per_second for way in ways if way.bytes_per_second)
    slow = SLOW * speeds[len(speeds) // 2] if speeds else 0.0
    return tuple(
        tuple(
            _cell(
                source,
                target,
                known.get((source, target)),
                slow if {source, target} & blamed else 0,
            )
            for target in names
        )
        for source in names
    )


def _cell(source: str, target: str, way: Way | None, slow: float) -> Cell:
    if source == target:
        return Cell("self", "", "itself")
    if way is None:
        return Cell("skip", "·", "not tried")
    if way.error or way.resolve_error:
        error = way.error or way.resolve_error.partition(":")[0]
        at = f" at {way.step}" if way.step else ""
        return Cell("fail", error, f"{error}{at}, {way.address or way.resolve_error}")
    if way.bytes_per_second is None:
        rtt = wording.duration(way.rtt_seconds) if way.rtt_seconds else ""
        return Cell("pass", "✓", f"reached{', round trip ' + rtt if rtt else ''}")
    speed = f"{way.bytes_per_second * 8 / 1e9:.3g}"
    kind = "warn" if way.bytes_per_second < slow else "pass"
    return Cell(kind, speed, f"{speed} Gb/s by {way.interface or 'an interface not known'}")


def _about(links: Links) -> tuple[str, ...]:
    said = []
    if links.pairs:
        said.append(f"{links.pairs} of {links.pairs_all or links.pairs} pairs were tried.")
    if links.unfinished:
        said.append(f"Not all: {links.unfinished}.")
    if links.tries:
        failed = [one.source for one in links.tries if one.error]
        reached = f"{len(links.tries) - len(failed)} of {len(links.tries)} nodes reach it"
        said.append(f"MASTER_PORT {links.master_port} on {links.master}: {reached}.")
    return tuple(said)


def _pairs(pairs: PairReduce) -> Markup:
    told = {" and ".join(one.nodes): one.busbw for one in pairs.figures if one.busbw is not None}
    if len(told) < 3:
        return Markup()
    slowest = sorted(told.items(), key=lambda item: item[1])[:3]
    return drawings.distribution(
        "All-reduce of two nodes each",
        list(told.values()),
        say=lambda value: f"{value / 1e9:.4g} GB/s",
        named=dict(slowest),
        note=f"{len(told)} pairs",
    )
