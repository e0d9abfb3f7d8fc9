"""`gpudoctor triage`: what logs say went wrong first."""

import sys
from collections.abc import Sequence

import click
from msgspec.structs import replace

from gpudoctor import config, run
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import Interrupt, catching
from gpudoctor.cli.output import Outputs, Progress, say
from gpudoctor.launch import LAUNCHERS
from gpudoctor.probes import Machine
from gpudoctor.report import Report
from gpudoctor.triage.conclude import conclude
from gpudoctor.triage.look import Story
from gpudoctor.triage.reading import sources
from gpudoctor.triage.rule import builtin
from gpudoctor.triage.share import shared
from gpudoctor.units import size


@click.command("triage")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@options.option(
    "--for", "launcher", type=click.Choice(LAUNCHERS), help="Whose words; default: the log's."
)
@options.option("--check", "check_now", is_flag=True, help="Also run the checks that it names.")
@options.own
@options.option("-f", "--format", "format_", metavar="FORMAT", help="text (default), json.")
@options.option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file.")
@options.redaction
@options.option("-q", "--quiet", count=True, help="What came first only; twice: nothing.")
@options.option("-v", "--verbose", count=True, help="Everything, in full.")
def command(
    logs: tuple[str, ...],
    launcher: str | None,
    check_now: bool,
    checks_dirs: tuple[str, ...],
    config_file: str | None,
    format_: str | None,
    output: tuple[str, ...],
    redact: str | None,
    quiet: int,
    verbose: int,
) -> None:
    """Find in logs what went wrong first, and say how to mend it.

    LOG is a file, packed or not; a directory of them, as torchrun's --log-dir; - is stdin, as in
    `docker logs NAME 2>&1 | gpudoctor triage -`.

    Exit codes: 0 nothing was found, 1 something was, 2 wrong usage or no log could be read,
    130 and 143 interrupted.
    """
    outputs = Outputs(format_ or "text", output, verbose - quiet, of="triage.", redact=redact)
    story = Story(builtin())
    with catching() as interrupt, Progress() as progress:
        story.read(
            sources(logs),
            progress=lambda name, done: progress([f"{name}, {size(done)}"]),
            stopped=interrupt,
        )
        found = conclude(story, launcher or "", launcher_here)
        if check_now and found.checks and not interrupt():
            settings = options.settings_from(config_file)
            report = _checked(found.checks, settings, checks_dirs, interrupt, progress)
            found = replace(found, report=report)
    if not found.logs:
        say(f"{' '.join(logs)}: no logs there")
    for log in found.logs:
        if log.reason:
            say(f"{log.name}: {log.reason}")
    if not interrupt() and not any(log.bytes or not log.reason for log in found.logs):
        sys.exit(2)
    if redact != "none" and (redact or output or format_ not in (None, "text")):
        found = shared(found, outputs.redactor())
    done = outputs.write(found)
    sys.exit(128 + interrupt.signal if interrupt() else found.exit_code if done else 2)


def launcher_here() -> str:
    """Whose words fixes are in where the logs do not tell: those of the place where we are."""
    from gpudoctor.facts.container import Container
    from gpudoctor.probes.container import container  # only then

    fact = container.look(Machine("/"))
    return fact.launcher if isinstance(fact, Container) else "host"


def _checked(
    ids: Sequence[str],
    settings: config.Config,
    checks_dirs: tuple[str, ...],
    interrupt: Interrupt,
    progress: Progress,
) -> Report | None:
    """The report of those of the checks that look at one machine; None: there are none."""
    from gpudoctor import registry

    catalogue = registry.load((*settings.checks, *checks_dirs))
    chosen = tuple(check for check in catalogue.checks if check.id in ids)
    if not chosen:
        return None
    request = run.Request(checks=chosen, catalogue=catalogue, config=settings, named=True)
    return run.examine(request, Machine("/"), stopped=interrupt, progress=progress)
