"""Versioned tables; every row says where it comes from and when it was read."""

import functools
import pkgutil
from typing import Any

import msgspec


@functools.cache
def table(name: str) -> Any:
    """A table by its file name without the ending."""
    raw = pkgutil.get_data(__name__, f"{name}.json")
    return msgspec.json.decode(raw or b"")
