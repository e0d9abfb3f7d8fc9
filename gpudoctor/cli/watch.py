"""`gpudoctor watch`: during training, speak when something goes wrong."""

import contextlib
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from gpudoctor.cli import options
from gpudoctor.cli.interrupt import catching
from gpudoctor.cli.output import say
from gpudoctor.facts.gpus import Gpu
from gpudoctor.probes import Machine, rdma, signs
from gpudoctor.probes.gpu_path import why_unreadable
from gpudoctor.probes.watched.gpus import GpusSource
from gpudoctor.probes.watched.job import JobSource
from gpudoctor.probes.watched.kernel import KernelSource
from gpudoctor.probes.watched.links import NetworkSource, RdmaSource
from gpudoctor.probes.watched.logs import NOT_THERE, LogsSource
from gpudoctor.probes.watched.places import PlacesSource
from gpudoctor.probes.watched.staying import Staying
from gpudoctor.redact import cut_secrets
from gpudoctor.sheet import clean
from gpudoctor.units import count_of, size
from gpudoctor.watch.event import Event
from gpudoctor.watch.look import Job, Link, Logs, Look, Port, Space
from gpudoctor.watch.loop import FIRST, GATHER, Ended, Loop
from gpudoctor.watch.watch import PATIENCE, Watch

SCHEMA = "gpudoctor.watch/1"
LEAST = 0.05  # seconds between looks
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FACTORS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# Why it ended, in words.
_ENDS = {
    "interrupted": "stopped",
    "time": "the time is up",
    "processes": "the processes have ended",
}


