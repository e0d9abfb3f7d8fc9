"""Lines of text for people, wrapped to a page, with nothing in them that a terminal obeys."""

from collections.abc import Iterable, Sequence

from gpudoctor.report import Page

BOLD, DIM = "1", "2"

# What looks alike in ASCII; anything else is shown as its number.
_LIKE = str.maketrans(
    {"–": "-", "—": "-", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "→": "->", "·": ".", "µ": "u"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "✓": "[ok]", "✗": "[x]"}
)

Span = tuple[str, str]  # a piece of text and its style


def clean(text: str) -> str:
    """One line of text that a terminal or a browser shows as it is.

    Names, paths and messages come from the machine: an escape sequence or a character that
    turns the direction of writing in them must be seen, not obeyed.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode()
        for c in text
    )


class Sheet:
    """Lines that fit a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._lines: list[str] = []

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def words(self, text: str) -> str:
        """The text in characters that may be shown here."""
        text = clean(text)
        if self.page.unicode or text.isascii():
            return text
        return text.translate(_LIKE).encode("ascii", "backslashreplace").decode()

    def gap(self) -> None:
        """An empty line, unless there is one or nothing stands above it."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def line(self, *spans: Span, right: Span = ("", "")) -> None:
        """Pieces in one line, cut at the edge, and one piece at its end if it finds room."""
        left, used = "", 0
        for text, style in spans:
            text = cut(self.words(text), self.page.width - used)
            left += self._paint(text, style)
            used += columns(text)
        text = self.words(right[0])
        room = self.page.width - used - columns(text)
        if text and room >= 2:
            left += " " * room + self._paint(text, right[1])
        self._lines.append(left.rstrip(" "))
        if text and room < 2:
            self.say(text, indent=2, style=right[1])

    def say(self, text: str, *, indent: int = 0, label: str = "", style: str = "") -> None:
        """Running text, wrapped. The label stands before it in bold."""
        atoms = [*label.split(), *self.words(text).split()]
        for line in _wrap(atoms, self.page.width - indent):
            start = label if label and line.startswith(label) else ""
            painted = self._paint(start, BOLD) + self._paint(line[len(start) :], style)
            self._lines.append(" " * indent + painted)
            label = ""

    def bullet(self, text: str) -> None:
        """An entry of a list, wrapped."""
        dash = "–" if self.page.unicode else "-"
        for line in _wrap(self.words(text).split(), self.page.width - 4):
            self._lines.append(f"  {dash} {line}")
            dash = " "

    def pack(self, parts: Sequence[str], gap: str, *, style: str = "") -> None:
        """Parts in one line, or in more when they do not fit."""
        for line in _wrap([self.words(part) for part in parts], self.page.width, gap):
            self._lines.append(self._paint(line, style))

    def paste(self, lines: Iterable[str], *, indent: int = 0) -> None:
        """Lines that somebody pastes: never wrapped, never cut."""
        for line in lines:
            self._lines.append((" " * indent + self.words(line)).rstrip())

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.page.color and style and text else text


def _wrap(atoms: Iterable[str], width: int, gap: str = " ") -> list[str]:
    """Lines of atoms; one that is wider than a line is broken."""
    width = max(width, 10)
    lines: list[str] = []
    for atom in atoms:
        if lines and columns(lines[-1]) + len(gap) + columns(atom) <= width:
            lines[-1] += gap + atom
            continue
        while columns(atom) > width:
            lines.append(_head(atom, width))
            atom = atom[len(lines[-1]) :]
        if atom:
            lines.append(atom)
    return lines


def cut(text: str, width: int) -> str:
    return text if columns(text) <= width else _head(text, max(width - 3, 0)) + "..."


def _head(text: str, width: int) -> str:
    """As much of the text as fits."""
    while columns(text) > width:
        text = text[: min(len(text) - 1, width)]
    return text


def columns(text: str) -> int:
    """How wide a terminal shows it."""
    if text.isascii() or text.translate(_LIKE).isascii():  # our marks are as narrow as letters
        return len(text)
    import unicodedata  # a megabyte, rarely needed

    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
