"""Look after look -> events: each trouble once, and once when it is over."""

from typing import Any

from msgspec import Struct

from gpudoctor.watch import gpus, job, lines, links, places
from gpudoctor.watch.course import Course
from gpudoctor.watch.event import Event, Trouble
from gpudoctor.watch.look import Look

OVER_AFTER = 3  # looks without it: what comes and goes is one trouble
MOST_DOUBLED = 8  # times: what has come back must be away twice as long, to be over, each time
MOST_TOLD = 10_000  # things that happened, remembered so that none is told twice
PATIENCE = 300.0  # seconds; half of what NCCL waits; most checkpoints are saved by then

TOPICS = (job.troubles, gpus.troubles, links.troubles, places.troubles, lines.troubles)


class _Open(Struct):
    """A trouble that lasts."""

    trouble: Trouble
    since: float
    over_after: int
    missed: int = 0
    gone: float = 0.0  # when it was missed first


class Watch:
    """What was seen so far, and what is not well now.

    Attributes:
        failed: whether any error was told.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.course = Course(patience)
        self.failed = False
        self._open: dict[tuple[str, str, str], _Open] = {}
        self._told: dict[tuple[str, str, str], None] = {}
        self._times: dict[tuple[str, str, str], int] = {}

    def take(self, look: Look) -> list[Event]:
        """What there is to say of the next look."""
        self.course.take(look)
        troubles = [trouble for topic in TOPICS for trouble in topic(self.course)]
        troubles += _gaps(look)
        began = [event for trouble in troubles if (event := self._begin(trouble))]
        self.failed |= any(event.trouble.level == "error" for event in began)
        return [*self._over({trouble.key for trouble in troubles}), *began]

    def _begin(self, trouble: Trouble) -> Event | None:
        look = self.course.now
        if trouble.mark:
            if trouble.key in self._told:
                return None
            self._told[trouble.key] = None
            _bound(self._told)
            return Event(clock=look.clock, state="once", trouble=trouble)
        if known := self._open.get(trouble.key):
            known.trouble, known.missed = trouble, 0
            return None
        times = self._times[trouble.key] = self._times.get(trouble.key, -1) + 1
        _bound(self._times)
        over_after = OVER_AFTER << min(times, MOST_DOUBLED)
        self._open[trouble.key] = _Open(trouble, look.at, over_after)
        return Event(clock=look.clock, state="began", trouble=trouble)

    def _over(self, still: set[tuple[str, str, str]]) -> list[Event]:
        look = self.course.now
        ended = []
        for key, known in list(self._open.items()):
            if key in still or known.trouble.source in look.gaps:
                continue
            known.gone = known.gone if known.missed else look.at
            known.missed += 1
            if known.missed >= known.over_after:
                del self._open[key]
                seconds = known.gone - known.since
                event = Event(
                    clock=look.clock, state="over", trouble=known.trouble, seconds=seconds
                )
                ended.append(event)
        return ended


def _bound(known: dict[Any, Any]) -> None:
    """Forget the oldest of too many."""
    if len(known) > MOST_TOLD:
        del known[next(iter(known))]


def _gaps(look: Look) -> list[Trouble]:
    return [
        Trouble(
            id="watch-blind",
            subject=name,
            level="warning",
            text=f"cannot be watched now: {why}",
            means="what happens there is not seen",
            source="",
            end="watched again",
        )
        for name, why in look.gaps.items()
    ]
