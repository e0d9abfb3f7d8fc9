"""The forked children that look: they take probes from a queue, answer, and never hold the run.

A child answers through a pipe of its own, with a header and then its fact as JSON. One that
does not answer in time is killed; one that cannot be killed (stuck in the kernel, state D) is
named and left behind, never waited for.
"""

import contextlib
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from gpudoctor.probes import Machine, Probe
from gpudoctor.snapshot import Absent, Fact, encode, name_of

AT_FIRST = 2  # children; more only when these are slow
SLOW = 0.02  # seconds with one probe, after which another child takes the others
ANSWER_LIMIT = 16 << 20  # bytes; a fact is some kB
GRACE = 0.2  # seconds that killed children get to go, all together
_ORDER = 2  # bytes of a probe's index in the queue
_HEADER = struct.Struct("<HdQ")  # index, when it was taken, length of the answer (0: none yet)


# Told the name of a fact when somebody begins to look for it, with None, and with what was found.
Observer = Callable[[str, Fact | Absent | None], None]


def unobserved(name: str, fact: Fact | Absent | None) -> None:
    """The observer of a plain run."""


class Collected(Struct, frozen=True):
    """What the probes brought: facts by name, their seconds, and whether all could finish."""

    facts: dict[str, Any]
    seconds: dict[str, float]
    complete: bool
    observer: Observer = unobserved


def look(probe: Probe[Any], machine: Machine) -> Fact | Absent:
    """What the probe finds; an exception is a broken absence."""
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


def note(found: Collected, probe: Probe[Any], fact: Fact | Absent, started: float) -> None:
    """Put down what a probe found, and how long it took."""
    name = name_of(probe.kind)
    found.facts[name] = fact
    found.seconds[name] = time.monotonic() - started
    found.observer(name, fact)


