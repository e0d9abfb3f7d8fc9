"""`gpudoctor exec`: check, then become the command.

With the default policy the command notices nothing but a bounded delay: it keeps the PID,
stdin, stdout, environment, limits, open descriptors, signal dispositions and exit code. What
we have to say goes to stderr, and nothing that goes wrong in here keeps it from starting.
"""

import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from gpudoctor import run
from gpudoctor.cli import options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import Outputs, render, say
from gpudoctor.finding import Status
from gpudoctor.report import Page, Report

USAGE, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127  # as env(1) and timeout(1)
FIX_LAUNCH = 78  # EX_CONFIG: starting the same thing again is pointless
OTHER_NODE = 75  # EX_TEMPFAIL: another node may not have this fault
_OURS: frozenset[str] = frozenset({"job", "image", "launch"})


class _WrongUsage(click.UsageError):
    """Not 2, which could be taken for an exit code of the command."""

    exit_code = USAGE


class _Command(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _WrongUsage(error.format_message(), ctx) from None


@click.command("exec", cls=_Command, context_settings={"allow_interspersed_args": False})
@options.option(
    "--policy",
    type=click.Choice(["report", "block", "off"]),
    default="report",
    help="report (default): say and start; block: do not start after a fail; off: just start.",
)
@options.option("--deadline", type=click.FloatRange(0.1), default=8.0, help="Seconds; default 8.")
@options.option("--strict", is_flag=True, help="With block: no verdict blocks too.")
@options.choosing
@options.looking
@options.option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def command(
    policy: str,
    deadline: float,
    strict: bool,
    output: tuple[str, ...],
    words: tuple[str, ...],
    **shared: Any,
) -> None:
    """Check, say what was found on stderr, then become CMD.

    Exit codes are those of CMD, but: 75 and 78 blocked (75: another node may do, 78: the
    launch must change), 125 wrong usage, 126 and 127 CMD cannot be started.
    """
    if policy == "off" or os.environ.get("GPUDOCTOR_DISABLE", "0") not in ("", "0"):
        become(words)
    try:
        with catching() as interrupt:
            _watch(deadline + 1.0)
            given = options.Given(**shared)
            settings = options.settings_from(given.config_file)
            request = options.request(given, settings, deadline=deadline, strict=strict)
            machine = options.machine_of(given, settings)
            report = run.examine(request, machine, stopped=interrupt)
            _watch(0)
        if interrupt():
            _die_of(interrupt.signal)
        code = _tell(report, output, policy)
    except click.UsageError as error:
        code = _excuse(f"not checked: {error.format_message()}", strict)
    except Exception as error:  # whatever is wrong in here, the job is not to blame
        code = _excuse(f"not checked: {type(error).__name__}: {error}", strict)
    if code:
        say(f"{words[0]} was not started (exit code {code})")
        sys.exit(code)
    become(words)


def _tell(report: Report, output: tuple[str, ...], policy: str) -> int:
    """Say what was found; the exit code if that blocks, else 0."""
    if report.status in (Status.PASS, Status.SKIP):
        counts = report.counts
        say(f"{counts['pass']} ok, {counts['skip']} not checked, {report.run.seconds:.2f} s")
    else:
        text = render(report, "text", Page(verbosity=-1, unicode=False))
        click.echo(text, err=True, nl=False)
    if output:
        Outputs("text", output, -2).write(report)
    if policy == "block":
        failed = {r.owner for r in report.results if r.status is Status.FAIL and not r.ignored}
        if failed:
            return FIX_LAUNCH if failed & _OURS else OTHER_NODE
        if report.run.strict and report.exit_code:
            return OTHER_NODE
    return 0


def _excuse(text: str, strict: bool) -> int:
    _watch(0)
    say(text)
    return USAGE if strict else 0


def _watch(seconds: float) -> None:
    """Raise after so many seconds, should something that cannot hang do so all the same."""

    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError("no end in sight")

    signal.signal(signal.SIGALRM, late if seconds else signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _die_of(number: int) -> NoReturn:
    """End as the signal would have ended the command."""
    say(f"stopped by {signal.Signals(number).name} before the command was started")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # PID 1 does not die of it


def become(words: tuple[str, ...]) -> NoReturn:
    """Replace this process by the command, in the environment that we were started in."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; nobody else does
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, _environment())
    except FileNotFoundError:
        say(f"{words[0]}: command not found")
        sys.exit(NOT_FOUND)
    except OSError as error:
        say(f"{words[0]}: {error.strerror}")
        sys.exit(NOT_EXECUTABLE)


def _environment() -> dict[bytes, bytes]:
    """The environment as the kernel handed it over: Python may have added LC_CTYPE."""
    try:
        with open("/proc/self/environ", "rb") as file:
            raw = file.read()
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs} or dict(os.environb)
