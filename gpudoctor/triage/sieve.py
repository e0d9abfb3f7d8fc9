"""The few lines of a large text in which a pattern may match, found without trying any."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from gpudoctor.triage.needles import Needles, Words, best, fold, likely, may

T = TypeVar("T")

Sets = list[tuple[bytes, ...]]
Asked = tuple[int, T, Sets, Sets]  # an item's place, itself, words that it needs: lower, cased

KEPT = 8 << 20  # bytes of shapes that are remembered
# Letters, those first that are rare in text: a search for words with the same first letter takes
# no longer than there are such letters. So of each word a piece is searched for that begins so.
_RARE = "qjzxkvwybghfpmudclsrnioate"
_LONG, _SHORT = 10, 5  # letters of a piece


class Lines(list[bytes]):
    """The lines of a text, which end with a newline or a carriage return."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text.replace(b"\r", b"\n").split(b"\n"))
        self._text = text

    @functools.cached_property
    def numbers(self) -> Sequence[int]:
        """How many newlines stand before each."""
        if b"\r" not in self._text:
            return range(len(self))
        parts = enumerate(self._text.split(b"\n"))
        return [number for number, line in parts for _ in range(line.count(b"\r") + 1)]


class Shape(Generic[T]):
    """Lines that differ only in numbers.

    Attributes:
        items: those whose patterns may match them, in their order.
        seen: for whoever reads the lines, as is `known`.
    """

    __slots__ = ("items", "known", "seen")

    def __init__(self, items: list[T]) -> None:
        self.items = items
        self.seen = 0
        self.known = ""


class Sieve(Generic[T]):
    """Tells which lines of a text are worth trying which patterns.

    Logs repeat themselves: of lines that differ only in numbers, one is looked at. An item is
    left out only where its pattern cannot match.
    """

    def __init__(self, items: Iterable[tuple[T, Needles]]) -> None:
        asked: dict[bytes, list[Asked[T]]] = {}
        for place, (item, needles) in enumerate(items):
            lower, cased = _sets(needles.lower), _sets(needles.cased)
            for piece in {_piece(word).encode() for word in best(needles.lower)} or {b""}:
                asked.setdefault(piece, []).append((place, item, lower, cased))
        # Where one piece begins another, the longer is found, and both are meant.
        self._asked = {
            piece: [each for other in asked if piece.startswith(other) for each in asked[other]]
            for piece in asked
        }
        groups = _first_letters(self._asked).items()
        words = [[first + rest for rest in rests] for first, rests in groups]
        self._searches = [re.compile(_either(each)).search for each in words]
        self._shapes: dict[bytes, Shape[T] | None] = {}
        self._kept = 0

    def sift(self, text: bytes) -> tuple[Lines, Iterator[tuple[int, Shape[T]]]]:
        """All lines, if any are of interest; of each that is, its place among them and its shape.

        A line ends with a newline or a carriage return.
        """
        folded = fold(text).split(b"\n")
        alike = {*folded}
        shapes = self._shapes
        fresh = [shape for shape in alike if shape not in shapes]
        if self._kept > KEPT:
            self._kept = 0
            shapes.clear()
            fresh = list(alike)
        self._learn(fresh)
        live = {shape for shape in alike if (known := shapes[shape]) is not None and known.items}
        if not live:
            return Lines(b""), iter(())
        places = ((place, shapes[shape]) for place, shape in enumerate(folded) if shape in live)
        return Lines(text), ((place, known) for place, known in places if known and known.items)

    def _learn(self, fresh: list[bytes]) -> None:
        self._shapes.update(dict.fromkeys(fresh))
        text = b"\n".join(fresh)
        self._kept += len(text) + 100 * len(fresh)
        lower = text.lower()
        found: dict[bytes, dict[int, T]] = {}
        for search in self._searches:
            at = 0
            while match := search(lower, at):
                at = match.start() + 1  # pieces may overlap
                end = text.find(b"\n", at)
                line = slice(text.rfind(b"\n", 0, at) + 1, end if end > 0 else None)
                for place, item, any_case, cased in self._asked[match[0]]:
                    if may(cased, text[line]) and may(any_case, lower[line]):
                        found.setdefault(text[line], {})[place] = item
        for shape, items in found.items():
            self._shapes[shape] = Shape([items[place] for place in sorted(items)])


def _sets(needed: list[Words]) -> Sets:
    """Those first that are the least likely."""
    return [tuple(word.encode() for word in words) for words in sorted(needed, key=likely)]


def _piece(word: str) -> str:
    places = range(max(len(word) - _SHORT, 0) + 1)
    return min((word[at : at + _LONG] for at in places), key=lambda one: _RARE.find(one[:1]) % 99)


def _first_letters(pieces: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    groups: dict[bytes, list[bytes]] = {}
    for piece in pieces:
        groups.setdefault(piece[:1], []).append(piece[1:])
    return groups


def _either(words: list[bytes]) -> bytes:
    """An expression for the longest of the words that stands somewhere, letter by letter."""
    groups = _first_letters(filter(None, words)).items()
    inside = [re.escape(first) + (_either(rest) if any(rest) else b"") for first, rest in groups]
    text = inside[0] if len(inside) == 1 and b"" not in words else b"(?:" + b"|".join(inside) + b")"
    return text + b"?" if b"" in words else text
