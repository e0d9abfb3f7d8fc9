"""A report decoded as far as a fleet needs it: what passed is passed over."""

import functools
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from gpudoctor.finding import Owner, Rung, Status
from gpudoctor.report import (
    LIMIT_BYTES,
    SCHEMA,
    BadReport,
    Cluster,
    Ignored,
    Redaction,
    SpelledFix,
    Step,
)
from gpudoctor.snapshot import Absent, Fact, Snapshot

NONE = Raw(b"[]")


class Quiet(Struct, tag_field="status"):
    """A result that needs no words."""

    status: ClassVar[Status]
    id: str
    topic: str
    title: str


class Passed(Quiet, tag="pass"):
    status: ClassVar[Status] = Status.PASS


class Skipped(Quiet, tag="skip"):
    status: ClassVar[Status] = Status.SKIP


class Found(Struct, tag_field="status", kw_only=True):
    """A result that people must hear of."""

    status: ClassVar[Status]
    id: str
    topic: str
    title: str
    owner: Owner
    summary: str = ""
    reason: str = ""
    why: str = ""
    evidence: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()
    fixes: tuple[SpelledFix, ...] = ()
    settings: Raw = NONE
    ignored: Ignored | None = None


class Failed(Found, tag="fail"):
    status: ClassVar[Status] = Status.FAIL


class Warned(Found, tag="warn"):
    status: ClassVar[Status] = Status.WARN


class Unknown(Found, tag="error"):
    status: ClassVar[Status] = Status.ERROR


class LeanNode(Struct):
    name: str
    facts: dict[str, Raw] = {}
    results: list[Passed | Skipped | Failed | Warned | Unknown] = []


class LeanRun(Struct):
    started: str
    seconds: float
    id: str = ""
    complete: bool = True
    launcher: str = "host"


class LeanReport(Struct):
    schema: str
    run: LeanRun
    nodes: list[LeanNode]
    cluster: Cluster | None = None
    redaction: Redaction = Redaction()
    next_steps: tuple[Step, ...] = ()


class Foreign(BadReport):
    """JSON that is something else; so nothing is missing."""


class _Marked(Struct):
    schema: str = "none"


_REPORT = msgspec.json.Decoder(LeanReport)
_MARKED = msgspec.json.Decoder(_Marked)
_ABSENT = msgspec.json.Decoder(Absent)


def lean(raw: bytes) -> LeanReport:
    """The report, so far.

    Raises:
        BadReport: not a report; the message says why, in the same words for the same cause.
    """
    if len(raw) > LIMIT_BYTES:
        raise BadReport(f"more than {LIMIT_BYTES >> 20} MiB; a node's report is far smaller")
    if not raw.strip():
        raise BadReport("empty")
    try:
        report = _REPORT.decode(raw)
    except RecursionError:
        raise BadReport("nested too deeply to be a report") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _why(raw, error) from None
    if report.schema != SCHEMA:
        raise _foreign(report.schema)
    if not report.nodes:
        raise BadReport("a report of no node")
    return report


def _why(raw: bytes, error: Exception) -> BadReport:
    try:
        schema = _MARKED.decode(raw).schema
    except msgspec.ValidationError:
        return Foreign("JSON, but not a report")
    except (msgspec.DecodeError, UnicodeDecodeError):
        cut = "truncated" in str(error)
        return BadReport("cut off: it ends too early" if cut else "not JSON")
    except RecursionError:
        return BadReport("nested too deeply to be a report")
    if schema != SCHEMA:
        return _foreign(schema)
    return BadReport(f"not a report as this version knows it ({error})")


def _foreign(schema: str) -> Foreign:
    if schema == "none":
        return Foreign("JSON, but not a report: it has no schema")
    if schema.startswith("gpudoctor.facts/"):
        return Foreign("facts: `gpudoctor check --facts FILE -f json` makes a report of them")
    return Foreign(f'of the schema "{schema[:80]}"; this version reads "{SCHEMA}"')


def some_facts(node: LeanNode, kinds: dict[str, type[Fact]]) -> Snapshot:
    """Those facts of a node that are asked for and have the shape that this version knows."""
    facts: dict[str, Any] = {}
    for name, kind in kinds.items():
        raw = node.facts.get(name)
        if raw is None:
            continue
        try:
            is_absent = b'"absent"' in bytes(memoryview(raw)[:32])
            facts[name] = (_ABSENT if is_absent else _of(kind)).decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # of another version: nothing is known of it
    return Snapshot(node.name, facts)


@functools.cache
def _of(kind: type[Fact]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
