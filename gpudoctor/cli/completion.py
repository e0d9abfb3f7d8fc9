"""`gpudoctor completion`: the script that makes a shell complete our words."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Add it to the shell's start-up file: `eval "$(gpudoctor completion bash)"`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "gpudoctor", "_GPUDOCTOR_COMPLETE").source())
