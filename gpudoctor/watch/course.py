"""What is remembered of the looks so far; it looks at nothing itself."""

from collections.abc import Hashable, Mapping

from msgspec import Struct
from msgspec.structs import asdict, replace

from gpudoctor.watch.known import Reader
from gpudoctor.watch.look import Look

HOUR = 3600.0  # counters that grow a little for ever are judged by the hour
FEW = 3  # looks: what is seen once may be a moment


class Held(Struct, frozen=True):
    """For how long something has been so, without a look in which it was not."""

    looks: int = 0
    seconds: float = 0.0


class Course:
    """The looks so far.

    Attributes:
        patience: seconds after which what waits is said to hang.
        now: the look to be judged.
        first: of every source the first that it told.
        hour: the same, of an hour ago at most.
        last: of every source what it told before this look.
        marks: the most that there was of something.
        firsts: what something was when it was seen first.
        worked: what has been busy since the start.
        reader: of lines.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.now = self.first = self.hour = self.last = Look(at=0.0, clock=0.0)
        self.marks: dict[str, float] = {}
        self.firsts: dict[str, int] = {}
        self.worked: set[Hashable] = set()
        self.reader = Reader()
        self._since: dict[Hashable, tuple[int, float]] = {}
        self._begun = False

    def take(self, look: Look) -> None:
        """Go on to the next look."""
        if not self._begun:
            self.now = self.first = self.hour = self.last = look
            self._begun = True
            return
        self.last = _filled(self.now, self.last)
        self.now = look
        self.first = _filled(self.first, look)
        renewed = look.at - self.hour.at >= HOUR
        self.hour = _filled(look, self.hour) if renewed else _filled(self.hour, look)

    def holds(self, what: Hashable, so: bool) -> Held:
        """For how long something is so, this look included; ask it in every look."""
        if not so:
            self._since.pop(what, None)
            return Held()
        looks, at = self._since.get(what, (0, self.now.at))
        self._since[what] = (looks + 1, at)
        return Held(looks + 1, self.now.at - at)

    def long(self, what: Hashable, so: bool) -> Held | None:
        """The same, once it tries our patience."""
        held = self.holds(what, so)
        return held if held.looks >= FEW and held.seconds >= self.patience else None

    def most(self, what: str, value: float) -> float:
        """The highest value so far."""
        self.marks[what] = max(value, self.marks.get(what, value))
        return self.marks[what]

    def grown(self, what: str, count: int) -> int:
        """By how much a counter has grown since it was seen first."""
        return count - self.firsts.setdefault(what, count)

    def idle(self, busy: Mapping[str, float], least: float, most: float) -> dict[str, Held]:
        """Those that have worked, and have done nothing for too long.

        Args:
            busy: how busy each is.
            least: from here on it works.
            most: up to here it does nothing.
        """
        self.worked |= {name for name, much in busy.items() if much >= least}
        asked = {
            name: self.long(("idle", name), much <= most)
            for name, much in busy.items()
            if name in self.worked
        }
        return {name: held for name, held in asked.items() if held}


def _filled(look: Look, other: Look) -> Look:
    """The look, and what another has to add of sources that told it nothing."""
    told = asdict(other)
    gaps = {name: told[name] for name, value in asdict(look).items() if value is None}
    return replace(look, **gaps) if gaps else look
