"""Run probes: the risky ones each in a forked child, none of them for ever.

A child is forked rather than started afresh because a fork costs about 1 ms and a new
Python 10 to 40. It answers through a pipe with its length and then its fact as JSON. A
child that does not answer in time is killed; one that cannot be killed (stuck in the
kernel, state D) is named and left behind, never waited for.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from gpudoctor.probes import Machine, Probe
from gpudoctor.snapshot import Absent, Fact, encode, name_of

ANSWER_LIMIT = 16 << 20  # bytes; a fact is some kB
GRACE = 0.2  # seconds that killed children get to go, all together
_HEADER = 8  # bytes of length before an answer


class Collected(NamedTuple):
    """What the probes brought: facts by name, their seconds, and whether all could finish."""

    facts: dict[str, Any]
    seconds: dict[str, float]
    complete: bool


class _Child(NamedTuple):
    probe: Probe[Any]
    pid: int
    started: float
    until: float
    answer: bytearray


def collect(
    probes: Iterable[Probe[Any]],
    machine: Machine,
    *,
    deadline: float = 30.0,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[list[str]], None] = lambda names: None,
) -> Collected:
    """Look at the machine.

    Args:
        probes: what to look at; one probe's failure never disturbs another.
        machine: where to look.
        deadline: seconds for everything together.
        stopped: asked now and then; True ends the run, with what there is by then.
        progress: told now and then the names of the facts that are being waited for.
    """
    begin = time.monotonic()
    end = begin + deadline
    facts: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    probes = list(probes)
    children = {}
    for probe in probes:
        if probe.isolated:
            try:
                pipe, child = _start(probe, machine, end)
            except OSError as error:  # no more processes: itself a finding, of other checks
                facts[name_of(probe.kind)] = Absent(f"no process could be started: {error}", True)
            else:
                children[pipe] = child
    for probe in probes:
        if not probe.isolated:
            started = time.monotonic()
            if started > end:
                facts[name_of(probe.kind)] = Absent("the run ended before this was looked at", True)
                continue
            facts[name_of(probe.kind)] = _look(probe, machine)
            seconds[name_of(probe.kind)] = time.monotonic() - started
    poll = select.poll()
    for pipe in children:
        poll.register(pipe, select.POLLIN)
    late = []
    while children:
        now = time.monotonic()
        for pipe, child in list(children.items()):
            if child.until <= now or stopped():
                late.append(child)
                seconds[name_of(child.probe.kind)] = now - child.started
                poll.unregister(pipe)
                os.close(pipe)
                del children[pipe]
        if not children:
            break
        progress([name_of(child.probe.kind) for child in children.values()])
        wait = min(min(child.until for child in children.values()) - now, 0.25)
        for pipe, _ in poll.poll(max(0.0, wait) * 1000 + 1):
            child = children[pipe]
            chunk = os.read(pipe, 1 << 16)
            child.answer.extend(chunk)
            if chunk and not _is_whole(child.answer) and len(child.answer) < ANSWER_LIMIT:
                continue
            poll.unregister(pipe)
            os.close(pipe)
            del children[pipe]
            name = name_of(child.probe.kind)
            seconds[name] = time.monotonic() - child.started
            facts[name] = _fact(child)
    facts.update(_give_up(late, interrupted=stopped()))
    return Collected(facts, seconds, complete=not stopped())


def _look(probe: Probe[Any], machine: Machine) -> Fact | Absent:
    try:
        fact: Fact | Absent = probe.look(machine)
        return fact
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a foreign library may raise anything
        return Absent(f"looking failed: {_words(error)}", broken=True)


def _words(error: BaseException) -> str:
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def _start(probe: Probe[Any], machine: Machine, end: float) -> tuple[int, _Child]:
    """Fork a child that looks and answers; its pipe and what is known of it."""
    ours, theirs = os.pipe()
    started = time.monotonic()
    until = min(started + probe.timeout, end)
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise
    if pid == 0:
        _live_and_die(probe, machine, theirs, until - started)
    os.close(theirs)
    return ours, _Child(probe, pid, started, until, bytearray())


def _live_and_die(probe: Probe[Any], machine: Machine, pipe: int, seconds: float) -> None:
    """The child's whole life: never returns."""
    try:
        os.setpgid(0, 0)  # with what it starts itself, it can be killed as one
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.alarm(int(seconds) + 2)  # ends it should the parent be gone by then
        _silence(pipe)
        answer = encode(_look(probe, machine))
        message = len(answer).to_bytes(_HEADER, "little") + answer
        while message:
            message = message[os.write(pipe, message) :]
    finally:
        os._exit(0)


def _silence(pipe: int) -> None:
    """Nothing that a foreign library reads or prints touches the job's own streams."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return
    for descriptor in (0, 1, 2):
        if descriptor != pipe:
            os.dup2(null, descriptor)


def _is_whole(answer: bytearray) -> bool:
    length = int.from_bytes(answer[:_HEADER], "little")
    return len(answer) >= _HEADER and len(answer) >= _HEADER + length


def _fact(child: _Child) -> Fact | Absent:
    """The child's answer, or what became of it. The child is reaped."""
    whole = _is_whole(child.answer)
    # It exits right after its answer; one that lingers is killed, one that cannot be is left.
    code = _reap(child.pid, time.monotonic() + 0.05)
    if code is None:
        _kill(child)
        _reap(child.pid, time.monotonic() + 0.05)
    if not whole and len(child.answer) >= ANSWER_LIMIT:
        return Absent("the probe's answer was too long", broken=True)
    if not whole:
        if code is not None and code < 0:
            return Absent(f"looking crashed: {signal.Signals(-code).name}", broken=True)
        return Absent("looking ended without an answer", broken=True)
    raw = bytes(child.answer[_HEADER:])
    try:
        # No fact has a field `absent`.
        if raw.startswith(b'{"absent":'):
            return msgspec.json.decode(raw, type=Absent)
        return msgspec.json.decode(raw, type=child.probe.kind)
    except msgspec.DecodeError as error:
        return Absent(f"the probe's answer does not fit: {error}", broken=True)


def _give_up(late: list[_Child], *, interrupted: bool) -> dict[str, Absent]:
    """End children that did not answer, and say of each what was left of it."""
    for child in late:
        _kill(child)
    gone_by = time.monotonic() + GRACE
    facts = {}
    for child in late:
        waited = child.until - child.started
        why = "interrupted" if interrupted else f"no answer in {waited:.3g} s"
        if _reap(child.pid, gone_by) is None:
            state = _state(child.pid)
            why += f"; its process {child.pid} (state {state}) cannot be killed and was left behind"
        facts[name_of(child.probe.kind)] = Absent(why, broken=True)
    return facts


def _kill(child: _Child) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child.pid, signal.SIGKILL)
        except OSError:
            continue  # already gone, or not yet the leader of its group


def _reap(pid: int, until: float) -> int | None:
    """The child's exit code (negative: its signal), or None if it is still there by then."""
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.0005)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "?"
