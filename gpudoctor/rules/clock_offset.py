"""How far another clock is off, from messages to it and back: the method of four timestamps.

RFC 5905, section 8. What lies between the two ways of a round trip is at most half of it, so
half of the shortest round trip is how far the answer may be wrong.
"""

from collections.abc import Iterable

from msgspec import Struct


class Trip(Struct, frozen=True, kw_only=True):
    """There and back: two stamps of our wall clock, two of the other's, in seconds.

    `seconds` is what it took by a clock that nobody sets.
    """

    sent: float
    received: float
    answered: float
    returned: float
    seconds: float

    @property
    def offset(self) -> float:
        """The other clock minus ours, if both ways took equally long."""
        return ((self.received - self.sent) + (self.answered - self.returned)) / 2


class Offset(Struct, frozen=True):
    """The other clock minus ours, and how far that may be wrong."""

    seconds: float
    uncertainty: float


def offset(trips: Iterable[Trip]) -> Offset | None:
    """What the shortest round trip says; None: there was none."""
    best = min(trips, key=lambda trip: trip.seconds, default=None)
    return None if best is None else Offset(best.offset, best.seconds / 2)
