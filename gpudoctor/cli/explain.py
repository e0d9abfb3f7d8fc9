"""`gpudoctor explain`: the documentation of a check, or the causes of an error message."""

import io
import sys
from collections.abc import Sequence

import click

from gpudoctor import Check, catalogue, run
from gpudoctor.check import LAUNCH
from gpudoctor.cli import options
from gpudoctor.cli.triage import launcher_here
from gpudoctor.triage.conclude import conclude
from gpudoctor.triage.document import Sighting
from gpudoctor.triage.look import UNKNOWN, Story
from gpudoctor.triage.reading import Source
from gpudoctor.triage.rule import builtin


@click.command("explain")
@click.argument("check_id", required=False, metavar="[ID]", shell_complete=options.complete_ids)
@click.option("--message", metavar="TEXT", help="An error message; - reads it from stdin.")
@options.own
def command(
    check_id: str | None,
    message: str | None,
    checks_dirs: tuple[str, ...],
    config_file: str | None,
) -> None:
    """What a check looks at, what breaks later, who must act.

    With --message: what an error means, its way out, and which checks find its cause. Exit code 1
    if nothing here knows it.
    """
    if (check_id is None) == (message is None):
        raise click.UsageError("name one check, or give an error with --message")
    found, _ = options.catalogue_and_config(config_file, checks_dirs)
    if message is not None:
        _explain_message(found.checks, sys.stdin.read() if message == "-" else message)
        return
    try:
        checks = run.select(found, (check_id or "",))
    except run.NoSuchCheck as error:
        raise click.UsageError(str(error)) from None
    click.echo("\n".join(catalogue.explain(check) for check in checks), nl=False)


def _explain_message(checks: Sequence[Check], message: str) -> None:
    told = _told(message)
    for one in told:
        click.echo("\n".join(_lines(one)) + "\n")
    known = {name for one in told for name in one.checks}
    causes = [(check, "") for check in checks if check.id in known]
    causes += [pair for pair in catalogue.causes(checks, message) if pair[0].id not in known]
    if not causes:
        if not told:
            click.echo("No check knows this message.")
        sys.exit(not told)
    click.echo("This can come from:\n")
    for check, words in causes:
        click.echo(f"  {check.id:20} unless: {check.title}")
        if words:
            click.echo(f"{'':23}matches: {words[:100]}")
    several = [check for check, _ in causes if catalogue.of_several(check)]
    ids = [check.id for check, _ in causes if check.topic != LAUNCH and check not in several]
    if ids or not several:
        click.echo(
            f"\nLook now: gpudoctor {' '.join(['check', *ids] if ids else ['lint', 'FILE'])}"
        )
    if several:
        flags = max(map(catalogue.of_several, several), key=len)
        words = " ".join(check.id for check in several)
        click.echo(f"\nOn every node of the job: gpudoctor check {flags} {words}")


def _told(message: str) -> list[Sighting]:
    """What the rules of `triage` know of it, what happened first coming first."""
    story = Story(builtin())
    text = io.BytesIO(message.encode("utf-8", "replace"))
    story.read([Source("message", lambda: io.BufferedReader(text))])
    found = conclude(story, here=launcher_here)
    told = [one for one in (found.first, *found.others, *found.notes) if one]
    return [one for one in told if one.rule != UNKNOWN.id]


def _lines(one: Sighting) -> list[str]:
    lines = [f"{one.means} ({one.rule})"]
    lines += [f"  Why: {one.why}"] if one.why else []
    for fix in one.fixes:
        lines += [f"  Fix: {fix.text}".rstrip()]
        lines += [f"    {line}" for command in fix.commands for line in command.split("\n")]
    return lines
