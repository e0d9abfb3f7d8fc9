"""Run probes: the risky ones in forked children, none of them for ever.

A few children are forked, since a fork costs 1 ms and a new Python 10 to 40, and take one
probe after the other. A child that is slow with one keeps it, and another child is forked for
the rest: so no probe waits for another that hangs.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from gpudoctor.children import Children, Collected, Observer, look, note, unobserved
from gpudoctor.probes import Machine, Probe
from gpudoctor.snapshot import Absent, name_of


class Looking:
    """Probes at work: the isolated ones in children, from the moment that this is made.

    Use it as a context: a child that is not needed any more ends with it.
    """

    def __init__(
        self,
        probes: Iterable[Probe[Any]],
        machine: Machine,
        *,
        deadline: float = 30.0,
        observer: Observer = unobserved,
    ) -> None:
        self.found = Collected({}, {}, complete=True, observer=observer)
        self.began = time.monotonic()
        self._machine, self._end = machine, self.began + deadline
        probes = list(probes)
        self.kinds = {probe.kind for probe in probes}
        probes = [probe for probe in probes if not _is_nothing(probe, machine, self.found)]
        self._plain = [probe for probe in probes if not probe.isolated]
        isolated = [probe for probe in probes if probe.isolated]
        self._children = Children(isolated, machine, self._end, self.found)
        self._ended = False

    def finish(
        self,
        *,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[list[str]], None] = lambda names: None,
    ) -> Collected:
        """Everything that was found, once all have answered or the time is up."""
        for probe in self._plain:
            started = time.monotonic()
            if started > self._end:
                fact: Any = Absent("the run ended before this was looked at", broken=True)
            else:
                self.found.observer(name_of(probe.kind), None)
                fact = look(probe, self._machine)
            note(self.found, probe, fact, started)
        while self._children.waits and not stopped():
            progress(self._children.names)
            self._children.serve()
        self._end_all(interrupted=stopped())
        return replace(self.found, complete=not stopped())

    def __enter__(self) -> "Looking":
        return self

    def __exit__(self, *error: object) -> None:
        self._end_all(interrupted=True)

    def _end_all(self, *, interrupted: bool) -> None:
        if not self._ended:
            self._ended = True
            self._children.end(interrupted=interrupted)


def collect(
    probes: Iterable[Probe[Any]],
    machine: Machine,
    *,
    deadline: float = 30.0,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[list[str]], None] = lambda names: None,
    observer: Observer = unobserved,
) -> Collected:
    """Look at the machine.

    Args:
        probes: what to look at; one probe's failure never disturbs another.
        machine: where to look.
        deadline: seconds for everything together.
        stopped: asked now and then; True ends the run, with what there is by then.
        progress: told now and then the names of the facts that are being waited for.
        observer: told at once what is begun and what was found.
    """
    with Looking(probes, machine, deadline=deadline, observer=observer) as looking:
        return looking.finish(stopped=stopped, progress=progress)


def _is_nothing(probe: Probe[Any], machine: Machine, found: Collected) -> bool:
    """Whether a probe's own cheap question says that there is nothing to look at; noted."""
    started = time.monotonic()
    try:
        why = probe.unless(machine) if probe.unless else ""
    except Exception:  # then looking will say what is wrong
        return False
    if why:
        note(found, probe, Absent(why), started)
    return bool(why)
