"""The report: the one document that every format renders and that JSON publishes."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from gpudoctor.finding import Basis, Owner, Rung, Status
from gpudoctor.launch.settings import AnySetting
from gpudoctor.snapshot import Marked

SCHEMA = "gpudoctor.report/1"
LIMIT_BYTES = 64 << 20  # a node's report is about 100 kB


class SpelledFix(Struct, frozen=True, kw_only=True):
    """A fix for one launcher: what to say, and lines to paste."""

    launcher: str = field(name="for")
    text: str
    commands: tuple[str, ...] = ()
    needs_root: bool = False


class Ignored(Struct, frozen=True):
    """Why a result does not count, and until when (a date, or empty: for good)."""

    reason: str
    expires: str = ""


class Place(Struct, frozen=True):
    """Where in a launch file a result belongs; lines count from 1."""

    file: str
    line: int


class Result(Struct, frozen=True, kw_only=True):
    """One check on one node."""

    id: str
    topic: str
    title: str
    status: Status
    owner: Owner
    summary: str = ""
    reason: str = ""  # of skip and error
    why: str = ""  # what breaks later; of what passed or was skipped, nothing does
    evidence: tuple[str, ...] = ()
    ladder: tuple[Rung, ...] = ()
    basis: Basis | None = None
    settings: tuple[AnySetting, ...] = ()
    fixes: tuple[SpelledFix, ...] = ()
    symptoms: tuple[str, ...] = ()
    url: str = ""
    seconds: float = 0.0
    ignored: Ignored | None = None
    place: Place | None = None  # of what `lint` judges
    nodes: tuple[str, ...] = ()  # of a check over the cluster: those that it blames


class Node(Struct, frozen=True, kw_only=True):
    """One machine: what was seen and how it was judged."""

    name: str
    view: tuple[str, ...] = ()  # from where it was seen: "docker container", "root", ...
    facts: Mapping[str, Any] = {}
    results: tuple[Result, ...] = ()
    probes: Mapping[str, float] = {}  # seconds by fact


class Tool(Struct, frozen=True):
    name: str
    version: str


class Run(Struct, frozen=True, kw_only=True):
    """How the report came about. `started` is UTC, ISO 8601."""

    id: str
    started: str
    seconds: float
    argv: tuple[str, ...]
    profile: str
    complete: bool = True
    strict: bool = False
    launcher: str = "host"
    remarks: tuple[str, ...] = ()  # an expired ignore, an unknown setting


class Step(Struct, frozen=True, kw_only=True):
    """What to do next, for one owner: all of that owner's findings in one command."""

    owner: Owner
    launcher: str = field(name="for")
    text: str
    command: str = ""
    needs_root: bool = False


class Cluster(Struct, frozen=True, kw_only=True):
    """What no node can know alone, and how it was judged.

    Attributes:
        facts: members, links, all_reduce, pair_reduce.
        results: of the checks over the cluster.
        missing: the nodes that were expected by name and did not come.
        exclude: the nodes that a job should do without, and how to say so by launcher.
    """

    facts: Mapping[str, Any] = {}
    results: tuple[Result, ...] = ()
    missing: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exclude_lines: Mapping[str, str] = {}


LEVELS = ("none", "internal", "public")  # of redaction, from what hides least


def hides_more(level: str, other: str) -> bool:
    """Whether a level of redaction hides more than another; one that is not known hides all."""
    ranks = {known: rank for rank, known in enumerate(LEVELS)}
    return ranks.get(level, len(ranks)) > ranks.get(other, len(ranks))


class Redaction(Struct, frozen=True, kw_only=True):
    """What was taken out before the report left.

    Attributes:
        level: "none", "internal", "public".
        replaced: how many values by kind: "host name", "address", "user", ...
    """

    level: str = "none"
    replaced: Mapping[str, int] = {}


class Report(Struct, frozen=True, kw_only=True):
    """Everything that is known at the end of a run."""

    schema: str = SCHEMA
    tool: Tool
    run: Run
    status: Status
    exit_code: int
    counts: Mapping[str, int]
    nodes: tuple[Node, ...]
    cluster: Cluster | None = None
    redaction: Redaction = Redaction()
    next_steps: tuple[Step, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        """All results of all nodes, and of the cluster."""
        of_nodes = tuple(result for node in self.nodes for result in node.results)
        return of_nodes + (self.cluster.results if self.cluster else ())


class Page(Struct, frozen=True):
    """What a format may use: colour, characters beyond ASCII, columns, how much to say.

    `verbosity`: -2 nothing, -1 findings only, 0 the usual, 1 also what passed.
    """

    color: bool = False
    unicode: bool = True
    width: int = 80
    verbosity: int = 0


def verdict(results: tuple[Result, ...]) -> Status:
    """The worst status that counts; `skip` when nothing was seen."""
    seen = {result.status for result in results if result.ignored is None}
    for status in (Status.FAIL, Status.ERROR, Status.WARN, Status.PASS):
        if status in seen:
            return status
    return Status.SKIP


def exit_code(status: Status, *, strict: bool = False) -> int:
    """The exit code of a finished run.

    0 nothing failed (warnings allowed; with strict they make 1), 1 something failed,
    3 no verdict: a check ended in `error`, or nothing was seen. (2 is wrong usage, 130 and
    143 are interrupted runs; those are the command line's.)
    """
    if status is Status.FAIL or (strict and status is Status.WARN):
        return 1
    return 3 if status in (Status.ERROR, Status.SKIP) else 0


def counts(results: tuple[Result, ...]) -> dict[str, int]:
    """How many results ended how, ignored ones left out."""
    kept = [result.status for result in results if result.ignored is None]
    return {status.value: kept.count(status) for status in Status}


class BadReport(ValueError):
    """A file that is no report; the message says where and why."""


def load(raw: bytes) -> Report:
    """A report that `check -f json` wrote, here or elsewhere. Its facts stay plain JSON.

    Raises:
        BadReport: not such a file, or something in it has the wrong shape.
    """
    if len(raw) > LIMIT_BYTES:
        raise BadReport(f"more than {LIMIT_BYTES >> 20} MiB; a report is far smaller")
    try:
        schema = msgspec.json.decode(raw, type=Marked).schema
        if schema.startswith("gpudoctor.facts/"):
            raise BadReport("holds facts, not a report: `gpudoctor check --facts FILE -f json`")
        if schema != SCHEMA:
            raise BadReport(f'its schema is "{schema}"; this version reads only "{SCHEMA}"')
        return msgspec.json.decode(raw, type=Report)
    except msgspec.ValidationError as error:
        raise BadReport(f"not a report that this version knows ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReport(f"not JSON ({error})") from None
    except RecursionError:
        raise BadReport("nested too deeply to be a report") from None
