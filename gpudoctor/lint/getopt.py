"""Options of a command as getopt_long and its like read them, each with its place."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from gpudoctor.lint.run_line import Flag
from gpudoctor.lint.shell import Word
from gpudoctor.lint.source import Edit

LIKE = 0.8  # how like a known option one must be to be a slip of it, not a site's plug-in's
VERY_LIKE = 0.88  # so that it is clear which one is meant


def options(
    words: Sequence[Word], known: Mapping[str, Any], *, abbreviated: bool = False
) -> tuple[list[Flag], int]:
    """The options before the first word that is none, and the number of that word.

    Args:
        words: of one command, behind the program.
        known: a row of gpudoctor/data: valued, optional, switches, letters.
        abbreviated: any beginning that only one option has stands for it.
    """
    flags: list[Flag] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word.text == "--":
            return flags, at + 1
        if not word.text.startswith("-") or word.text == "-":
            break
        at += 1
        written, equals, value = word.text.partition("=")
        if written.startswith("--"):
            found = [(_full(written[2:], known, abbreviated), written, value)]
        else:
            found, equals = _letters(word.text, known), ""
        name, _, value = found[-1]
        end, opens, borrowed = word.end, word.opens, word.borrowed
        valued = (name if _is_known(name, known) else meant(name, known)) in known["valued"]
        if valued and not equals and not value and at < len(words):
            value, end = words[at].text, words[at].end
            opens += words[at].opens
            borrowed = borrowed or words[at].borrowed
            at += 1
        found[-1] = (name, found[-1][1], value)
        flags += [
            Flag(
                name=name,
                value=value,
                written=written,
                start=word.start,
                end=end,
                known=_is_known(name, known),
                opens=opens,
                borrowed=borrowed,
            )
            for name, written, value in found
        ]
    return flags, at


def is_slip(flag: Flag, known: Mapping[str, Any]) -> bool:
    """Whether an unknown option is a known one misspelt or cut too short."""
    if flag.known:
        return False
    names = _names(known)
    begins = any(name.startswith(flag.name) for name in names)
    return begins or bool(difflib.get_close_matches(flag.name, names, 1, LIKE))


def meant(name: str, known: Mapping[str, Any]) -> str:
    """The option that a misspelt one must be; empty: it may be several, or none."""
    return "".join(difflib.get_close_matches(name.replace("_", "-"), _names(known), 1, VERY_LIKE))


def spelled(flag: Flag, known: Mapping[str, Any]) -> Edit | None:
    """A misspelt option put right; None: nobody knows what is meant."""
    name = meant(flag.name, known)
    if not name or not flag.written.startswith("--"):
        return None
    return Edit(flag.start, flag.start + len(flag.written), f"--{name}")


def _full(name: str, known: Mapping[str, Any], abbreviated: bool) -> str:
    if not abbreviated or _is_known(name, known):
        return name
    begun = {full for full in _names(known) if full.startswith(name)}
    return begun.pop() if len(begun) == 1 else name


def _names(known: Mapping[str, Any]) -> list[str]:
    return [*known["valued"], *known.get("optional", ()), *known["switches"]]


def _is_known(name: str, known: Mapping[str, Any]) -> bool:
    return name in _names(known)


def _letters(text: str, known: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, as written, and value of each of "-N2" or "-ln4"."""
    found = []
    for number, letter in enumerate(text[1:], 1):
        name = known["letters"].get(letter, letter)
        takes = name in known["valued"] or name in known.get("optional", ())
        found.append((name, f"-{letter}", text[number + 1 :].removeprefix("=") if takes else ""))
        if takes:
            break
    return found
