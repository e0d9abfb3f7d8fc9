"""Who is slow: a node, or the link between two, from figures of pairs of nodes.

A pair that is low accuses both of its nodes. Paired again with others that are good, the node that
stays low is the slow one; if both are good with others it is what lies between them.
"""

from collections.abc import Iterable, Mapping
from statistics import median_low

from msgspec import Struct

# As a time of more than 1.2 times the median: research's proposal after Google's
# cluster-health-scanner, whose second pass pairs the nodes of failed pairs with good ones.
LOW = 1 / 1.2
GOOD_PARTNERS = 2  # with so many good nodes a node must be low to be named

Pair = tuple[str, str]


class Verdict(Struct, frozen=True):
    """Who is named.

    Attributes:
        nodes: low with at least two good nodes, and good with none.
        links: low between two nodes that are good with most others.
        unclear: low pairs that neither explains, or nobody could be told from.
        usual: what good pairs reach; None: no majority of nodes does.
    """

    nodes: tuple[str, ...] = ()
    links: tuple[Pair, ...] = ()
    unclear: tuple[Pair, ...] = ()
    usual: float | None = None


def verdict(figures: Mapping[Pair, float | None]) -> Verdict:
    """Who is slow, as far as these figures tell. Where half of the nodes are, nobody is.

    Args:
        figures: more is better; None: it failed. Each pair once, in any order.
    """
    best = _best(figures)
    usual = _usual(figures, median_low(best.values())) if best else 0.0
    if not usual:
        return Verdict(unclear=tuple(pair for pair, value in figures.items() if not value))
    pairs = _Pairs(figures, usual * LOW)
    if 2 * len(pairs.good_nodes) <= len(best):
        return Verdict(unclear=tuple(pairs.low))
    nodes = tuple(name for name in best if pairs.is_slow(name))
    left = [pair for pair in pairs.low if not set(pair) & set(nodes)]
    links = tuple(pair for pair in left if pairs.is_link(pair, nodes))
    unclear = tuple(pair for pair in left if pair not in links)
    return Verdict(nodes, links, unclear, usual)


def next_pairs(figures: Mapping[Pair, float | None]) -> tuple[Pair, ...]:
    """A round of disjoint pairs that tells more: each suspect with a good node; empty: none does.

    Args:
        figures: as for `verdict`, of all rounds until now.
    """
    best = _best(figures)
    # The better half sets what is usual: of two pairs one may be slow.
    ordered = sorted(best.values())
    usual = _usual(figures, ordered[len(ordered) // 2]) if ordered else 0.0
    if not usual:
        return ()
    pairs = _Pairs(figures, usual * LOW)
    suspects = [name for name in best if pairs.is_suspect(name)]
    free = sorted(pairs.good_nodes, key=lambda name: (pairs.lows(name), -best[name]))
    found: list[Pair] = []
    for suspect in suspects:
        partner = next((n for n in free if n not in pairs.partners(suspect)), None)
        if partner:
            free.remove(partner)
            found.append((suspect, partner))
    return tuple(found)


class _Pairs:
    """Figures, cut in two: low and good."""

    def __init__(self, figures: Mapping[Pair, float | None], floor: float) -> None:
        self.low = [pair for pair, value in figures.items() if not value or value < floor]
        self._good = [pair for pair in figures if pair not in self.low]
        self._figures = figures
        self.good_nodes = list(dict.fromkeys(name for pair in self._good for name in pair))

    def partners(self, name: str) -> set[str]:
        return _others(name, self._figures)

    def lows(self, name: str) -> int:
        return len(_others(name, self.low))

    def is_slow(self, name: str) -> bool:
        good_partners = _others(name, self.low) & set(self.good_nodes)
        return name not in self.good_nodes and len(good_partners) >= GOOD_PARTNERS

    def is_suspect(self, name: str) -> bool:
        """In a low pair, and neither good with anybody nor known to be slow."""
        return name not in self.good_nodes and not self.is_slow(name)

    def is_link(self, pair: Pair, slow: Iterable[str]) -> bool:
        """Whether both of its nodes are good with most of the others."""
        for name, other in (pair, pair[::-1]):
            away = {other, *slow}
            good = _others(name, self._good) - away
            low = _others(name, self.low) - away
            if len(good) <= len(low):
                return False
        return True


def _others(name: str, pairs: Iterable[Pair]) -> set[str]:
    return {b if a == name else a for a, b in pairs if name in (a, b)}


def _usual(figures: Mapping[Pair, float | None], best: float) -> float:
    """The median of good pairs, where a middling node reaches this much with its best partner."""
    good = [value for value in figures.values() if value and value >= best * LOW]
    return median_low(good) if good else 0.0


def _best(figures: Mapping[Pair, float | None]) -> dict[str, float]:
    """What each node reaches with its best partner: a good node has one that is good."""
    best: dict[str, float] = {}
    for pair, value in figures.items():
        for name in pair:
            best[name] = max(best.get(name, 0.0), value or 0.0)
    return best
