"""Run probes: the risky ones in forked children, none of them for ever.

A few children are forked, since a fork costs 1 ms and a new Python 10 to 40, and get one
probe at a time. A child that is slow with one keeps it, and another child is forked for the
rest: so no probe waits for another that hangs. One that does not answer in time is killed;
one that cannot be killed (stuck in the kernel, state D) is named and left behind, never
waited for.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from gpudoctor.probes import Machine, Probe
from gpudoctor.snapshot import Absent, Fact, encode, name_of

AT_FIRST = 2  # children; more only when these are slow
SLOW = 0.02  # seconds with one probe, after which another child takes the others
ANSWER_LIMIT = 16 << 20  # bytes; a fact is some kB
GRACE = 0.2  # seconds that killed children get to go, all together
_HEADER = 8  # bytes of length before an answer


class Collected(NamedTuple):
    """What the probes brought: facts by name, their seconds, and whether all could finish."""

    facts: dict[str, Any]
    seconds: dict[str, float]
    complete: bool


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
    end = time.monotonic() + deadline
    found = Collected({}, {}, complete=True)
    probes = [probe for probe in probes if not _is_nothing(probe, machine, found)]
    children = _Children([probe for probe in probes if probe.isolated], machine, end, found)
    for probe in probes:
        if not probe.isolated:
            started = time.monotonic()
            if started > end:
                fact: Any = Absent("the run ended before this was looked at", broken=True)
            else:
                fact = _look(probe, machine)
            _note(found, probe, fact, started)
    while children.busy and not stopped():
        progress([name_of(child.probe.kind) for child in children.busy])
        children.serve()
    children.end(interrupted=stopped())
    return found._replace(complete=not stopped())


def _is_nothing(probe: Probe[Any], machine: Machine, found: Collected) -> bool:
    """Whether a probe's own cheap question says that there is nothing to look at; noted."""
    started = time.monotonic()
    try:
        why = probe.unless(machine) if probe.unless else ""
    except Exception:  # then looking will say what is wrong
        return False
    if why:
        _note(found, probe, Absent(why), started)
    return bool(why)


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


def _note(found: Collected, probe: Probe[Any], fact: Fact | Absent, started: float) -> None:
    found.facts[name_of(probe.kind)] = fact
    found.seconds[name_of(probe.kind)] = time.monotonic() - started


class _Child:
    """A forked process and the probe that it is looking with."""

    def __init__(self, pid: int, orders: int, answers: int) -> None:
        self.pid, self.orders, self.answers = pid, orders, answers
        self.answer = bytearray()
        self.why = ""  # it was let go without an answer

    def take(self, index: int, probe: Probe[Any], end: float) -> None:
        self.probe = probe
        self.started = time.monotonic()
        self.until = min(self.started + probe.timeout, end)
        self.answer.clear()
        with contextlib.suppress(BrokenPipeError):  # dead already: its answer will tell
            os.write(self.orders, bytes([index]))

    @property
    def has_answered(self) -> bool:
        length = int.from_bytes(self.answer[:_HEADER], "little")
        return len(self.answer) >= _HEADER and len(self.answer) >= _HEADER + length

    def fact(self) -> Fact | Absent:
        raw = bytes(self.answer[_HEADER:])
        try:
            # No fact has a field `absent`.
            kind: Any = Absent if raw.startswith(b'{"absent":') else self.probe.kind
            fact: Fact | Absent = msgspec.json.decode(raw, type=kind)
            return fact
        except msgspec.DecodeError as error:
            return Absent(f"the probe's answer does not fit: {error}", broken=True)

    def close(self) -> None:
        os.close(self.orders)  # at which it goes, unless it is stuck
        os.close(self.answers)

    def kill(self) -> None:
        for kill in (os.killpg, os.kill):
            try:
                kill(self.pid, signal.SIGKILL)
            except OSError:
                continue  # already gone, or not yet the leader of its group


