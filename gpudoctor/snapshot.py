"""Facts of one machine, and their form as JSON: on the wire, on disk, in fixtures."""

import functools
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

SCHEMA = "gpudoctor.facts/1"
LIMIT_BYTES = 64 << 20  # a node's facts are about 20 kB


class Fact(Struct, frozen=True, kw_only=True):
    """Something that can be known about a machine: plain data, no behaviour that looks.

    A field that the machine does not have is None; a unit stands in the name.
    """


F = TypeVar("F", bound=Fact)


@functools.cache
def name_of(kind: type[Fact]) -> str:
    """The fact's name in JSON: ShmFiles is "shm_files"."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


class Absent(Struct, frozen=True):
    """A fact that is not there, and why.

    `broken` False: there is nothing to look at, checks are skipped. True: looking
    failed, so checks end in `error`.
    """

    absent: str
    broken: bool = False


class Snapshot(Struct, frozen=True):
    """All facts of one node, by name. A fact this version does not know stays as it came."""

    name: str
    facts: Mapping[str, Any] = {}

    def get(self, kind: type[F]) -> F | Absent:
        """The fact, or why it is not there."""
        fact = self.facts.get(name_of(kind))
        if isinstance(fact, kind) or isinstance(fact, Absent):  # noqa: SIM101  a union costs time
            return fact
        if fact is None:
            return Absent(f"{name_of(kind)} was not collected")
        return Absent(f"{name_of(kind)} is not what this version expects", broken=True)

    def replace(self, *facts: Fact) -> "Snapshot":
        """The same snapshot with these facts put in place."""
        return Snapshot(self.name, {**self.facts, **{name_of(type(f)): f for f in facts}})


class BadFacts(ValueError):
    """A facts file that cannot be used; the message says where and why."""


class _Node(Struct):
    name: str
    facts: dict[str, Any] = {}


class Marked(Struct):
    """Any document of ours, as far as it says what it is."""

    schema: str = "none"


class _Document(Struct):
    schema: str
    nodes: list[_Node]


def builtin_kinds() -> list[type[Fact]]:
    """Every kind of fact that gpudoctor itself knows."""
    import pkgutil

    from gpudoctor import facts

    modules = [m.name for m in pkgutil.iter_modules(facts.__path__, "gpudoctor.facts.")]
    found = [vars(importlib.import_module(name)).values() for name in modules]
    return [
        v
        for module, values in zip(modules, found, strict=True)
        for v in values
        if isinstance(v, type) and issubclass(v, Fact) and v.__module__ == module
    ]


def encode(document: object) -> bytes:
    """JSON of facts or reports, also where a name or a value of the machine is not UTF-8."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return msgspec.json.encode(_as_utf8(msgspec.to_builtins(document)))


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_utf8(name): _as_utf8(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_utf8(inner) for inner in value]
    return value


def dump(snapshots: Iterable[Snapshot]) -> bytes:
    """The facts file of these nodes."""
    return encode({"schema": SCHEMA, "nodes": list(snapshots)})


def is_of_facts(raw: bytes) -> bool:
    """Whether it says that it is a facts file; anything else may be a report."""
    try:
        return msgspec.json.decode(raw, type=Marked).schema.startswith("gpudoctor.facts/")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def load(raw: bytes, kinds: Iterable[type[Fact]] = ()) -> list[Snapshot]:
    """The snapshots in a facts file or in a JSON report.

    Args:
        raw: the file's bytes.
        kinds: facts that plug-ins brought, beside the built-in ones.

    Raises:
        BadFacts: not such a file, or a fact in it has the wrong shape.
    """
    if len(raw) > LIMIT_BYTES:
        raise BadFacts(f"more than {LIMIT_BYTES >> 20} MiB; a facts file is far smaller")
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except msgspec.ValidationError as error:
        raise BadFacts(f"not a facts file ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFacts(f"not JSON ({error})") from None
    except RecursionError:
        raise BadFacts("nested too deeply to be a facts file") from None
    if document.schema.partition("/")[0] not in ("gpudoctor.facts", "gpudoctor.report"):
        raise BadFacts(f'its schema is "{document.schema}", not "{SCHEMA}"')
    if document.schema.rpartition("/")[2] != "1":
        raise BadFacts(f'its schema is "{document.schema}"; this version reads only "{SCHEMA}"')
    known = {name_of(kind): kind for kind in [*builtin_kinds(), *kinds]}
    return [_snapshot(node, known) for node in document.nodes]


def _snapshot(node: _Node, known: Mapping[str, type[Fact]]) -> Snapshot:
    facts: dict[str, Any] = {}
    for name, value in node.facts.items():
        if isinstance(value, dict) and "absent" in value:
            kind: Any = Absent
        else:
            kind = known.get(name, Any)
        try:
            facts[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise BadFacts(f'node "{node.name}", fact "{name}": {error}') from None
    return Snapshot(node.name, facts)
