"""Which nodes there should be, and where they stand."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gpudoctor.hostlist import BadHostlist, unfold

NAMES = ("node", "name", "host", "hostname", "nodename", "node_name")
LIMIT_BYTES = 64 << 20


class BadInventory(ValueError):
    """A list of nodes that cannot be used; the message says why."""


class Expected(Struct, frozen=True):
    """Names of nodes, and what an inventory says of each: {"rack": "c2", "switch": "leaf-07"}."""

    places: Mapping[str, Mapping[str, str]] = {}

    @property
    def names(self) -> Collection[str]:
        return self.places.keys()


def expected_nodes(given: str) -> Expected:
    """The nodes of a file with a host list on each line, or of a host list itself.

    Raises:
        BadInventory: neither of the two.
    """
    try:
        is_file = Path(given).is_file()
    except (OSError, ValueError):
        is_file = False  # a long list of hosts is no name of a file
    if is_file:
        return _listed(_text(given).splitlines(), given)
    return _listed([given], "the list of nodes")


def inventory(path: str) -> Expected:
    """The nodes of an inventory: CSV with a header, JSON, or host lists.

    JSON is a list of names, a list of objects with a name, or an object of objects by name.

    Raises:
        BadInventory: it is none of these.
    """
    text = _text(path)
    if text.lstrip()[:1] in ("[", "{") and (found := _json(text, path)) is not None:
        return found
    header = text.lstrip("\ufeff").partition("\n")[0]
    columns = [word.strip().lower() for word in next(csv.reader([header]), [])]
    if len(columns) > 1 and set(columns) & set(NAMES):
        rows = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
        return _rows([{k: v for k, v in row.items() if k} for row in rows], path)
    return _listed(text.splitlines(), path)


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise BadInventory(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > LIMIT_BYTES:
        raise BadInventory(f"{path} is larger than {LIMIT_BYTES >> 20} MiB")
    return raw.decode("utf-8", "replace")


def _json(text: str, path: str) -> Expected | None:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None  # such as "[gpu-1]", a host list
    if isinstance(found, dict):
        rows = [{"name": name, **_object(about)} for name, about in found.items()]
        return _rows(rows, path)
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return _listed(found, path)
    if isinstance(found, list) and all(isinstance(each, dict) for each in found):
        return _rows(found, path)
    raise BadInventory(f"{path} is no list of nodes")


def _object(about: Any) -> dict[str, Any]:
    return about if isinstance(about, dict) else {}


def _rows(rows: Iterable[Mapping[str, Any]], path: str) -> Expected:
    places: dict[str, dict[str, str]] = {}
    for row in rows:
        known = {key: value for key, value in row.items() if value is not None}
        words = {key.strip().lower(): str(value).strip() for key, value in known.items()}
        names = [words[key] for key in NAMES if words.get(key)]
        if not names:
            raise BadInventory(f"{path}: a row has none of the columns {', '.join(NAMES)}")
        about = {key: word for key, word in words.items() if key not in NAMES and word}
        for name in _unfolded(names[0], path):
            places.setdefault(name, about)
    return _some(places, path)


def _listed(lines: Iterable[str], path: str) -> Expected:
    places: dict[str, Mapping[str, str]] = {}
    for line in lines:
        for name in _unfolded(line.partition("#")[0].strip(), path):
            places.setdefault(name, {})
    return _some(places, path)


def _some(places: Mapping[str, Mapping[str, str]], path: str) -> Expected:
    if not places:
        raise BadInventory(f"{path} names no node")
    return Expected(places)


def _unfolded(text: str, path: str) -> list[str]:
    try:
        return unfold(",".join(text.split()) if "[" not in text else text)
    except BadHostlist as error:
        raise BadInventory(f"{path}: {error}") from None