class _Children:
    """All children, the probes that wait for one, and what was found so far."""

    def __init__(
        self, probes: Sequence[Probe[Any]], machine: Machine, end: float, found: Collected
    ) -> None:
        self._probes, self._machine, self._end, self._found = probes, machine, end, found
        self._waiting = list(range(len(probes)))
        self._dismissed: list[_Child] = []
        self.busy: list[_Child] = []
        for _ in range(AT_FIRST):
            self._hire()

    def serve(self) -> None:
        """Wait for answers for a moment, take them, hand out what waits."""
        poll = select.poll()
        for child in self.busy:
            poll.register(child.answers, select.POLLIN)
        now = time.monotonic()
        wait = min(0.25, *(child.until - now for child in self.busy))
        if self._waiting:
            wait = min(wait, SLOW)
        ready = {pipe for pipe, _ in poll.poll(max(0.0, wait) * 1000 + 1)}
        for child in list(self.busy):
            if child.answers in ready:
                self._read(child)
            elif child.until <= time.monotonic():
                self._give_up(child, f"no answer in {child.until - child.started:.3g} s")
        now = time.monotonic()
        if self._waiting and all(now - child.started > SLOW for child in self.busy):
            self._hire()

    def end(self, *, interrupted: bool) -> None:
        """Leave no child but those that cannot be killed, and no probe without a fact."""
        waiting, self._waiting = self._waiting, []
        for index in waiting:
            absent = Absent("the run ended before this was looked at", broken=True)
            _note(self._found, self._probes[index], absent, time.monotonic())
        for child in list(self.busy):
            self._give_up(child, "interrupted" if interrupted else "the run ended")
        gone_by = time.monotonic() + GRACE
        for child in self._dismissed:
            if _reap(child.pid, gone_by) is None:
                child.kill()
                if _reap(child.pid, time.monotonic() + GRACE / 10) is None and child.why:
                    left = f"its process {child.pid} (state {_state(child.pid)}) cannot be killed"
                    absent = Absent(f"{child.why}; {left} and was left behind", broken=True)
                    self._found.facts[name_of(child.probe.kind)] = absent

    def _hire(self) -> None:
        """Fork a child for the first probe that waits."""
        if not self._waiting:
            return
        index = self._waiting.pop(0)
        try:
            child = self._fork()
        except OSError as error:  # no more processes: itself a finding, of other checks
            absent = Absent(f"no process could be started: {error}", broken=True)
            _note(self._found, self._probes[index], absent, time.monotonic())
            self._hire()
            return
        child.take(index, self._probes[index], self._end)
        self.busy.append(child)

    def _fork(self) -> _Child:
        orders, ours = os.pipe()
        answers, theirs = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            for pipe in (orders, ours, answers, theirs):
                os.close(pipe)
            raise
        if pid == 0:
            for pipe in (ours, answers, *(c.orders for c in self.busy)):
                os.close(pipe)
            _live_and_die(self._probes, self._machine, self._end, orders, theirs)
        os.close(orders)
        os.close(theirs)
        return _Child(pid, ours, answers)

    def _read(self, child: _Child) -> None:
        chunk = os.read(child.answers, 1 << 16)
        child.answer.extend(chunk)
        if child.has_answered:
            _note(self._found, child.probe, child.fact(), child.started)
            self._next(child)
        elif len(child.answer) >= ANSWER_LIMIT:
            self._give_up(child, "the probe's answer was too long")
        elif not chunk:
            code = _reap(child.pid, time.monotonic() + GRACE)
            why = "looking ended without an answer"
            if code is not None and code < 0:
                why = f"looking crashed: {signal.Signals(-code).name}"
            with contextlib.suppress(OSError):  # what it started; its own number may be reused
                os.killpg(child.pid, signal.SIGKILL)
            self._note_end(child, why)

    def _next(self, child: _Child) -> None:
        """The next probe for this child, unless its process is spoilt by the last one."""
        index = next((i for i in self._waiting if not self._probes[i].alone), None)
        if child.probe.alone or index is None:
            self._dismiss(child)
        else:
            self._waiting.remove(index)
            child.take(index, self._probes[index], self._end)

    def _give_up(self, child: _Child, why: str) -> None:
        child.kill()
        self._note_end(child, why)

    def _note_end(self, child: _Child, why: str) -> None:
        child.why = why
        _note(self._found, child.probe, Absent(why, broken=True), child.started)
        self._dismiss(child)

    def _dismiss(self, child: _Child) -> None:
        self.busy.remove(child)
        child.close()
        self._dismissed.append(child)
        self._hire()


def _live_and_die(
    probes: Sequence[Probe[Any]], machine: Machine, end: float, orders: int, answers: int
) -> NoReturn:
    """A child's whole life: look as ordered, answer, until there are no more orders."""
    try:
        os.setpgid(0, 0)  # with what it starts itself, it can be killed as one
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _silence({orders, answers})
        while order := os.read(orders, 1):
            probe = probes[order[0]]
            seconds = max(0.0, min(probe.timeout, end - time.monotonic()))
            signal.alarm(int(seconds) + 2)  # ends it should the parent be gone by then
            answer = encode(_look(probe, machine))
            message = len(answer).to_bytes(_HEADER, "little") + answer
            while message:
                message = message[os.write(answers, message) :]
            signal.alarm(0)
    finally:
        os._exit(0)


def _silence(keep: set[int]) -> None:
    """Nothing that a foreign library reads or prints touches the job's own streams."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return
    for descriptor in (0, 1, 2):
        if descriptor not in keep:
            os.dup2(null, descriptor)


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
