"""Who is paired with whom: rounds of disjoint pairs, as in a round-robin tournament.

The circle method: of an odd number n of places, i and j meet in round k where i + j = k mod n.
One place is then left over, i + i = k; where the number of nodes is even it meets the last node.
"""

from math import gcd

from msgspec import Struct

ALL_PAIRS = 8  # nodes up to which every pair meets
ROUNDS = 7  # at most: what the tournament of 8 takes
_GOLDEN = 0.6180339887  # steps of this share of a circle never crowd

Pair = tuple[int, int]  # by index, the lower one first


class Schedule(Struct, frozen=True):
    """Rounds of pairs that have no node in common.

    Attributes:
        count: of nodes.
        rounds: the pairs of each, by index. Of an odd number of nodes one sits out.
    """

    count: int
    rounds: tuple[tuple[Pair, ...], ...]

    @property
    def pairs(self) -> int:
        """How many pairs meet."""
        return sum(map(len, self.rounds))

    @property
    def pairs_all(self) -> int:
        """How many there are."""
        return self.count * (self.count - 1) // 2

    def partner(self, number: int, index: int) -> int | None:
        """Whom a node meets in a round; None: it sits out."""
        for pair in self.rounds[number]:
            if index in pair:
                return pair[0] if pair[1] == index else pair[1]
        return None


def tournament(count: int, most: int | None = None) -> Schedule:
    """The rounds for a number of nodes.

    Args:
        count: of nodes.
        most: rounds; without it all pairs meet up to 8 nodes, and 7 rounds are played above.
    """
    if count < 2:
        return Schedule(count, ())
    places = count - 1 + count % 2
    if most is None:
        most = places if count <= ALL_PAIRS else ROUNDS
    # A step that shares no divisor with the circle reaches all rounds, and two of them already
    # join all nodes into one chain: no group of nodes is measured only among itself.
    step = next(s for s in range(max(1, int(places * _GOLDEN)), places + 2) if gcd(s, places) == 1)
    chosen = [number * step % places for number in range(min(most, places))]
    return Schedule(count, tuple(_round(count, places, number) for number in chosen))


def _round(count: int, places: int, number: int) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for one in range(places):
        other = (number - one) % places
        if other == one and count > places:
            other = count - 1
        if one < other:
            pairs.append((one, other))
    return tuple(pairs)
