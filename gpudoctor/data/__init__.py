"""Versioned tables; every row says where it comes from and when it was read."""

import functools
from typing import Any

import msgspec


@functools.cache
def table(name: str, kind: Any = Any) -> Any:
    """A table by its file name without the ending, as what `kind` describes."""
    with open(f"{__path__[0]}/{name}.json", "rb") as file:
        return msgspec.json.decode(file.read(), type=kind)
