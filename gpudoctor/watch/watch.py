"""Look after look -> events: each trouble once, and once when it is over."""

from msgspec import Struct

from gpudoctor.watch import gpus, job, lines, links, places
from gpudoctor.watch.course import Course
from gpudoctor.watch.event import Event, Trouble
from gpudoctor.watch.look import Look

OVER_AFTER = 3  # looks without it: what comes and goes is one trouble
MOST_TOLD = 10_000  # things that happened, remembered so that none is told twice
PATIENCE = 120.0  # seconds; a checkpoint is mostly saved by then; rule of thumb

TOPICS = (job.troubles, gpus.troubles, links.troubles, places.troubles, lines.troubles)


class _Open(Struct):
    """A trouble that lasts."""

    trouble: Trouble
    since: float
    missed: int = 0


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
            if len(self._told) > MOST_TOLD:
                del self._told[next(iter(self._told))]
            return Event(clock=look.clock, state="once", trouble=trouble)
        if known := self._open.get(trouble.key):
            known.trouble, known.missed = trouble, 0
            return None
        self._open[trouble.key] = _Open(trouble, look.at)
        return Event(clock=look.clock, state="began", trouble=trouble)

    def _over(self, still: set[tuple[str, str, str]]) -> list[Event]:
        look = self.course.now
        ended = []
        for key, known in list(self._open.items()):
            if key in still or known.trouble.source in look.gaps:
                continue
            known.missed += 1
            if known.missed >= OVER_AFTER:
                del self._open[key]
                seconds = look.at - known.since
                event = Event(
                    clock=look.clock, state="over", trouble=known.trouble, seconds=seconds
                )
                ended.append(event)
        return ended


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
