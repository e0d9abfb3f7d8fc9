"""`gpudoctor report`: show again what a run wrote, in another format, or with less in it."""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from gpudoctor import report as reports
from gpudoctor.cli import options
from gpudoctor.cli.output import Outputs, Reporting, say
from gpudoctor.report import Report

if TYPE_CHECKING:  # at run time only where there are several reports
    from gpudoctor.fleet import Fleet
    from gpudoctor.fleet.reading import Piece
    from gpudoctor.sharing import Redactor


@click.command("report", cls=Reporting)
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.option(
    "-f", "--format", "format_", metavar="FORMAT", help="text (default), json, html, ..."
)
@options.option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file.")
@options.redaction
@options.option("--expect-nodes", metavar="FILE|HOSTS", help="Who should be there: gpu-[001-128].")
@options.option("--inventory", metavar="FILE", help="The same with racks, switches: CSV or JSON.")
@options.option("-q", "--quiet", count=True, help="Findings only; twice: nothing.")
@options.option("-v", "--verbose", count=True, help="Also what passed.")
def command(
    inputs: tuple[str, ...],
    format_: str | None,
    output: tuple[str, ...],
    redact: str | None,
    expect_nodes: str | None,
    inventory: str | None,
    quiet: int,
    verbose: int,
) -> None:
    """Show again what `check -f json` wrote. It looks at nothing here.

    IN is a file; - is stdin. Several, or a directory, make one report of all nodes: a fleet,
    as text, json or html. Exit codes are those of the run that is shown, or of the worst; 2
    also for a file that is no report; 3 also where a fleet's nodes are missing or not read.
    """
    several = len(inputs) > 1 or os.path.isdir(inputs[0]) or expect_nodes or inventory
    report = _pieces(inputs) if several else _one_or_more(inputs[0])
    if not isinstance(report, Report):
        outputs = Outputs(format_ or "text", output, verbose - quiet, of="fleet.", redact=redact)
        here = (format_ or "text") == "text" and not output and redact is None
        hidden = None if here or redact == "none" else outputs.redactor()
        fleet = _fleet(report, expect_nodes, inventory, hidden)
        sys.exit(outputs.exit_code(fleet) if outputs.write(fleet) else 3)
    outputs = Outputs(format_ or "text", output, verbose - quiet, redact=redact)
    if redact and reports.hides_more(report.redaction.level, redact):
        say(f"{inputs[0]} stays {report.redaction.level}: what was taken out of it is not in it")
    sys.exit(outputs.exit_code(report) if outputs.write(report) else 3)


def read(path: str) -> Report:
    """The report in a file.

    Raises:
        click.UsageError: there is none.
    """
    try:
        if path == "-":
            return reports.load(sys.stdin.buffer.read(reports.LIMIT_BYTES + 1))
        with open(path, "rb") as file:
            return reports.load(file.read(reports.LIMIT_BYTES + 1))
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except reports.BadReport as error:
        raise click.UsageError(f"{path}: {error}") from None


def _pieces(inputs: Sequence[str]) -> Iterator["Piece"]:
    for path in inputs:
        if path != "-" and not os.path.exists(path):
            raise click.UsageError(f"{path}: No such file or directory")
    from gpudoctor.fleet import reading

    return reading.pieces(inputs)


def _one_or_more(path: str) -> "Report | Iterator[Piece]":
    """The report in a file or on stdin, or the pieces of one in which several stand."""
    start = b""
    try:
        if path != "-":
            return read(path)
        start = sys.stdin.buffer.read(reports.LIMIT_BYTES + 1)
        return reports.load(start)
    except (click.UsageError, reports.BadReport) as error:
        from gpudoctor.fleet import reading

        stdin = reading.in_stream(start, sys.stdin.buffer, "stdin")
        pieces = stdin if path == "-" else _pieces([path])
        first = list(itertools.islice(pieces, 2))
        if len(first) > 1:
            return itertools.chain(first, pieces)
        with contextlib.suppress(reports.BadReport):
            return reports.load(first[0].raw)  # it was packed
        raise click.UsageError(str(error)) from None


def _fleet(
    pieces: Iterable["Piece"],
    expect_nodes: str | None,
    inventory: str | None,
    redactor: "Redactor | None",
) -> "Fleet":
    from gpudoctor import fleet

    try:
        expected = fleet.inventory(inventory) if inventory else None
        named = fleet.expected_nodes(expect_nodes) if expect_nodes else None
    except fleet.BadInventory as error:
        raise click.UsageError(str(error)) from None
    if expected and named:
        expected = fleet.Expected({n: expected.places.get(n, {}) for n in named.names})
    return fleet.gather(pieces, expected=expected or named, redactor=redactor)
