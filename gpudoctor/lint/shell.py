"""The commands in a shell script, word by word, each with its place in the text.

Enough of the grammar to find the launches in real scripts: quotes, expansions, continued lines,
comments, here documents, lists of commands. Nothing is run and nothing is expanded.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from gpudoctor.lint.source import BadLaunch, Source

_BLANK = " \t\r"
_OPERATORS = ";&|()\n"
_RESERVED = {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time", "coproc", "$"}
_PLAIN = re.compile(r"[^\s;&|()<>\\'\"$`#]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^\]]*\])?\+?=")
_NAME = re.compile(r"\$([A-Za-z_]\w*|[0-9@*#?$!-])")
# A backslash that does not end its line, though it looks so: blanks or a comment follow.
_TORN = re.compile(r"\\(?P<after>[ \t]+(#[^\n]*)?|\r)(?=\n)")
# What a manual leaves to be filled in: <path/to/models>. `sort <a >b` is none.
_PLACEHOLDER = re.compile(r"<[A-Za-z](?:[\w ./-]*[\w./-])?>(?![\w<>&])")
_HERE = re.compile(r"<<(-?)[ \t]*(?P<quote>['\"\\]?)([\w.+-]+)")


class Word(Struct, frozen=True):
    """A word of a command.

    Attributes:
        start: where it begins in the source.
        end: the character after it.
        text: without its quotes; what the shell would replace stands as written.
        opens: what the shell would replace: "$SHM", "$(id -u)".
        borrowed: it is from a variable, so that it stands elsewhere or among others.
    """

    start: int
    end: int
    text: str
    opens: tuple[str, ...] = ()
    borrowed: bool = False


class Command(Struct, frozen=True):
    """A simple command without its redirections; reserved words before it are left out.

    Attributes:
        words: assignments before the program included.
        torn: from where to where a backslash is followed by blanks or a comment, so that the
            shell ends the command there, against the looks of it.
        reserved: the reserved words before it: ("if", "!").
        behind: the character before which the command before it ended; "&" also of "&&".
    """

    words: tuple[Word, ...]
    torn: tuple[tuple[int, int], ...] = ()
    reserved: tuple[str, ...] = ()
    behind: str = "\n"

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return self.words[-1].end


def commands(source: Source, start: int = 0, end: int | None = None) -> list[Command]:
    """All simple commands between two offsets, in their order.

    Raises:
        BadLaunch: a quote or a bracket is never closed.
    """
    return list(_Reader(source, start, len(source.text) if end is None else end).commands())


def split(text: str) -> list[Command]:
    """The commands of a text that stands alone, as the one after `bash -c`; [] if it is none."""
    try:
        return commands(Source("", text))
    except BadLaunch:
        return []


def is_assignment(word: Word) -> bool:
    """Whether it sets a variable: NAME=value."""
    return _ASSIGNMENT.match(word.text) is not None


class _Reader:
    def __init__(self, source: Source, start: int, end: int) -> None:
        self._source = source
        self._text = source.text
        self._at = start
        self._end = end
        self._here: list[tuple[str, bool]] = []  # delimiters of here documents, and if tabs go

    def commands(self) -> Iterator[Command]:
        words: list[Word] = []
        torn: list[tuple[int, int]] = []
        behind = "\n"
        while self._at < self._end:
            char = self._text[self._at]
            if char in _BLANK:
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            elif match := _TORN.match(self._text, self._at, self._end):
                if words:
                    torn.append(match.span("after"))
                self._at = match.end() + 1
            elif char == "#":
                self._to_end_of_line()
            elif self._redirects():
                self._redirection()
            elif char == "&" and self._text.startswith("&>", self._at):
                self._at += 1
            elif not words and self._text.startswith("((", self._at) and self._arithmetic():
                continue
            elif char in _OPERATORS:
                yield from _command(words, torn, behind)
                words, torn, behind = [], [], char
                self._at += 1
                if char == "\n":
                    self._skip_documents()
            else:
                word = self._word()
                descriptor = word.text.isdigit() and self._text[self._at : self._at + 1] in "<>"
                if not descriptor or self._at == self._end:
                    words.append(word)
        yield from _command(words, torn, behind)

    def _arithmetic(self) -> bool:
        """Pass over ((1 << 3)), in which << starts no document; False: two subshells."""
        begin = self._at
        if self._bracketed(begin, []).endswith("))"):
            return True
        self._at = begin
        return False

    def _to_end_of_line(self) -> None:
        end = self._text.find("\n", self._at, self._end)
        self._at = self._end if end < 0 else end

    def _redirects(self) -> bool:
        at, text = self._at, self._text
        inside = text.startswith(("<(", ">("), at) or _PLACEHOLDER.match(text, at, self._end)
        return text[at] in "<>" and not inside

    def _redirection(self) -> None:
        here = _HERE.match(self._text, self._at, self._end)
        if here and not self._text.startswith("<<<", self._at):
            self._here.append((here[3], here[1] == "-"))
            self._at = here.end() + bool(here["quote"] and here["quote"] != "\\")
            return
        while self._at < self._end and self._text[self._at] in "<>&|":
            self._at += 1
        while self._at < self._end and self._text[self._at] in _BLANK:
            self._at += 1
        if self._at < self._end and self._text[self._at] not in _OPERATORS + "<>":
            self._word()

    def _skip_documents(self) -> None:
        for delimiter, tabs in self._here:
            while self._at < self._end:
                begin = self._at
                self._to_end_of_line()
                line = self._text[begin : self._at]
                self._at = min(self._at + 1, self._end)
                if (line.lstrip("\t") if tabs else line).rstrip("\r") == delimiter:
                    break
        self._here.clear()

    def _word(self) -> Word:
        start = self._at
        text: list[str] = []
        opens: list[str] = []
        while self._at < self._end:
            char = self._text[self._at]
            plain = _PLAIN.match(self._text, self._at, self._end)
            if plain or (char == "#" and self._at > start):
                piece = plain[0] if plain else char
                self._at += len(piece)
            elif char == "'":
                piece = self._until("'", self._at + 1)
            elif char == '"':
                piece = self._double(opens)
            elif char == "\\":
                if self._text.startswith("\\\n", self._at) or _TORN.match(self._text, self._at):
                    break
                piece = self._text[self._at + 1 : self._at + 2]
                self._at += 2
            elif char in "$`":
                piece = self._expansion(opens)
            elif char in "<>" and self._text.startswith("(", self._at + 1):
                piece = self._bracketed(self._at + 1, opens)
            elif left := _PLACEHOLDER.match(self._text, self._at, self._end):
                piece, self._at = left[0], left.end()
                opens.append(piece)
            elif char == "(" and text and _ASSIGNMENT.fullmatch("".join(text)):
                piece = self._bracketed(self._at, opens)  # NAME=(...)
            else:
                break
            text.append(piece)
        return Word(start, min(self._at, self._end), "".join(text), tuple(opens))

    def _until(self, mark: str, start: int) -> str:
        end = self._text.find(mark, start, self._end)
        if end < 0:
            raise self._bad(start - 1, f"a {mark} that is never closed")
        self._at = end + 1
        return self._text[start:end]

    def _double(self, opens: list[str]) -> str:
        begin = self._at
        text: list[str] = []
        self._at += 1
        while self._at < self._end:
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join(text)
            if char == "\\" and self._text[self._at + 1 : self._at + 2] in set('"\\$`\n'):
                text.append(self._text[self._at + 1].strip("\n"))
                self._at += 2
            elif char in "$`":
                text.append(self._expansion(opens))
            else:
                text.append(char)
                self._at += 1
        raise self._bad(begin, 'a " that is never closed')

    def _expansion(self, opens: list[str]) -> str:
        """From a $ or a backtick to the end of what the shell would replace."""
        begin, text = self._at, self._text
        if text[begin] == "`":
            self._until("`", begin + 1)
        elif text.startswith("$'", begin):
            return self._until("'", begin + 2)
        elif text.startswith("$(", begin):
            return self._bracketed(begin + 1, opens, "$")
        elif text.startswith("${", begin):
            self._until("}", begin + 2)
        elif name := _NAME.match(text, begin, self._end):
            self._at = name.end()
        else:
            self._at += 1
            return "$"
        opens.append(text[begin : self._at])
        return opens[-1]

    def _bracketed(self, begin: int, opens: list[str], before: str = "") -> str:
        """From a ( to the ) that closes it; quotes may hide brackets."""
        depth, self._at = 0, begin
        while self._at < self._end:
            char = self._text[self._at]
            if char == "'":
                self._until("'", self._at + 1)
                continue
            if char == '"':
                self._double([])
                continue
            depth += (char == "(") - (char == ")")
            self._at += 2 if char == "\\" else 1
            if depth == 0:
                opens.append(before + self._text[begin : self._at])
                return opens[-1]
        raise self._bad(begin, "a ( that is never closed")

    def _bad(self, offset: int, what: str) -> BadLaunch:
        return BadLaunch(f"line {self._source.line_at(offset)}: {what}")


def _command(words: list[Word], torn: list[tuple[int, int]], behind: str) -> Iterator[Command]:
    first = 0
    while first < len(words) and words[first].text in _RESERVED:
        first += 1
    if words[first:]:
        reserved = tuple(word.text for word in words[:first])
        yield Command(tuple(words[first:]), tuple(torn), reserved, behind)
