"""YAML with the place of every word: PyYAML's events, as a tree that can be pointed into."""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.lint.source import LIMIT_BYTES, BadLaunch, Source

MOST_NODES = 200_000  # with few characters to each, a file of LIMIT_BYTES has no more
MOST_DEPTH = 100  # a pod is nested some 15 deep
MOST_MERGED = 1000  # tables that one table takes in by "<<"

NULLS = ("", "~", "null", "Null", "NULL")
TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y")


class Node(Struct, eq=False, kw_only=True):
    """A part of a document, and where it is written."""

    start: int
    end: int


class Scalar(Node, eq=False, kw_only=True):
    """A word or a text. `is_open`: a template puts something into it, nobody knows what."""

    text: str
    plain: bool
    is_open: bool = False

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in NULLS

    @property
    def is_true(self) -> bool:
        return self.text in TRUE


class Item(Struct, eq=False):
    """A node in a list or under a key, and where it is written: an alias stands elsewhere."""

    node: Node
    start: int
    end: int
    key: Scalar | None = None


class Listing(Node, eq=False, kw_only=True):
    """A sequence; `flow` is [a, b]."""

    items: list[Item]
    flow: bool

    def scalars(self) -> Iterator[Scalar]:
        """The words in it."""
        for item in self.items:
            if isinstance(item.node, Scalar):
                yield item.node

    def tables(self) -> "Iterator[Table]":
        """The mappings in it."""
        for item in self.items:
            if isinstance(item.node, Table):
                yield item.node


class Table(Node, eq=False, kw_only=True):
    """A mapping; `flow` is {a: b}. What it takes in by "<<" is found as well."""

    items: list[Item]
    flow: bool

    def own(self, key: str) -> Item | None:
        """What stands under a key here; not what is merged in."""
        return next((item for item in self.items if item.key and item.key.text == key), None)

    def find(self, key: str) -> Item | None:
        """What stands under a key, here or in a table that is merged in."""
        return next((found for table in self._all() if (found := table.own(key))), None)

    def all_keys(self) -> list[Scalar]:
        """Every key once, those that are merged in last."""
        found: dict[str, Scalar] = {}
        for table in self._all():
            for item in table.items:
                if item.key and item.key.text != "<<":
                    found.setdefault(item.key.text, item.key)
        return list(found.values())

    def at(self, *path: str) -> Node | None:
        """The node below a path of keys; None where there is none, or nothing but null."""
        node: Node = self
        for key in path:
            item = node.find(key) if isinstance(node, Table) else None
            if item is None:
                return None
            node = item.node
        return None if isinstance(node, Scalar) and node.is_null and not node.is_open else node

    def table(self, *path: str) -> "Table | None":
        """The mapping below a path, if there is one."""
        node = self.at(*path)
        return node if isinstance(node, Table) else None

    def listing(self, *path: str) -> "Listing":
        """The sequence below a path; empty if there is none."""
        node = self.at(*path)
        return node if isinstance(node, Listing) else Listing(items=[], flow=False, start=0, end=0)

    def scalar(self, *path: str) -> Scalar | None:
        """The word below a path, if there is one and it is known."""
        node = self.at(*path)
        return node if isinstance(node, Scalar) and not node.is_open else None

    def text(self, *path: str) -> str:
        """The word below a path; empty if there is none."""
        found = self.scalar(*path)
        return found.text if found else ""

    def _all(self) -> "Iterator[Table]":
        """This table and those merged in, the nearest first."""
        tables, seen = [self], set()
        while tables:
            table = tables.pop(0)
            if id(table) in seen:
                continue
            seen.add(id(table))
            if len(seen) > MOST_MERGED:
                raise BadLaunch(f'more than {MOST_MERGED} mappings merged into one by "<<"')
            yield table
            merge = table.own("<<")
            if merge and isinstance(merge.node, Table):
                tables.insert(0, merge.node)
            elif merge and isinstance(merge.node, Listing):
                tables[:0] = merge.node.tables()


