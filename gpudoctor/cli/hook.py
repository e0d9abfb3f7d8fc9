"""`gpudoctor hook`: print an integration, or prove it on this machine."""

import os
import shutil
import sys

import click

from gpudoctor import hooks


@click.command("hook")
@click.argument("kind", required=False, type=click.Choice(list(hooks.KINDS)), metavar="[KIND]")
@click.option("--verify", is_flag=True, help="Prove on this machine that it works.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
def command(kind: str | None, verify: bool, words: tuple[str, ...]) -> None:
    """Print what makes a host run gpudoctor at the right moment; without KIND: which there are.

    CMD is what the job starts. Nothing is written anywhere: redirect it to where it belongs.
    With --verify, exit codes are 0 it works, 1 it does not, 3 nothing could be proved here.
    """
    if kind is None:
        for name, hook in hooks.KINDS.items():
            click.echo(f"{name:18} {hook.about}\n{'':18} gpudoctor hook {name} >{hook.where}")
    elif verify:
        from gpudoctor.cli import proofs

        sys.exit(proofs.prove(kind, _program(), words))
    else:
        program = "gpudoctor" if hooks.KINDS[kind].inside else _program()
        click.echo(hooks.text(kind, program, words), nl=False)


def _program() -> str:
    """Where this very gpudoctor is found: a hook's PATH is seldom the user's."""
    for path in (sys.argv[0], os.path.join(os.path.dirname(sys.executable), "gpudoctor")):
        if os.path.basename(path) == "gpudoctor" and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return shutil.which("gpudoctor") or "gpudoctor"
