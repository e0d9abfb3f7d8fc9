"""A launch file, what was found in it, and how it is changed."""

import bisect
from collections.abc import Callable, Sequence

from msgspec import Struct

from gpudoctor.facts.launch import Launch
from gpudoctor.launch.settings import Setting

LIMIT_BYTES = 1 << 20  # a launch file is a page or two
MOST = 200  # launches in one file; each is judged by some twenty checks


class BadLaunch(ValueError):
    """A file that cannot be read as a launch; the message says where and why: "line 3: ..."."""


class Source:
    """A file's text, and where its lines begin.

    Attributes:
        name: as the user gave it; "-" is standard input.
        text: what is in it.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts = [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]

    def line_at(self, offset: int) -> int:
        """The number of the line, from 1, in which a character stands."""
        return bisect.bisect_right(self._starts, offset)

    def start_of(self, line: int) -> int:
        """The offset of a line's first character."""
        return self._starts[line - 1]


class Edit(Struct, frozen=True):
    """Characters from `start` to `end` of the text, replaced by others."""

    start: int
    end: int
    text: str


class Found(Struct, frozen=True):
    """One launch in a file.

    Attributes:
        launch: what it says.
        line: where it begins.
        edits: how the file must be changed to say these settings, merged already, as well.
        start: where its text begins, if it can be shown alone, as a command can.
        end: the character after it; 0: it cannot be shown alone.
    """

    launch: Launch
    line: int
    edits: Callable[[Sequence[Setting]], list[Edit]]
    start: int = 0
    end: int = 0


def edited(source: Source, edits: Sequence[Edit]) -> str:
    """The text with all edits done.

    Raises:
        ValueError: two of them overlap.
    """
    text, at = [], 0
    # Launches may share a part of the file: what several want of it is done once.
    for edit in sorted(dict.fromkeys(edits), key=lambda edit: (edit.start, edit.end)):
        if edit.start < at:
            raise ValueError(f"two changes of line {source.line_at(edit.start)}")
        text += [source.text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*text, source.text[at:]])
