"""Host names as Slurm folds them: "gpu-a-[007,012-014],login1"."""

import re
from collections.abc import Iterable, Iterator

_NUMBERED = r"(.*?)(\d+)(\D*)"
MOST = 100_000  # names in one list; a range is short to write and long to spell out


class BadHostlist(ValueError):
    """A list that names no hosts; the message says where."""


def fold(names: Iterable[str]) -> str:
    """The names, sorted, each once; those that differ in their last number as one."""
    groups: dict[tuple[str, int, str], set[int]] = {}
    order: dict[str, tuple[str, int, str] | None] = {}
    for name in sorted(set(names)):
        match = re.fullmatch(_NUMBERED, name)
        if match is None or any(mark in name for mark in "[],"):
            order[name] = None
            continue
        head, digits, tail = match.groups()
        # "9" and "10" are of one range, "09" and "10" of another: those have two digits.
        width = len(digits) if digits.startswith("0") and len(digits) > 1 else 0
        groups.setdefault((head, width, tail), set()).add(int(digits))
        order.setdefault(f"{head}{tail}", (head, width, tail))
    return ",".join(_folded(order, _padded(groups)))


def ranges(numbers: Iterable[int]) -> str:
    """Numbers, sorted, each once: "0-3,7"."""
    found = sorted(set(numbers))
    runs = _ranges(found) if found else ()
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _padded(groups: dict[tuple[str, int, str], set[int]]) -> dict[tuple[str, int, str], set[int]]:
    """Numbers without a leading zero that are as long as padded ones belong to those."""
    for head, width, tail in [key for key in groups if key[1]]:
        bare = groups.get((head, 0, tail), set())
        long = {number for number in bare if len(str(number)) == width}
        groups[head, width, tail] |= long
        bare -= long
    return {key: numbers for key, numbers in groups.items() if numbers}


def _folded(
    order: dict[str, tuple[str, int, str] | None], groups: dict[tuple[str, int, str], set[int]]
) -> Iterator[str]:
    words = [name for name, key in order.items() if key is None]
    for (head, width, tail), numbers in groups.items():
        ranges = [
            f"{first:0{width}d}" if first == last else f"{first:0{width}d}-{last:0{width}d}"
            for first, last in _ranges(sorted(numbers))
        ]
        single = len(ranges) == 1 and "-" not in ranges[0]
        words.append(f"{head}{ranges[0] if single else '[' + ','.join(ranges) + ']'}{tail}")
    return iter(sorted(words))


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def unfold(text: str) -> list[str]:
    """The names in a list as Slurm writes it, in its order.

    Raises:
        BadHostlist: brackets that do not match, a range that is none, or far too many names.
    """
    names: list[str] = []
    for word in _words(text):
        for name in _spelled(word):
            names.append(name)
            if len(names) > MOST:
                raise BadHostlist(f"more than {MOST} hosts")
    return names


def _words(text: str) -> Iterator[str]:
    """What stands between commas, those inside brackets left alone."""
    word, depth = "", 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth not in (0, 1):
            raise BadHostlist(f"the brackets of {text!r} do not match")
        if character == "," and not depth:
            yield from filter(None, [word.strip()])
            word = ""
        else:
            word += character
    if depth:
        raise BadHostlist(f"the brackets of {text!r} do not match")
    yield from filter(None, [word.strip()])


def _spelled(word: str) -> Iterator[str]:
    head, bracket, rest = word.partition("[")
    if not bracket:
        yield word
        return
    inside, _, tail = rest.partition("]")
    for part in inside.split(","):
        low, dash, high = part.partition("-")
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal()) or int(high) - int(low) > MOST:
            raise BadHostlist(f"{part!r} in {word!r} is no range of numbers")
        for number in range(int(low), int(high) + 1):
            for end in _spelled(tail):
                yield f"{head}{number:0{len(low)}d}{end}"
    if not inside:
        raise BadHostlist(f"nothing between the brackets of {word!r}")
