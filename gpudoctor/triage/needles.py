"""Words without which a pattern cannot match, read off the pattern itself."""

import functools
import importlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

# Text is compared without these, so that lines which differ only in numbers are one: digits, what
# stands between them, blanks, NUL, and everything beyond ASCII.
DROPPED = bytes({*range(33), *b"0123456789.,-+", *range(127, 256)} - {10, 13})
_ENDS = bytes(10 if code == 13 else code for code in range(256))
_FEWEST = 3  # letters of a word that says anything
_MOST, _FEW = 32, 4  # words that are looked for in one another's place, of them by one character
# Words of which logs are full while all is well.
COMMON = frozenset({"error", "warning", "version", "memory", "device", "connection", "failed"})


def fold(text: bytes) -> bytes:
    """The text without numbers, a line for each update of a progress bar."""
    return text.translate(_ENDS, DROPPED)


Sets = list[tuple[bytes, ...]]


class Needles:
    """What must stand in a folded line that a pattern matches: of each set of words at least one.

    Read off the pattern once somebody asks. Sets stand first that are the least likely.

    Attributes:
        lower: sets of words of the line in lower case.
        cased: of the line as it is; empty where the pattern takes any case.
        anchored: the pattern asks for the beginning of a line.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    @functools.cached_property
    def _parsed(self) -> Any:
        return parser.parse(self._pattern)

    @functools.cached_property
    def lower(self) -> Sets:
        return _encoded(_needed(self._parsed, _lower))

    @functools.cached_property
    def cased(self) -> Sets:
        if _ANY_CASE.search(self._pattern):
            return []
        return _encoded(_needed(self._parsed, _cased))

    @functools.cached_property
    def anchored(self) -> bool:
        return any("AT_BEGINNING" in str(item[1]) for item in _flat(self._parsed))

    @property
    def best(self) -> tuple[bytes, ...]:
        """The set of `lower` that is the least likely to be met."""
        kept = _kept().get(self._pattern)
        return tuple(map(str.encode, kept)) if kept else next(iter(self.lower), ())


@functools.cache
def needles(pattern: str) -> Needles:
    """The needles of a pattern, each made once."""
    return Needles(pattern)


@functools.cache
def _kept() -> dict[str, list[str]]:
    """The best words of the patterns of this package, which to read off takes a third of a second.

    A pattern that is not there costs a moment more; `make words` writes them anew.
    """
    with open(KEPT, "rb") as file:
        return msgspec.json.decode(file.read(), type=dict[str, list[str]])


KEPT = f"{os.path.dirname(__file__)}/words.json"


def _encoded(sets: Iterable["Words"]) -> Sets:
    return [tuple(sorted(word.encode() for word in words)) for words in sorted(sets, key=_in_order)]


_ANY_CASE = re.compile(r"\(\?[a-z]*i")
Spell = Callable[[int], str]  # what a character becomes in a folded line
Words = frozenset[str]
NOTHING: Words = frozenset({""})


def may(needed: Iterable[Iterable[bytes]], line: bytes) -> bool:
    """Whether of each set a word stands in the line."""
    for words in needed:
        for word in words:
            if word in line:
                break
        else:
            return False
    return True


def _needed(items: Iterable[Any], spell: Spell, before: Words = NOTHING) -> list[Words]:
    """The sets; `before`: what may stand right before these items."""
    found: list[Words] = []
    runs, items = before, list(_flat(items))
    for place, item in enumerate(items):
        choices = _choices([item], spell)
        if choices and len(runs) * len(choices) <= _MOST:
            runs = frozenset(run + choice for run in runs for choice in choices)
        elif choices:
            found, runs = [*found, runs], choices
        if choices:
            continue
        name, value = str(item[0]), item[1]
        if name == "BRANCH":
            after = list(
                itertools.takewhile(lambda one: _choices([one], spell), items[place + 1 :])
            )
            sides = [_best(_needed([*one, *after], spell, runs)) for one in value[1]]
            found += [NOTHING.union(*sides) - NOTHING] if all(sides) else []
        elif name in _REPEATS and value[0] > 0:
            found += _needed(value[2], spell)
        found, runs = [*found, runs], NOTHING
    sets = [words for words in dict.fromkeys([*found, runs]) if min(map(len, words), default=0)]
    enough = min(_FEWEST, max((min(map(len, words)) for words in sets), default=0))
    return [words for words in sets if min(map(len, words)) >= enough]


_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def _best(sets: Sequence[Words]) -> Words:
    """The set of which a word is the least likely to stand in any line."""
    return min(sets, key=likely, default=frozenset())


def _in_order(words: Words) -> tuple[float, list[str]]:
    return likely(words), sorted(words)


def likely(words: Words) -> float:
    """How likely one of the words stands in any line, roughly."""
    return sum(0.2 if word in COMMON else 0.25 ** min(len(word), 8) for word in words)


def _flat(items: Iterable[Any]) -> Iterable[Any]:
    """The items of a pattern, those in groups too."""
    for item in items:
        if str(item[0]) == "SUBPATTERN":
            yield from _flat(item[1][-1])
        elif str(item[0]) == "ATOMIC_GROUP":
            yield from _flat(item[1])
        else:
            yield item


def _choices(items: Iterable[Any], spell: Spell) -> Words:
    """What items can add to a line, if that is a few words; empty: it is not."""
    found = NOTHING
    for item in _flat(items):
        some = _choices_of(str(item[0]), item[1], spell)
        found = frozenset(one + other for one in found for other in some)
        if not 0 < len(found) <= _MOST:
            return frozenset()
    return found


def _choices_of(name: str, value: Any, spell: Spell) -> Words:
    if name in ("AT", "ASSERT", "ASSERT_NOT"):  # these take no room
        return NOTHING
    if name == "LITERAL":
        return frozenset({spell(value)})
    if name == "IN":
        return _members(value, spell)
    if name == "BRANCH":
        sides = [_choices(side, spell) for side in value[1]]
        return frozenset().union(*sides) if all(sides) else frozenset()
    if name in _REPEATS:
        inside = _choices(value[2], spell)
        if inside == NOTHING:
            return NOTHING
        if inside and value[1] == 1:
            return inside | NOTHING if value[0] == 0 else inside
    return frozenset()


def _members(value: Any, spell: Spell) -> Words:
    """Of a class of characters."""
    found: set[str] = set()
    for kind, which in value:
        if str(kind) == "LITERAL":
            found.add(spell(which))
        elif str(kind) == "RANGE":
            found |= {spell(code) for code in range(which[0], min(which[1], 0x80) + 1)}
        elif str(which) in ("CATEGORY_DIGIT", "CATEGORY_SPACE"):
            found.add("")
        else:
            return frozenset()
    return frozenset(found) if len(found) <= _FEW else frozenset()


@functools.cache
def _cased(code: int) -> str:
    return fold(bytes([code])).decode() if code < 128 else ""


def _lower(code: int) -> str:
    return _cased(code).lower()
