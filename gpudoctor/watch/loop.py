"""Look, compare, wait; until it is time to stop."""

import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gpudoctor.probes.watched.staying import Staying
from gpudoctor.snapshot import Absent
from gpudoctor.watch.event import Event
from gpudoctor.watch.look import Look
from gpudoctor.watch.watch import Watch

GATHER = 5.0  # seconds for a look; who is later is heard in the next one
FIRST = 20.0  # for the first: a driver without persistence wakes each GPU


class Ended(Struct, frozen=True):
    """How the watching came to its end.

    Attributes:
        why: "interrupted", "time", "processes": the last of them has ended.
        looks: how many there were.
        blind: sources that could be seen at first, and not at the end.
    """

    why: str
    looks: int
    blind: Mapping[str, str]


class Loop:
    """Sources that are looked at together.

    Attributes:
        unseen: sources that there is nothing to be seen of, and why.
    """

    def __init__(self, sources: Sequence[Staying], woken: int) -> None:
        """
        Args:
            sources: children, begun.
            woken: a descriptor that can be read when a signal has come.
        """
        self.unseen: dict[str, str] = {}
        self._sources = list(sources)
        self._woken = woken
        self._inline: dict[str, Callable[[], Any]] = {}
        self._told: set[str] = set()

    def add(self, name: str, look: Callable[[], Any]) -> None:
        """Add what can neither hang nor crash."""
        self._inline[name] = look

    def first(self, stopped: Callable[[], bool]) -> Look:
        """The first look, in which it comes out what there is to be seen."""
        return self._look(FIRST, stopped)

    def run(
        self,
        watch: Watch,
        look: Look,
        tell: Callable[[Event], bool],
        *,
        every: float,
        seconds: float | None,
        stopped: Callable[[], bool],
    ) -> Ended:
        """Go on from the first look; `tell` returns False when nobody listens any more."""
        began = due = time.monotonic()
        until = None if seconds is None else began + seconds
        looks = 0
        while True:
            looks += 1
            heard = all(tell(event) for event in watch.take(look))
            gaps = look.gaps
            if stopped() or not heard:
                return Ended("interrupted", looks, gaps)
            if look.job and look.job.processes and all(p.ended for p in look.job.processes):
                return Ended("processes", looks, gaps)
            due = max(due + every, time.monotonic())
            last = until is not None and due > until
            heard = self._wait((until if until is not None and last else due) - time.monotonic())
            if stopped() or not heard:
                return Ended("interrupted", looks, gaps)
            if last:
                return Ended("time", looks, gaps)
            look = self._look(GATHER, stopped)

    def end(self) -> None:
        for source in self._sources:
            source.end()

    def _wait(self, seconds: float) -> bool:
        """Wait for a time, or a signal; False if meanwhile the last reader of stdout is gone."""
        wanted = select.poll()
        wanted.register(self._woken, select.POLLIN)
        if sys.stdout is not None:  # else it was closed when we started
            wanted.register(1, 0)
        came = dict(wanted.poll(max(0.0, seconds) * 1000))
        return not came.get(1, 0) & (select.POLLERR | select.POLLHUP)

    def _look(self, seconds: float, stopped: Callable[[], bool]) -> Look:
        for source in self._sources:
            if source.idle:
                source.ask()
        until = time.monotonic() + seconds
        while not stopped():
            waiting = [source for source in self._sources if source.asked and not source.gone]
            # Who has been late once is heard when it answers, and not waited for.
            left = min(until - time.monotonic(), max((each.left for each in waiting), default=0.0))
            places = [*map(Staying.fileno, waiting), self._woken]
            ready = select.select(places, [], [], max(0.0, left))[0]
            for source in waiting:
                if source.fileno() in ready:
                    source.read()
            if left <= 0 and not ready:
                break
        answers: dict[str, Any] = {name: look() for name, look in self._inline.items()}
        gaps: dict[str, str] = {}
        for source in list(self._sources):
            answer = source.take()
            if isinstance(answer, Absent) and source.name not in self._told:
                self.unseen[source.name] = answer.absent
                self._sources.remove(source)
                source.end()
            elif isinstance(answer, Absent):
                gaps[source.name] = answer.absent
            elif answer is not None:
                self._told.add(source.name)
                answers[source.name] = answer
            elif source.gone:
                gaps[source.name] = source.gone
            elif source.late:
                gaps[source.name] = f"no answer in {source.late:.0f} s"
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        return Look(at=at, clock=time.time(), gaps=gaps, **answers)