def documents(source: Source) -> list[Node]:
    """The documents in a file; empty ones left out.

    Raises:
        BadLaunch: it is not YAML, or too much of it.
    """
    if len(source.text) > LIMIT_BYTES:
        raise BadLaunch(f"more than {LIMIT_BYTES >> 20} MiB; a launch file is far smaller")
    if bad := _UNPRINTABLE.search(source.text):
        line = source.line_at(bad.start())
        raise BadLaunch(f"line {line}: the character U+{ord(bad[0]):04X} is not text")
    import yaml  # only for files of YAML

    tree = _Tree(source)
    try:
        for event in yaml.parse(
            tree.text,
            Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
        ):
            tree.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = "; a template? then render it first" if tree.is_template else ""
        problem = error.problem or error.context
        raise BadLaunch(f"line {line}: not YAML: {problem}{hint}") from None
    return tree.roots


def is_template(source: Source) -> bool:
    """Whether Helm or another tool must fill it in before it is YAML."""
    return bool(_EXPRESSION.search(source.text))


_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)  # Helm, Go, Jinja
_OPEN = "\ue000"  # stands for each character of a template's expression
_ALONE = re.compile(rf"^[ \t]*{_OPEN}[ \t{_OPEN}]*$", re.MULTILINE)


def _covered(text: str) -> str:
    """A template as plain YAML of the same length: its expressions are words that nobody knows."""
    text = _EXPRESSION.sub(lambda found: re.sub(r"[^\r\n]", _OPEN, found[0]), text)
    return _ALONE.sub(lambda found: " " * len(found[0]), text)


class _Tree:
    """Grows from events. Aliases share a node: no file becomes larger than it is written."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_template = is_template(source)
        self.text = _covered(source.text) if self.is_template else source.text
        self.roots: list[Node] = []
        self.count = 0
        self._bom = int(source.text.startswith("\ufeff"))
        self.text = self.text[self._bom :]
        self._above: list[Listing | Table] = []
        self._keys: list[Scalar | None] = []
        self._names: list[str | None] = []
        self._anchors: dict[str, Node] = {}

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        start, end = event.start_mark.index + self._bom, event.end_mark.index + self._bom
        if kind == "DocumentStartEvent":
            self._anchors.clear()
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                self._stop(start, f"there is no &{event.anchor} above this")
            self._add(self._anchors[event.anchor], start, end)
        elif kind == "ScalarEvent":
            node = self._scalar(event, start, end)
            self._name(event.anchor, node)
            self._add(node, start, end)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            made = Listing if kind == "SequenceStartEvent" else Table
            if len(self._above) >= MOST_DEPTH:
                self._stop(start, f"nested more than {MOST_DEPTH} deep")
            self._above.append(made(items=[], flow=bool(event.flow_style), start=start, end=end))
            self._keys.append(None)
            self._names.append(event.anchor)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            done = self._above.pop()
            self._keys.pop()
            # Of block style, the end is where its last part ends, not where the next begins.
            done.end = end if done.flow or not done.items else done.items[-1].end
            self._name(self._names.pop(), done)
            self._add(done, done.start, done.end)

    def _scalar(self, event: Any, start: int, end: int) -> Scalar:
        plain = event.style in (None, "") and event.implicit[0]
        if _OPEN in event.value:
            words = self.source.text[start:end].strip("\"'")
            return Scalar(text=words, plain=plain, start=start, end=end, is_open=True)
        node = Scalar(text=event.value, plain=plain, start=start, end=end)
        node.is_open = self.is_template and node.is_null
        return node

    def _name(self, anchor: str | None, node: Node) -> None:
        if anchor:  # only now: nothing can contain itself
            self._anchors[anchor] = node

    def _add(self, node: Node, start: int, end: int) -> None:
        self.count += 1
        if self.count > MOST_NODES:
            self._stop(start, f"more than {MOST_NODES} values")
        if not self._above:
            if not (isinstance(node, Scalar) and node.is_null):
                self.roots.append(node)
            return
        above, key = self._above[-1], self._keys[-1]
        if isinstance(above, Listing):
            above.items.append(Item(node, start, end))
        elif key is None:
            if not isinstance(node, Scalar):
                self._stop(start, "a key must be a word")
            self._keys[-1] = replace(node, start=start, end=end)
        else:
            few = len(above.items) < 1000
            present = above.own(key.text) if few and key.text != "<<" else None
            if present and present.key and not self.is_template:
                first = self.source.line_at(present.key.start)
                self._stop(key.start, f'"{key.text}" is there already (line {first})')
            above.items.append(Item(node, start, end, key))
            self._keys[-1] = None

    def _stop(self, at: int, why: str) -> NoReturn:
        raise BadLaunch(f"line {self.source.line_at(at)}: {why}")
