"""`gpudoctor check`: look, judge, print, exit."""

import contextlib
import sys
from typing import Any

import click

from gpudoctor import registry, run, snapshot
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import Outputs, Progress, Reporting, say
from gpudoctor.report import Report


@click.command("check", cls=Reporting)
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=options.complete_ids)
@options.choosing
@options.looking
@options.clustering
@options.option(
    "--facts", "facts_file", metavar="FILE", help="Judge facts from a file; - is stdin."
)
@options.option(
    "--deadline", type=click.FloatRange(0.1), metavar="S", help="For all; default 30, deep 600."
)
@options.reporting
@click.option("--dry-run", is_flag=True, help="Only print whom it would contact.")
def command(
    ids: tuple[str, ...],
    facts_file: str | None,
    deadline: float | None,
    format_: str | None,
    output: tuple[str, ...],
    redact: str | None,
    strict: bool,
    quiet: int,
    verbose: int,
    dry_run: bool,
    cluster: bool,
    share: str | None,
    wait: float | None,
    meet_port: int | None,
    code: str | None,
    **shared: Any,
) -> None:
    """Look at this machine and say what will break a training job.

    IDs are checks or topics: `gpudoctor check shm-size limits`. Without any: all.
    """
    given = options.Given(**shared)
    settings = options.settings_from(given.config_file)
    files = (*settings.output, *output)
    outputs = Outputs(format_ or "text", files, verbose - quiet, redact=redact)
    if cluster:
        from gpudoctor.cli.cluster import Meeting, check  # only then: it loads a lot

        if facts_file or given.root != "/":
            raise click.UsageError("--cluster looks at live machines: no --facts, no --root")
        meeting = Meeting(share, wait, meet_port, code)
        check(given, settings, ids, meeting, outputs, deadline, strict=strict, dry_run=dry_run)
    if facts_file:
        request = options.request(given, settings, ids, deadline=deadline, strict=strict)
        _finish(run.judge_again(request, _facts(facts_file, request.catalogue)), outputs)
    machine = options.machine_of(given, settings)
    if dry_run:
        request = options.request(given, settings, ids, deadline=deadline, strict=strict)
        for line in run.contacts(request, machine):
            click.echo(line)
        sys.exit(0)
    with catching() as interrupt, contextlib.ExitStack() as started:
        ahead, observer = None, outputs.stream()
        if not ids and options.is_plain(given, settings):
            seconds = options.deadline_of(deadline, settings, deep=given.deep)
            ahead = started.enter_context(run.look_ahead(machine, seconds, observer))
        request = options.request(given, settings, ids, deadline=deadline, strict=strict)
        with Progress() as progress:
            report = run.examine(
                request,
                machine,
                ahead=ahead,
                stopped=interrupt,
                progress=progress,
                observer=observer,
            )
        if interrupt():
            say("interrupted: what was seen until then follows")
            outputs.write(report)
            sys.exit(128 + interrupt.signal)
    _finish(report, outputs)


def _finish(report: Report, outputs: Outputs) -> None:
    sys.exit(outputs.exit_code(report) if outputs.write(report) else 3)


def _facts(path: str, catalogue: registry.Catalogue) -> list[snapshot.Snapshot]:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(snapshot.LIMIT_BYTES + 1)
        else:
            with open(path, "rb") as file:
                raw = file.read(snapshot.LIMIT_BYTES + 1)
        return snapshot.load(raw, catalogue.kinds)
    except OSError as error:
        raise click.UsageError(f"--facts {path}: {error.strerror}") from None
    except snapshot.BadFacts as error:
        raise click.UsageError(f"--facts {path}: {error}") from None
