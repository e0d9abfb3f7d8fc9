"""The few lines of a large text in which a pattern may match, found without trying any."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from gpudoctor.triage.needles import Needles, fold, may

T = TypeVar("T")

KEPT = 8 << 20  # bytes of shapes that are remembered
HEAD, TAIL = 4 << 10, 2 << 10  # bytes of a longer line
# Letters, those first that are rare in text: a search for words with the same first letter takes
# no longer than there are such letters. So of each word a piece is searched for that begins so.
_RARE = b"qjzxkvwybghfpmudclsrnioate"
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
        pairs = tuple(items)
        self._items = [item for item, _ in pairs]
        self._index = _index(tuple(needles for _, needles in pairs))
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
        self._kept += sum(map(len, fresh)) + 100 * len(fresh)
        text = b"\n".join(map(ends, fresh))
        found: dict[bytes, set[int]] = {}
        self._index.search(text, found)
        if not found:
            return
        for shape in fresh:
            if places := found.get(ends(shape)):
                self._shapes[shape] = Shape([self._items[place] for place in sorted(places)])


class _Index:
    """By which words patterns are found: made once of the same patterns, whoever sifts."""

    def __init__(self, needles: tuple[Needles, ...]) -> None:
        self._needles = needles
        asked: dict[bytes, list[int]] = {}
        for place, needed in enumerate(needles):
            for piece in {_piece(word) for word in needed.best} or {b""}:
                asked.setdefault(piece, []).append(place)
        # Where one piece begins another, the longer is found, and both are meant.
        self._asked = {
            piece: [place for end in range(len(piece) + 1) for place in asked.get(piece[:end], ())]
            for piece in asked
        }
        groups = _first_letters(asked).items()
        words = [[first + rest for rest in rests] for first, rests in groups]
        self._searches = [re.compile(_either(each)).search for each in words]

    def search(self, text: bytes, found: dict[bytes, set[int]]) -> None:
        """Add to each line of a folded text the places of the patterns that may match it."""
        lower = text.lower()
        for search in self._searches:
            at = end = -1
            while match := search(lower, at + 1):
                at = match.start()  # the next begins behind it: pieces may overlap
                if at >= end:
                    begin = text.rfind(b"\n", 0, at + 1) + 1
                    end = text.find(b"\n", at + 1)
                    end = len(text) if end < 0 else end
                    line, low, tried = text[begin:end], lower[begin:end], set[bytes]()
                if match[0] in tried:
                    continue
                tried.add(match[0])
                for place in self._asked[match[0]]:
                    needed = self._needles[place]
                    if may(needed.cased, line) and may(needed.lower, low):
                        found.setdefault(line, set()).add(place)


@functools.cache
def _index(needles: tuple[Needles, ...]) -> _Index:
    return _Index(needles)


def ends(line: bytes) -> bytes:
    """The line; of one that is very long its beginning and its end, on which patterns are tried."""
    return line if len(line) <= HEAD + TAIL else line[:HEAD] + b" ... " + line[-TAIL:]


def _piece(word: bytes) -> bytes:
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
