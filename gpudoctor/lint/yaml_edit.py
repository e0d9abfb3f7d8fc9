"""Changes of YAML that leave everything else as it is written: comments, order, layout."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpudoctor.launch._yaml import dump
from gpudoctor.lint.source import Edit, Source
from gpudoctor.lint.yaml_text import Item, Listing, Node, Scalar, Table

# What tells the entries of a list of mappings apart, the first that they have.
_IDENTITY = ("mountPath", "target", "name")

_COLON = re.compile(r"\s*:")
_ANCHOR = re.compile(r"&\S+(?:\s+(?:#[^\n]*)?)*")


def merged(source: Source, table: Table, wanted: Mapping[str, Any]) -> list[Edit]:
    """The changes after which a mapping says what is wanted as well.

    Mappings are merged; lists grow by what they lack; entries of lists that are about the same
    name are merged. What comes from `<<` is overridden here if it is a word, and else changed
    where it stands.
    """
    edits: list[Edit] = []
    new: dict[str, Any] = {}
    for key, value in wanted.items():
        item = table.find(key)
        if item is None or (table.own(key) is None and isinstance(item.node, Scalar)):
            new[key] = value
        else:
            edits += _changed(source, item, value)
    return [*edits, *([_added(source, table, new)] if new else [])]


def _changed(source: Source, item: Item, value: Any) -> list[Edit]:
    node = item.node
    if isinstance(value, Mapping) and isinstance(node, Table):
        return merged(source, node, value)
    if isinstance(value, Mapping) and isinstance(node, Listing):
        return _assigned(source, item, node, value)  # environment: [A=B, C=D]
    if isinstance(value, list | tuple) and isinstance(node, Listing):
        return _grown(source, item, node, value)
    if isinstance(value, list | tuple) and isinstance(node, Scalar) and not node.is_null:
        value = [*([node.text] if all(map(_is_word, value)) else []), *value]  # tmpfs: /tmp
    if isinstance(node, Scalar) and not isinstance(value, Mapping | list | tuple):
        return [] if node.text == str(value) else [replaced(source, item, value)]
    return [replaced(source, item, value)]


def replaced(source: Source, item: Item, value: Any) -> Edit:
    """Another value under a key."""
    start, end = _after_anchor(source, item.start), item.end
    if source.text[end - 1 : end] == "\n":  # of a block text
        end = _line_end(source, end)
    if item.key is None:
        return Edit(start, end, _word(value))
    colon = _COLON.match(source.text, item.key.end)
    if colon is None:  # {key}
        return Edit(item.key.end, item.key.end, f": {_flow(value)}")
    if isinstance(item.node, Scalar) and _is_word(value):
        return Edit(start, end, f"{' ' if start == item.node.end else ''}{_word(value)}")
    if _is_flow_at(source, item) or _is_word(value):
        return Edit(colon.end(), end, f" {_flow(value)}")
    first, *rest = dump({item.key.text: value}, " " * _column(source, item.key.start))
    return Edit(colon.end(), end, "".join([first.partition(":")[2], *_lines(source, rest)]))


def removed(source: Source, above: Table | Listing, items: Sequence[Item]) -> list[Edit]:
    """Entries less."""
    gone = [item in items for item in above.items]
    kept = [item for item in above.items if item not in items]
    found: list[Edit] = []
    done = -1
    for place, item in enumerate(above.items):
        if not gone[place] or item.start < done:
            continue
        if not above.flow and _is_alone(source, above, item):
            # With the line's break before it, so that what is added at the end of it still can be.
            start = _before_break(source, source.start_of(source.line_at(_first(item))) - 1)
            found.append(Edit(start, _line_end(source, item.end), ""))
            continue
        after = [other for other in kept if other.start > item.start]
        if after:  # up to what stays
            done = _first(after[0])
            found.append(Edit(_first(item), done, ""))
            continue
        before = [other.end for other in kept] if above.flow else []
        empty = "{}" if isinstance(above, Table) and not above.flow else ""
        done = above.items[-1].end
        found.append(Edit(before[-1] if before else _first(item), done, empty))
    return found


def _first(item: Item) -> int:
    return item.key.start if item.key else item.start


def _is_alone(source: Source, above: Table | Listing, item: Item) -> bool:
    """Whether an entry has its lines for itself, and a line above them."""
    start = source.start_of(source.line_at(_first(item)))
    text = source.text[start : _first(item)].strip()
    return start > 0 and (not text or (isinstance(above, Listing) and text == "-"))


def prepended(source: Source, present: Listing, words: Sequence[str]) -> Edit:
    """Words before the first of a list."""
    if present.flow or not present.items:
        at = present.items[0].start if present.items else present.start + 1
        rest = ", " if present.items else ""
        return Edit(at, at, ", ".join(map(_flow, words)) + rest)
    at = _after_anchor(source, present.start)
    end, column = _lines(source, [""])[0], " " * _column(source, at)
    return Edit(at, at, "".join(f"- {_word(word)}{end}{column}" for word in words))


def _added(source: Source, table: Table, new: Mapping[str, Any]) -> Edit:
    if table.flow:
        return _into_flow(table, _flow(new)[1:-1])
    first = table.items[0].key
    column = _column(source, first.start) if first else 0
    return _below(source, table.items[-1].end, dump(new, " " * column))


def _grown(source: Source, item: Item, present: Listing, wanted: Sequence[Any]) -> list[Edit]:
    edits: list[Edit] = []
    new = []
    for value in wanted:
        if isinstance(value, Mapping):
            same = next((t for t in present.tables() if _is_about(t, value)), None)
            if same is None:
                new.append(value)
            else:
                edits += merged(source, same, value)
        elif str(value) not in [scalar.text for scalar in present.scalars()]:
            new.append(value)
    return [*edits, *([_appended(source, item, present, new)] if new else [])]


def _assigned(
    source: Source, item: Item, present: Listing, wanted: Mapping[str, Any]
) -> list[Edit]:
    edits: list[Edit] = []
    new = []
    for name, value in wanted.items():
        line = f"{name}={value}"
        found = [i for i in present.items if _name_of(i.node) == name]
        edits += [replaced(source, i, line) for i in found if _text(i.node) != line]
        new += [] if found else [line]
    return [*edits, *([_appended(source, item, present, new)] if new else [])]


def _appended(source: Source, item: Item, present: Listing, new: Sequence[Any]) -> Edit:
    if present.flow:
        return _into_flow(present, ", ".join(map(_flow, new)))
    column = " " * _column(source, _after_anchor(source, present.start))
    lines = []
    for value in new:
        if isinstance(value, Mapping):
            first, *rest = dump(value, column + "  ")
            lines += [f"{column}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{column}- {_word(value)}")
    return _below(source, present.items[-1].end, lines)


def _into_flow(node: Table | Listing, text: str) -> Edit:
    at = node.items[-1].end if node.items else node.end - 1
    return Edit(at, at, f", {text}" if node.items else text)


def _below(source: Source, offset: int, lines: Sequence[str]) -> Edit:
    """Lines after the one in which something ends."""
    at = _line_end(source, offset)
    return Edit(at, at, "".join(_lines(source, lines)))


def _lines(source: Source, lines: Sequence[str]) -> list[str]:
    end = "\r\n" if "\r\n" in source.text else "\n"
    return [f"{end}{line}" for line in lines]


def _line_end(source: Source, offset: int) -> int:
    """Where a line ends, before its break; a block text ends after the break of its last line."""
    text = source.text
    if offset and text[offset - 1] == "\n":
        return _before_break(source, len(text[:offset].rstrip("\r\n \t")))
    at = text.find("\n", offset)
    return _before_break(source, len(text) if at < 0 else at)


def _before_break(source: Source, at: int) -> int:
    return at - 1 if at and source.text[at - 1] == "\r" else at


def _after_anchor(source: Source, start: int) -> int:
    """Behind the &name of a node, which others may point to, and a comment there."""
    found = _ANCHOR.match(source.text, start)
    return found.end() if found else start


def _column(source: Source, offset: int) -> int:
    return offset - source.start_of(source.line_at(offset))


def _is_flow_at(source: Source, item: Item) -> bool:
    """Whether an entry stands inside braces, where lines of block style cannot."""
    key = item.key
    if key is None:
        return True
    before = source.text[source.start_of(source.line_at(key.start)) : key.start]
    return bool(before.strip(" -"))


def _is_about(table: Table, value: Mapping[str, Any]) -> bool:
    key = next((key for key in _IDENTITY if key in value), None)
    return key is not None and table.text(key) == str(value[key])


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _name_of(node: Node) -> str:
    return _text(node).partition("=")[0]


def _is_word(value: Any) -> bool:
    return not isinstance(value, Mapping | list | tuple)


def _word(value: Any) -> str:
    return dump({"k": value})[0].removeprefix("k: ") if _is_word(value) else _flow(value)


def _flow(value: Any) -> str:
    """Flow style as JSON has it, so that a manifest in JSON stays one."""
    return json.dumps(value, ensure_ascii=False)
