"""The command line; the only code that prints and exits. One module per command."""

import gc

gc.disable()  # we are done in a tenth of a second; collecting costs a tenth of that

import contextlib  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

import click  # noqa: E402

import gpudoctor  # noqa: E402

_COMMANDS = {
    "check": "Look at this machine and say what will break a training job",
    "collect": "Write this machine's facts to a file, to be judged elsewhere",
    "completion": "Print the completion script of a shell",
    "diff": "What changed between two runs, or differs between two nodes",
    "exec": "Check, then become a command: the entrypoint of a container",
    "explain": "What a check looks at, what breaks later, how to put it right",
    "fix": "The plan of a report: a command, a patch, a script; never applied",
    "hook": "Print what makes docker, Kubernetes, Slurm, ... run gpudoctor; prove it here",
    "lint": "Judge launch files before they run, and correct them",
    "list": "All checks, profiles or formats; the JSON schema",
    "report": "Show again what a run wrote, in any format, or with less in it",
    "shm": "How much shared memory a job needs; measure a running one",
    "triage": "What a log says went wrong first, and how to mend it",
    "watch": "During training: speak when something goes wrong",
}


class _Commands(click.Group):
    """Loads a command's module only when it is asked for; without a command, checks."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"gpudoctor.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"-h", "--help", "--version"}
        bare = not args or (args[0].startswith("-") and args[0] not in own)
        if bare and not ctx.resilient_parsing:  # not while a shell completes our words
            args = ["check", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gpudoctor.__version__, prog_name="gpudoctor")
def cli() -> None:
    """What will break a GPU training job, before it starts.

    Without a command: check. Exit codes of check: 0 nothing failed, 1 something failed,
    2 wrong usage or configuration, 3 no verdict, 130 and 143 interrupted.
    """


def main() -> NoReturn:
    """The console script."""
    _keep_standard_streams()
    code: object = 0
    try:
        cli.main(prog_name="gpudoctor")
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # Python would take 5 ms to take itself apart.
    os._exit(code if isinstance(code, int) else int(code is not None))


def _keep_standard_streams() -> None:
    """Nothing of ours may get the number of a standard stream that the caller has closed.

    What stands in for it is closed on exec, so a command that we become finds it closed.
    """
    try:
        while True:
            descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            if descriptor > 2:
                os.close(descriptor)
                break
    except OSError:
        return  # no /dev/null: then nothing can be done
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
