"""`gpudoctor explain`: the documentation of a check, or the causes of an error message."""

import sys
from collections.abc import Sequence

import click

from gpudoctor import Check, catalogue, run
from gpudoctor.check import LAUNCH
from gpudoctor.cli import options


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

    With --message: which checks find the cause of an error. Exit code 1 if none does.
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
    causes = catalogue.causes(checks, message)
    if not causes:
        click.echo("No check knows this message.")
        sys.exit(1)
    click.echo("This can come from:\n")
    for check, words in causes:
        click.echo(f"  {check.id:20} unless: {check.title}\n{'':23}matches: {words[:100]}")
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
