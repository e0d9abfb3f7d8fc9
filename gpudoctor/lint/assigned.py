"""Variables that a script sets once, to a plain value, put in where it uses them."""

import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from gpudoctor.lint.shell import Command, Word, commands, is_assignment
from gpudoctor.lint.source import Source

_DECLARE = {"export", "declare", "typeset", "readonly", "local"}
_OTHERWISE = {"for", "select", "read", "unset", "printf", "getopts", "mapfile", "readarray", "let"}
_ELSEWHERE = {"source", ".", "eval"}
_OPENING = {"if", "while", "until", "{", "for", "case", "select"}
_CLOSING = {"fi", "done", "esac", "}"}
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?(\+?)=")
_USED = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(\[@\])?\})$")


def resolved(source: Source, script: Sequence[Command]) -> list[Command]:
    """The commands, with what each variable surely holds in its place.

    Sure is what is set once in the script, under no condition, before it is used.
    """
    unsure = _unsure(script)
    values: dict[str, tuple[Word, ...]] = {}
    found = []
    for command in script:
        words = [new for word in command.words for new in _put_in(word, values)]
        found.append(replace(command, words=tuple(words or command.words)))
        if command.words[0].text in _ELSEWHERE:
            values.clear()
        for name, word in _assignments(found[-1]):  # which may use others
            held = None if name in unsure else _value(source, word)
            if held is not None:
                values[name] = held
    return found


def _unsure(script: Sequence[Command]) -> set[str]:
    """Names that are set twice, under a condition, or by other means than an assignment."""
    unsure: set[str] = set()
    once: set[str] = set()
    depth = 0
    for command in script:
        first = command.words[0].text
        opened = [*command.reserved, first]
        depth += sum(word in _OPENING for word in opened)
        for name, word in _assignments(command):
            appends = _ASSIGNED.match(word.text)
            if name in once or depth > 0 or command.behind not in ";\n" or (appends and appends[3]):
                unsure.add(name)
            once.add(name)
        if first in _OTHERWISE:
            unsure |= {word.text for word in command.words[1:]}
        depth -= first in _CLOSING
    return unsure


def _assignments(command: Command) -> Iterator[tuple[str, Word]]:
    """What the command sets for those that follow; `NAME=value program` sets nothing."""
    words = command.words[1:] if command.words[0].text in _DECLARE else command.words
    if len(words) < len(command.words) or all(map(is_assignment, words)):
        for word in words:
            if match := _ASSIGNED.match(word.text):
                yield match[1], word


def _value(source: Source, word: Word) -> tuple[Word, ...] | None:
    """The words that an assignment holds; None: not known."""
    match = _ASSIGNED.match(word.text)
    if match is None or match[2]:
        return None
    written = source.text[word.start : word.end]
    if written.startswith("(", match.end()):
        inside = commands(source, word.start + match.end() + 1, word.end - 1)
        held = [replace(w, borrowed=True) for part in inside for w in part.words]
        return None if any(w.opens for w in held) else tuple(held)
    return None if word.opens else (replace(word, text=word.text[match.end() :]),)


def _put_in(word: Word, values: dict[str, tuple[Word, ...]]) -> list[Word]:
    """The word, or those that it stands for."""
    alone = len(word.opens) == 1 and word.text == word.opens[0]
    text, left = word.text, []
    for use in word.opens:
        match = _USED.match(use)
        held = values.get(match[1] or match[2]) if match else None
        if match is None or held is None:
            left.append(use)
        elif match[3]:
            if alone:
                return list(held)
            left.append(use)
        else:
            text = text.replace(use, held[0].text if held else "", 1)
    if alone and not left and word.end - word.start == len(word.opens[0]):  # without quotes
        parts = text.split()
        return [replace(word, text=p, opens=(), borrowed=len(parts) > 1) for p in parts]
    return [replace(word, text=text, opens=tuple(left))]
