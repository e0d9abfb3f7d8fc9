"""`gpudoctor exec`: check, then become the command.

With the default policy the command notices nothing but a bounded delay: it keeps the PID,
stdin, stdout, environment, limits, open descriptors, signal dispositions and exit code. What
we have to say goes to stderr, and nothing that goes wrong in here keeps it from starting. Nobody
is contacted but the MASTER_ADDR that the job names.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, get_args

import click
from msgspec.structs import replace

from gpudoctor import run
from gpudoctor.become import become
from gpudoctor.cli import once, options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import Outputs, render, say
from gpudoctor.finding import Owner, Status
from gpudoctor.report import Page, Report

USAGE = 125  # as env(1) and timeout(1)
FIX_LAUNCH = 78  # EX_CONFIG: starting the same thing again is pointless
OTHER_NODE = 75  # EX_TEMPFAIL: another node may not have this fault
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
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
@options.option(
    "--block-owner",
    "blockers",
    multiple=True,
    type=click.Choice(get_args(Owner)),
    help="With block: only what these must mend. Repeatable; all when left out.",
)
@options.option("--deadline", type=click.FloatRange(0.1), default=8.0, help="Seconds; default 8.")
@options.option("--strict", is_flag=True, help="With block: no verdict blocks too.")
@options.option(
    "--reuse",
    type=click.FloatRange(0),
    default=0.0,
    metavar="S",
    help="Do not check again S seconds after a clean check; default 0: always check.",
)
@options.choosing
@options.looking
@options.option("-o", "--output", multiple=True, metavar="FORMAT=PATH", help="Also write a file.")
@options.redaction
@options.option("-q", "--quiet", is_flag=True, help="Say nothing when all is well.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def command(
    policy: str,
    blockers: tuple[str, ...],
    deadline: float,
    strict: bool,
    reuse: float,
    output: tuple[str, ...],
    redact: str | None,
    quiet: bool,
    words: tuple[str, ...],
    **shared: Any,
) -> None:
    """Check, say what was found on stderr, then become CMD.

    How many ranks there will be, CMD itself says: torchrun --nproc-per-node 8.
    Of several ranks on a node the first one checks; with block, the others wait for its verdict.
    It contacts nobody but the MASTER_ADDR that the job names.

    Exit codes are those of CMD, but: 75 and 78 blocked (75: another node may do, 78: the
    launch must change), 125 wrong usage, 126 and 127 CMD cannot be started.
    """
    rank = once.local_rank(os.environ)
    disabled = os.environ.get("GPUDOCTOR_DISABLE", "0") not in ("", "0")
    if policy == "off" or disabled or (policy == "report" and rank):
        become(words)
    since = once.now()

    def look() -> once.Verdict:
        from gpudoctor.lint.job import job_of

        given, job = options.Given(**shared), job_of(words)
        given = replace(
            given,
            nproc_per_node=given.nproc_per_node or job.ranks,
            nnodes=given.nnodes or job.nodes,
        )
        settings = options.settings_from(given.config_file)
        request = options.request(given, settings, deadline=deadline, strict=strict)
        machine = options.machine_of(given, settings)
        machine.env = {**machine.env, **job.variables}  # as its ranks will find them
        report = run.examine(request, machine, stopped=interrupt)
        if not interrupt():
            try:
                _tell(report, quiet)
                if output:
                    Outputs("text", output, -2, redact=redact).write(report)
            except click.UsageError as error:
                say(error.format_message())
            except Exception as error:  # the verdict holds all the same
                say(f"no report: {type(error).__name__}: {error}")
        code = _blocks(report, blockers) if policy == "block" else 0
        return once.Verdict(code, clean=_is_clean(report) and report.run.complete)

    def verdict() -> int:
        if not reuse and (policy != "block" or rank is None):
            return look().code
        until = time.monotonic() + deadline + 0.5
        found, known = once.shared(
            look, sys.argv, since=since, reuse=reuse, until=until, stopped=interrupt
        )
        if known and found.when < since and not quiet:
            say(f"all was well {since - found.when:.0f} s ago, not checked again")
        return found.code

    with catching(_ENDING) as interrupt:
        with _watch(deadline + 1.0):
            try:
                code = verdict()
            except click.UsageError as error:
                code = _excuse(error.format_message(), strict)
            except (Exception, _Late) as error:  # wrong in here: the job is not to blame
                code = _excuse(f"{type(error).__name__}: {error}", strict)
            if code and not interrupt():
                _say(f"{words[0]} was not started (exit code {code})")
        if interrupt():
            _die_of(interrupt.signal)
        if code:
            sys.exit(code)
        become(words)


def _is_clean(report: Report) -> bool:
    return report.status in (Status.PASS, Status.SKIP)


def _tell(report: Report, quiet: bool) -> None:
    """Say what was found."""
    if not _is_clean(report):
        text = render(report, "text", Page(verbosity=-1, unicode=False))
        with contextlib.suppress(OSError, ValueError):  # nobody reads it
            click.echo(text, err=True, nl=False)
    elif not quiet:
        counts = report.counts
        say(f"{counts['pass']} ok, {counts['skip']} not checked, {report.run.seconds:.2f} s")


def _blocks(report: Report, blockers: tuple[str, ...]) -> int:
    """The exit code if what was found keeps the command from starting, else 0."""
    failed = {r.owner for r in report.results if r.status is Status.FAIL and not r.ignored}
    if blockers:
        failed &= set(blockers)
    if failed:
        return FIX_LAUNCH if failed & _OURS else OTHER_NODE
    unknown = report.status in (Status.ERROR, Status.SKIP)
    return OTHER_NODE if report.run.strict and unknown else 0


def _excuse(why: str, strict: bool) -> int:
    _say(f"not checked: {why}")
    return USAGE if strict else 0


def _say(text: str) -> None:
    """A remark, unless nobody takes it."""
    with contextlib.suppress(_Late):
        say(text)


class _Late(BaseException):
    """Time is up; no `except Exception` on the way may take it for something else."""


@contextlib.contextmanager
def _watch(seconds: float) -> Iterator[None]:
    """Raise after so many seconds, should something that cannot hang do so all the same."""

    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise _Late("no end in sight")

    # The command may have been given an alarm by whoever starts it: that goes on.
    started, before = time.monotonic(), signal.signal(signal.SIGALRM, late)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            left = max(0.001, left - (time.monotonic() - started))
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _die_of(number: int) -> NoReturn:
    """End as the signal would have ended the command."""
    say(f"stopped by {signal.Signals(number).name} before the command was started")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # PID 1 does not die of it