def parse_seconds(text: str) -> float:
    """Seconds of "10s", "2m", "1.5h", "0.5".

    Raises:
        ValueError: it is no such thing.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a time such as 10s, 2m or 1.5h")
    return float(match[1]) * _FACTORS[match[2]]


def _seconds(context: click.Context, parameter: click.Parameter, given: str | None) -> float | None:
    try:
        return None if given is None else max(LEAST, parse_seconds(given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _pids(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[int, ...]:
    words = [word for text in given for word in re.split(r"[,\s]+", text) if word]
    for word in words:
        if not word.isdigit() or not os.path.exists(f"/proc/{word}/stat"):
            raise click.BadParameter(f"there is no process {word}")
    return tuple(map(int, words))


def _pattern(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    try:
        re.compile(given or "")
    except re.error as error:
        raise click.BadParameter(f"{given!r} is no regular expression: {error}") from None
    return given


@click.command("watch")
@options.option("--every", default="10s", callback=_seconds, metavar="T", help="Default 10s.")
@options.option(
    "--for",
    "seconds",
    envvar="GPUDOCTOR_WATCH_FOR",  # --for of other commands names a launcher
    callback=_seconds,
    metavar="T",
    help="Then stop: 30s, 8h.",
)
@options.option("--pid", multiple=True, callback=_pids, metavar="PID,...", help="Of the job.")
@options.option("--match", callback=_pattern, metavar="REGEX", help="Of the job's command lines.")
@options.option("--log", multiple=True, metavar="FILE", help="Follow it; it may come later.")
@options.option("--checkpoint-dir", multiple=True, metavar="DIR", help="Its space is watched.")
@options.option(
    "--patience",
    default=f"{PATIENCE:g}s",
    callback=_seconds,
    metavar="T",
    help="How long a GPU or rank may be idle; default 5m.",
)
@click.option(
    "-f", "--format", "format_", type=click.Choice(("text", "json")), default="text", help="text."
)
def command(
    every: float,
    seconds: float | None,
    pid: tuple[int, ...],
    match: str | None,
    log: tuple[str, ...],
    checkpoint_dir: tuple[str, ...],
    patience: float,
    format_: str,
) -> None:
    """Look at a machine that trains, every 10 s, and say what goes wrong; else nothing.

    Watched are /dev/shm, the memory limit, GPUs, the kernel's log, network and RDMA counters and
    the clock; and what is named: processes, logs, directories for checkpoints. It ends with
    Ctrl-C, after --for, or when all processes that were named have ended.

    Exit codes: 0 nothing failed (warnings allowed), 1 something failed, 2 wrong usage,
    3 nothing could be watched, or something no longer at the end. A signal changes none of them.
    """
    gc.enable()  # the others end in a moment; this may run for weeks
    voice = _Text() if format_ == "text" else _Json()
    with catching(ENDS) as interrupt, _woken() as woken:
        loop = _loop(woken, pid, match or "", log, checkpoint_dir)
        try:
            look = loop.first(interrupt)
            watched, unseen = [*_watched(look, log)], {**loop.unseen, **look.gaps}
            if match and look.job and not look.job.processes:
                unseen["processes"] = f"none matches {match!r} yet"
            unread = look.logs.unread if look.logs else {}
            for path, why in unread.items():
                if why != NOT_THERE:
                    raise click.UsageError(f"--log {path} cannot be read: {why}")
            unseen |= unread
            if not watched:
                say(f"nothing can be watched: {_why(unseen)}")
                sys.exit(3)
            voice.start(every, watched, unseen)
            watch = Watch(patience)
            ended = loop.run(
                watch, look, voice.tell, every=every, seconds=seconds, stopped=interrupt
            )
        finally:
            loop.end()
    code = 1 if watch.failed else 3 if ended.blind else 0
    voice.end(ended, watch, code)
    sys.exit(code)


class _Text:
    """For people: events on stdout, the rest on stderr."""

    def start(self, every: float, watched: list[str], unseen: dict[str, str]) -> None:
        without = f"; not {_why(unseen)}" if unseen else ""
        say(clean(f"watching every {every:g} s: {', '.join(watched)}{without}"))

    def tell(self, event: Event) -> bool:
        return _out(clean(cut_secrets(event.line())))

    def end(self, ended: Ended, watch: Watch, code: int) -> None:
        told = "something failed" if watch.failed else "nothing failed"
        most = watch.course.marks.get("shm /dev/shm")
        shm = "" if most is None else f", /dev/shm was {100 * most:.0f} % full at most"
        say(f"{_ENDS[ended.why]} after {count_of(ended.looks, 'look')}: {told}{shm}")


class _Json:
    """For programs: one document in a line."""

    def start(self, every: float, watched: list[str], unseen: dict[str, str]) -> None:
        self._say(schema=SCHEMA, event="start", every=every, watched=watched, unseen=unseen)

    def tell(self, event: Event) -> bool:
        return self._say(**event.data())

    def end(self, ended: Ended, watch: Watch, code: int) -> None:
        self._say(event="end", why=ended.why, looks=ended.looks, exit_code=code)

    def _say(self, **told: Any) -> bool:
        cut = {
            key: cut_secrets(value) if isinstance(value, str) else value
            for key, value in told.items()
        }
        return _out(json.dumps(cut))


def _out(line: str) -> bool:
    """Print a line at once; False if nobody listens any more."""
    if sys.stdout is None:  # it was closed when we started
        return False
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.buffer.write(f"{line}\n".encode(encoding, "backslashreplace"))
        sys.stdout.buffer.flush()
    except OSError:
        return False
    return True


def _loop(
    woken: int, pids: tuple[int, ...], match: str, logs: tuple[str, ...], places: tuple[str, ...]
) -> Loop:
    """All sources, each begun in a child of its own."""
    machine = Machine()
    sources = [
        Staying("job", partial(JobSource, machine, pids, match), Job, GATHER),
        Staying("network", partial(NetworkSource, machine), tuple[Link, ...], GATHER),
    ]
    no_gpu, no_rdma = signs.no_gpu(machine), rdma.nothing(machine)
    if not no_gpu:
        sources.append(Staying("gpus", partial(GpusSource, machine), tuple[Gpu, ...], FIRST))
    if not no_rdma:
        sources.append(Staying("rdma", partial(RdmaSource, machine), tuple[Port, ...], GATHER))
    if places:
        sources.append(Staying("places", partial(PlacesSource, places), tuple[Space, ...], GATHER))
    if logs:
        sources.append(Staying("logs", partial(LogsSource, logs), Logs, GATHER))
    gc.freeze()  # what is here by now is shared with the children as long as nobody touches it
    for number, source in enumerate(sources):
        source.begin(sources[:number])
    loop = Loop(sources, woken)
    loop.unseen |= {name: why for name, why in (("gpus", no_gpu), ("rdma", no_rdma)) if why}
    try:
        loop.add("kernel", KernelSource())
    except OSError as error:
        restrict = machine.text("/proc/sys/kernel/dmesg_restrict")
        loop.unseen["kernel"] = why_unreadable(error, restrict)
    return loop


def _watched(look: Look, logs: tuple[str, ...]) -> Iterator[str]:
    """What is watched, in a few words each."""
    if job := look.job:
        for space in job.shm:
            yield f"{space.path} ({size(space.total_bytes)})"
        limits = [group.limit_bytes for group in job.memory if group.limit_bytes]
        yield f"the memory limit of {size(min(limits))}" if limits else "kills for memory"
        if job.processes:
            yield count_of(len(job.processes), "process", "processes")
    if look.gpus:
        yield count_of(len(look.gpus), "GPU")
    yield from (link.name for link in look.network or ())
    yield from (port.name for port in look.rdma or ())
    yield from (place.path for place in look.places or ())
    if look.logs is not None:
        yield from logs
    if look.kernel is not None:
        yield "the kernel's log"


def _why(unseen: dict[str, str]) -> str:
    return "; ".join(f"{name} ({why})" for name, why in unseen.items())


@contextlib.contextmanager
def _woken() -> Iterator[int]:
    """A descriptor that can be read once a signal has come."""
    reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writes)
    try:
        yield reads
    finally:
        signal.set_wakeup_fd(before)
        os.close(reads)
        os.close(writes)