class _Child:
    """A forked process, and the probe that it is looking with."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid, self.pipe = pid, pipe
        self.probe: Probe[Any] | None = None
        self.started = self.until = 0.0
        self.said = bytearray()
        self.why = ""  # it was let go without an answer

    def takes(self, probe: Probe[Any], started: float, end: float) -> None:
        self.probe, self.started = probe, started
        self.until = min(started + probe.timeout, end)

    def kill(self) -> None:
        for kill in (os.killpg, os.kill):
            try:
                kill(self.pid, signal.SIGKILL)
            except OSError:
                continue  # already gone, or not yet the leader of its group


class Children:
    """All children, the probes that nobody has taken yet, and what was found so far.

    The children take probes from a pipe that they share, so they need nobody to tell them.
    """

    def __init__(
        self, probes: Sequence[Probe[Any]], machine: Machine, end: float, found: Collected
    ) -> None:
        self._probes, self._machine, self._end, self._found = probes, machine, end, found
        self._alone = [index for index, probe in enumerate(probes) if probe.alone]
        self._untaken = {index for index, probe in enumerate(probes) if not probe.alone}
        self._queue, queue = os.pipe()
        os.write(queue, b"".join(_order(index) for index in sorted(self._untaken)))
        os.close(queue)
        self._children: list[_Child] = []
        self._gone: list[_Child] = []
        for _ in range(AT_FIRST):
            self._hire()

    @property
    def waits(self) -> bool:
        """Whether any probe has no answer yet."""
        return bool(self._children or self._alone or self._untaken)

    @property
    def names(self) -> list[str]:
        """The facts that are being looked for."""
        return [name_of(child.probe.kind) for child in self._children if child.probe]

    def serve(self) -> None:
        """Wait for answers for a moment and take them; make sure that somebody is at work."""
        busy = [child for child in self._children if child.probe]
        now = time.monotonic()
        wait = min([0.25, *(child.until - now for child in busy)])
        if self._alone or self._untaken:
            wait = min(wait, SLOW)
        poll = select.poll()
        for child in self._children:
            poll.register(child.pipe, select.POLLIN)
        ready = {pipe for pipe, _ in poll.poll(max(0.0, wait) * 1000 + 1)}
        for child in list(self._children):
            if child.pipe in ready:
                self._read(child)
            elif child.probe and child.until <= time.monotonic():
                self._give_up(child, f"no answer in {child.until - child.started:.3g} s")
        now = time.monotonic()
        slow = all(child.probe and now - child.started > SLOW for child in self._children)
        if (self._alone or self._untaken) and slow:
            self._hire()

    def end(self, *, interrupted: bool) -> None:
        """Leave no child but those that cannot be killed, and no probe without a fact."""
        for index in (*self._alone, *self._untaken):
            self._miss(index, "the run ended before this was looked at")
        self._alone, self._untaken = [], set()
        for child in list(self._children):
            if child.probe:
                self._give_up(child, "interrupted" if interrupted else "the run ended")
            else:
                child.kill()
                self._dismiss(child)
        os.close(self._queue)
        gone_by = time.monotonic() + GRACE
        for child in self._gone:
            if reap(child.pid, gone_by) is None:
                child.kill()
                if reap(child.pid, time.monotonic() + GRACE / 10) is None and child.why:
                    left = f"its process {child.pid} (state {_state(child.pid)}) cannot be killed"
                    absent = Absent(f"{child.why}; {left} and was left behind", broken=True)
                    assert child.probe is not None
                    self._found.facts[name_of(child.probe.kind)] = absent
                    self._found.observer(name_of(child.probe.kind), absent)

    def _hire(self) -> None:
        """Fork a child for the next probe that nobody has."""
        if self._alone:
            index, alone = self._alone.pop(0), True
        elif order := os.read(self._queue, _ORDER):
            index, alone = int.from_bytes(order, "little"), False
            self._untaken.discard(index)
        else:
            # Nothing is left to take: what nobody has answered for went with a child that died.
            if not self._children:
                for lost in self._untaken:
                    self._miss(lost, "looking ended without an answer")
                self._untaken = set()
            return
        ours, theirs = os.pipe()
        started = time.monotonic()
        try:
            pid = os.fork()
        except OSError as error:  # no more processes: itself a finding, of other checks
            os.close(ours)
            os.close(theirs)
            self._miss(index, f"no process could be started: {error}")
            self._hire()
            return
        if pid == 0:
            os.close(ours)
            queue = None if alone else self._queue
            _live_and_die(self._probes, index, queue, self._machine, self._end, theirs)
        os.close(theirs)
        child = _Child(pid, ours)
        self._give(child, index, started)
        self._children.append(child)

    def _give(self, child: _Child, index: int, started: float) -> None:
        child.takes(self._probes[index], started, self._end)
        self._found.observer(name_of(self._probes[index].kind), None)

    def _read(self, child: _Child) -> None:
        chunk = os.read(child.pipe, 1 << 16)
        child.said.extend(chunk)
        while len(child.said) >= _HEADER.size:
            index, started, length = _HEADER.unpack_from(child.said)
            if not length:
                self._untaken.discard(index)
                self._give(child, index, started)
            elif len(child.said) >= _HEADER.size + length and child.probe:
                raw = bytes(child.said[_HEADER.size : _HEADER.size + length])
                note(self._found, child.probe, _fact(child.probe, raw), child.started)
                child.probe = None
            else:
                break
            del child.said[: _HEADER.size + length]
        if len(child.said) >= ANSWER_LIMIT:
            self._give_up(child, "the probe's answer was too long")
        elif not chunk:
            self._bury(child)

    def _bury(self, child: _Child) -> None:
        """The child is at its end: because nothing was left to take, or it crashed."""
        if child.probe:
            code = reap(child.pid, time.monotonic() + GRACE)
            why = "looking ended without an answer"
            if code is not None and code < 0:
                why = f"looking crashed: {signal.Signals(-code).name}"
            with contextlib.suppress(OSError):  # what it started; its own number may be reused
                os.killpg(child.pid, signal.SIGKILL)
            self._note_end(child, why)
        self._dismiss(child)

    def _give_up(self, child: _Child, why: str) -> None:
        child.kill()
        self._note_end(child, why)
        self._dismiss(child)

    def _note_end(self, child: _Child, why: str) -> None:
        assert child.probe is not None
        child.why = why
        note(self._found, child.probe, Absent(why, broken=True), child.started)

    def _dismiss(self, child: _Child) -> None:
        self._children.remove(child)
        os.close(child.pipe)
        self._gone.append(child)
        if self._alone or self._untaken:
            self._hire()

    def _miss(self, index: int, why: str) -> None:
        note(self._found, self._probes[index], Absent(why, broken=True), time.monotonic())


def _fact(probe: Probe[Any], raw: bytes) -> Fact | Absent:
    try:
        # No fact has a field `absent`.
        kind: Any = Absent if raw.startswith(b'{"absent":') else probe.kind
        fact: Fact | Absent = msgspec.json.decode(raw, type=kind)
        return fact
    except msgspec.DecodeError as error:
        return Absent(f"the probe's answer does not fit: {error}", broken=True)


def _live_and_die(
    probes: Sequence[Probe[Any]],
    index: int,
    queue: int | None,
    machine: Machine,
    end: float,
    pipe: int,
) -> NoReturn:
    """A child's whole life: look with one probe, answer, take the next until none is left."""
    try:
        os.setpgid(0, 0)  # with what it starts itself, it can be killed as one
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        silence({pipe, queue})
        while True:
            seconds = max(0.0, min(probes[index].timeout, end - time.monotonic()))
            signal.alarm(int(seconds) + 2)  # ends it should the parent be gone by then
            answer = encode(look(probes[index], machine))
            signal.alarm(0)
            send(pipe, _HEADER.pack(index, 0.0, len(answer)) + answer)
            order = os.read(queue, _ORDER) if queue is not None else b""
            if not order:
                break
            index = int.from_bytes(order, "little")
            send(pipe, _HEADER.pack(index, time.monotonic(), 0))
    finally:
        os._exit(0)


def _order(index: int) -> bytes:
    return index.to_bytes(_ORDER, "little")


def send(pipe: int, message: bytes) -> None:
    while message:
        message = message[os.write(pipe, message) :]


def silence(keep: set[int | None]) -> None:
    """Nothing that a foreign library reads or prints touches the job's own streams."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return
    for descriptor in (0, 1, 2):
        if descriptor not in keep:
            os.dup2(null, descriptor)


def reap(pid: int, until: float) -> int | None:
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
