"""The facts of a node, whether they are live or came from a file."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from gpudoctor.report import Node
from gpudoctor.snapshot import Fact, name_of
from gpudoctor.units import size

# What the page tells in tables and drawings of its own.
TOLD = frozenset({"all_reduce", "environment", "gpus", "job_python", "network", "rdma"})
F = TypeVar("F", bound=Fact)

MOST_ITEMS = 8  # of a list in a fact; all are in the JSON
MOST_INSIDE = 4  # of a list inside such an item
MOST_OF_A_LINE = 160  # characters


def read(facts: Mapping[str, Any], kind: type[F]) -> F | None:
    """A fact; None: it is not there, or not in the form that this version knows."""
    fact = facts.get(name_of(kind))
    if isinstance(fact, kind):
        return fact
    if not isinstance(fact, Mapping) or "absent" in fact:
        return None
    try:
        return msgspec.convert(fact, kind)
    except msgspec.ValidationError:
        return None


def rows_of(node: Node) -> dict[str, list[tuple[str, list[str]]]]:
    """Every fact that stands nowhere else as rows of a name and its lines."""
    facts = {}
    for name, fact in msgspec.to_builtins(node.facts).items():
        fields = fact if isinstance(fact, dict) else {"value": fact}
        if "absent" not in fields and name in TOLD:
            continue
        if "absent" in fields:
            fields = {"looking failed" if fields.get("broken") else "not there": fields["absent"]}
        rows = [(key.replace("_", " "), _lines(key, value)) for key, value in fields.items()]
        facts[name.replace("_", " ")] = [(key, _cut(lines)) for key, lines in rows if lines]
    return facts


def _cut(lines: list[str]) -> list[str]:
    return [f"{s[:MOST_OF_A_LINE]} …" if len(s) > MOST_OF_A_LINE else s for s in lines]


def _lines(name: str, value: Any) -> list[str]:
    """A field of a fact, one line for each item; none when there is nothing to say."""
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, int | float) for item in value):
            return [", ".join(map(str, value))]
        lines = [_words(name, item) for item in value[:MOST_ITEMS]]
        return lines + [f"and {len(value) - MOST_ITEMS} more"] * (len(value) > MOST_ITEMS)
    if isinstance(value, dict):
        return _lines("", [f"{key}: {_words(key, item)}" for key, item in value.items()])
    return [] if value is None or value == "" else [_words(name, value)]


def _words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_bytes") or name == "bytes"):
        return size(value)
    if isinstance(value, dict):
        kept = [(key, item) for key, item in value.items() if item not in (None, "", (), [], {})]
        return ", ".join(f"{key.replace('_', ' ')} {_words(key, item)}" for key, item in kept)
    if isinstance(value, list | tuple):
        if len(value) > MOST_INSIDE:
            value = [*value[:MOST_INSIDE], f"and {len(value) - MOST_INSIDE} more"]
        return ", ".join(_words(name, item) for item in value)
    return "none" if value is None else str(value)
