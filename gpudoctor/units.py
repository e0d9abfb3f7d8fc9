"""Sizes, counts and sentences as people write them: 64 MiB, 16g, unlimited, 3 files."""

import re

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MOST = 1 << 60  # no machine has so many bytes, no model so many parameters

_FACTORS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
_THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def size(count: int | None) -> str:
    """Bytes for people, in binary units; None is unlimited."""
    if count is None:
        return "unlimited"
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(count) >= unit:
            # Rounded down: a limit must never look larger than it is.
            tenths = count * 10 // unit
            return f"{tenths / 10:g} {name}" if tenths < 1000 else f"{tenths // 10} {name}"
    return f"{count} B"


def parse_size(text: str) -> int:
    """Bytes of "64m", "16GiB", "5.75 MB" (all binary, as docker reads them).

    Raises:
        ValueError: the text is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512MiB or 16g")
    return int(_possible(text, float(match[1]) * _FACTORS[match[2].lower()]))


def parse_count(text: str) -> int:
    """A number of "10e9", "7B", "345M", "1.5T": decimal, as models are named.

    Raises:
        ValueError: the text is not a count.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\d{1,2})?)\s*([kKmMbBtT]?)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a count such as 10e9, 7B or 345M")
    return round(_possible(text, float(match[1]) * _THOUSANDS[match[2].lower()]))


def _possible(text: str, value: float) -> float:
    if value > MOST:
        raise ValueError(f"{brief(text, 30)!r} is more than there is of anything")
    return value


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below the count."""
    return 1 << max(0, count - 1).bit_length()


def count_of(number: int, noun: str, plural: str = "") -> str:
    """ "1 file", "3 files"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def brief(text: str, most: int = 79) -> str:
    """The text, or as many whole words of it as there is room for, and "..."."""
    if len(text) <= most:
        return text
    head, _, cut = text[: most - 2].rpartition(" ")
    if len(cut) > most // 2:  # a path, or a list of names
        return f"{text[: most - 3]}..."
    return f"{head.rstrip(' ,;:-')}..."
