"""Reports are read one after another; of each stays a row, and it is forgotten."""

from collections.abc import Collection, Iterable
from datetime import datetime, timezone

import msgspec
from msgspec.structs import replace

from gpudoctor.fleet.expected import Expected
from gpudoctor.fleet.gathered import Gathered, Redacts
from gpudoctor.fleet.lean import Foreign, lean
from gpudoctor.fleet.model import Fleet, Pattern
from gpudoctor.fleet.reading import Piece
from gpudoctor.fleet.summing import sum_up
from gpudoctor.report import BadReport, Report
from gpudoctor.snapshot import encode


def gather(
    pieces: Iterable[Piece],
    *,
    expected: Expected | None = None,
    redactor: Redacts | None = None,
    made: str = "",
) -> Fleet:
    """All nodes of all reports.

    Args:
        pieces: what was read, one after another; see `reading.pieces`.
        expected: the nodes that there should be, and where they stand.
        redactor: hides names; it sees the reports one after another.
        made: when, UTC; now, if empty.
    """
    gathered = Gathered()
    for piece in pieces:
        if piece.error:
            gathered.refuse(piece.source, piece.error)
            continue
        try:
            report = lean(piece.raw)
        except BadReport as error:
            gathered.refuse(piece.source, str(error), foreign=isinstance(error, Foreign))
        else:
            gathered.take(report, redactor)
    return _redacted(sum_up(gathered, expected, made or _now()), redactor)


def of_report(report: Report) -> Fleet:
    """The nodes of one report, that of a cluster or of several nodes."""
    gathered = Gathered()
    gathered.take(lean(encode(report)), None)
    return sum_up(gathered, None, report.run.started)


def _redacted(fleet: Fleet, redactor: Redacts | None) -> Fleet:
    if redactor is None:
        return fleet
    if redactor.level == "public":
        fleet = _nowhere(fleet)
    redactor.read(text for check in fleet.checks for text in (check.title, check.why))
    hidden = msgspec.convert(redactor.fact("fleet", fleet), Fleet)
    return replace(hidden, redaction=redactor.redaction)


def _nowhere(fleet: Fleet) -> Fleet:
    """Without the names of racks, switches and groups of hosts, which no token stands for."""
    columns = {column for node in fleet.nodes for column in node.place} | {"name"}
    return replace(
        fleet,
        missing_places={},
        nodes=tuple(replace(node, place={}) if node.place else node for node in fleet.nodes),
        problems=tuple(
            replace(problem, patterns=tuple(_unnamed(each, columns) for each in problem.patterns))
            for problem in fleet.problems
        ),
    )


def _unnamed(pattern: Pattern, columns: Collection[str]) -> Pattern:
    if pattern.kind not in columns:
        return pattern
    some = "all" if pattern.holds == pattern.of else f"{pattern.holds} of {pattern.of}"
    words = (
        f"{some} with names alike" if pattern.kind == "name" else f"{some} on one {pattern.kind}"
    )
    return replace(pattern, value="", words=words)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
