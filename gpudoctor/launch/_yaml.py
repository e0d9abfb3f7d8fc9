"""A few lines of YAML, without PyYAML's import: dictionaries, lists, strings and numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from gpudoctor.launch._shell import WIDTH

Node: TypeAlias = "str | int | Mapping[str, Node] | Sequence[Node]"

# What every reader of YAML takes for a string without quotes; sizes such as 8Gi included.
_PLAIN = re.compile(r"[A-Za-z/_][\w./-]*|\d+(?:[KMGT]i|[kmg])")
_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def dump(node: Mapping[str, Node], indent: str = "") -> list[str]:
    """Lines of block style; a list of scalars stands on one line."""
    lines = []
    for key, value in node.items():
        name = f"{indent}{_scalar(key)}:"
        if isinstance(value, Mapping):
            lines += [name, *dump(value, indent + "  ")]
        elif isinstance(value, str | int):
            lines.append(f"{name} {_scalar(value)}")
        elif not all(isinstance(item, str | int) for item in value):
            lines.append(name)
            for item in value:
                first, *rest = dump(item, indent + "  ")  # type: ignore[arg-type]
                lines += [f"{indent}- {first.lstrip()}", *rest]
        elif len(line := f"{name} [{', '.join(map(_scalar, value))}]") <= WIDTH:
            lines.append(line)
        else:
            lines += [name, *(f"{indent}- {_scalar(item)}" for item in value)]
    return lines


def _scalar(value: object) -> str:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return msgspec.json.encode(value).decode()  # JSON's strings are YAML's too
