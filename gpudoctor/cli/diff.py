"""`gpudoctor diff`: what changed between two runs, or differs between two nodes."""

import os
import sys

import click
from msgspec.structs import replace

from gpudoctor import diff, registry, run, snapshot
from gpudoctor import report as reports
from gpudoctor.check import LAUNCH
from gpudoctor.cli import options
from gpudoctor.cli.output import Outputs
from gpudoctor.report import Report


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@options.option("--node", metavar="NAME", help="Of reports of several nodes, only this one.")
@options.own
@click.option("-f", "--format", "format_", metavar="FORMAT", help="text (default), json, html.")
@click.option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file.")
@options.redaction
@options.option("-q", "--quiet", count=True, help="Less; twice: nothing but the exit code.")
@options.option("-v", "--verbose", count=True, help="Every change, in full.")
def command(
    before: str,
    after: str,
    node: str | None,
    checks_dirs: tuple[str, ...],
    config_file: str | None,
    format_: str | None,
    output: tuple[str, ...],
    redact: str | None,
    quiet: int,
    verbose: int,
) -> None:
    """Tell what changed from A to B: findings that are worse or better, and facts.

    A and B are what `check -f json` or `collect` wrote; - is stdin. FILE:NODE takes one node of
    a report of several. What changes by itself, such as times and counters, is left out.

    Exit codes, as of diff(1): 0 nothing changed, 1 something did, 2 trouble.
    """
    outputs = Outputs(format_ or "text", output, verbose - quiet, of="diff.", redact=redact)
    settings = options.settings_from(config_file)
    catalogue = registry.load((*settings.checks, *checks_dirs), launch=True)
    checks = tuple(check for check in catalogue.checks if check.topic != LAUNCH)
    request = run.Request(checks=checks, catalogue=catalogue, config=settings)
    named = [_named(words, node) for words in (before, after)]
    if [file for file, _ in named] == ["-", "-"]:
        raise click.UsageError("only one of the two can come from stdin")
    sides = [_side(file, name, request) for file, name in named]
    if redact != "none" and (redact or output or format_ not in (None, "text")):
        sides = [_redacted(side, outputs) for side in sides]
    kinds = [*snapshot.builtin_kinds(), *catalogue.kinds]
    difference = diff.compare(
        *sides,
        needs={
            check.id: [snapshot.name_of(need.kind) for need in check.needs.values()]
            for check in catalogue.checks
        },
        kinds={snapshot.name_of(kind): kind for kind in kinds},
    )
    done = outputs.write(difference)
    sys.exit(2 if not done else 0 if difference.same else 1)


def _named(words: str, node: str | None) -> tuple[str, str | None]:
    """The file, and the node of it that is meant: FILE:NODE, unless a file is called just so."""
    file, colon, name = words.rpartition(":")
    if words == "-" or not colon or not name or os.path.exists(words):
        return words, node
    while file != "-" and not os.path.exists(file) and ":" in file:  # in a node's name
        file, _, more = file.rpartition(":")
        name = f"{more}:{name}"
    return (file, name) if file == "-" or os.path.exists(file) else (words, node)


def _side(file: str, name: str | None, request: run.Request) -> diff.Given:
    report = _read(file, request)
    nodes = [node for node in report.nodes if name in (None, node.name)]
    names = ", ".join(node.name for node in report.nodes[:10]) or "none"
    if not nodes:
        raise click.UsageError(f"{file}: has no node {name!r}; it has: {names}")
    if len(nodes) > 1 and name is None:
        raise click.UsageError(f"{file}: name one of its nodes, {file}:NODE; it has: {names}")
    return diff.Given(file, report, nodes[0])


def _redacted(side: diff.Given, outputs: Outputs) -> diff.Given:
    """The same node, as it may leave; a name that both sides have gets one stand-in."""
    redactor = outputs.redactor()
    report = redactor.report(side.report)
    return diff.Given(
        redactor.text(side.file), report, report.nodes[side.report.nodes.index(side.node)]
    )


def _read(file: str, request: run.Request) -> Report:
    """The report; facts are judged now, by this version."""
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(snapshot.LIMIT_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                raw = opened.read(snapshot.LIMIT_BYTES + 1)
        if not snapshot.is_of_facts(raw):
            return reports.load(raw)
        report = run.judge_again(request, snapshot.load(raw, request.catalogue.kinds))
        return replace(report, run=replace(report.run, started=""))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except (reports.BadReport, snapshot.BadFacts) as error:
        raise click.UsageError(f"{file}: {error}") from None
