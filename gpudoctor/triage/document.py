"""What is known at the end: the one document that every format of `triage` renders."""

from msgspec import Struct, field

from gpudoctor.finding import Owner
from gpudoctor.launch.settings import AnySetting
from gpudoctor.report import Report, SpelledFix, Tool
from gpudoctor.rules.nccl_log import NcclLog
from gpudoctor.triage.rule import Role

SCHEMA = "gpudoctor.triage/1"


class Log(Struct, frozen=True, kw_only=True):
    """One log.

    Attributes:
        rank: that its path names.
        reason: why it, or the rest of it, could not be read.
    """

    name: str
    bytes: int = 0
    lines: int = 0
    rank: int | None = None
    reason: str = ""


class Spot(Struct, frozen=True, kw_only=True):
    """A line of a log. `line` counts from 1; `time` is as it stands there, or near by."""

    file: str
    line: int
    text: str
    rank: int | None = None
    host: str = ""
    pid: int | None = None
    time: str = ""


class Sighting(Struct, frozen=True, kw_only=True):
    """A rule that matched: what it says, and where it was seen.

    Attributes:
        rule: its id.
        count: of lines.
        ranks: that said it, as far as lines or paths tell.
        hosts: likewise.
        fixes: in the words of the launcher in question, or of none.
        checks: ids of those that would have seen it before the start.
        source: where the rule has it from.
    """

    rule: str
    role: Role
    means: str
    why: str = ""
    owner: Owner
    first: Spot
    count: int = 1
    ranks: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    settings: tuple[AnySetting, ...] = ()
    fixes: tuple[SpelledFix, ...] = ()
    checks: tuple[str, ...] = ()
    source: str = ""


class Blamed(Struct, frozen=True, kw_only=True):
    """The process of which torchrun says that it failed first."""

    rank: int
    host: str = ""
    time: str = ""
    exit_code: int | None = None
    spot: Spot


class Nccl(Struct, frozen=True, kw_only=True):
    """What NCCL or RCCL chose, and what is to be said of it."""

    chosen: NcclLog
    remarks: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()


class Triage(Struct, frozen=True, kw_only=True):
    """What went wrong, as far as logs tell.

    Attributes:
        launcher: in whose words fixes are.
        found: what `first` is: "cause", or without one "symptom" or "report"; "nothing".
        first: what went wrong first.
        only_report: ranks that tell of it, and are not where it happened.
        others: causes, symptoms and reports after the first, in their order.
        notes: worth knowing; they end no job.
        blamed: by torchrun.
        unfinished: ranks that began to set up NCCL and did not come to an end of it.
        absent: ranks of those communicators that did not even begin.
        checks: all that would have seen something before the start.
        report: of those checks, if they were run.
    """

    schema: str = SCHEMA
    tool: Tool
    logs: tuple[Log, ...]
    launcher: str
    found: str
    exit_code: int
    first: Sighting | None = None
    only_report: tuple[int, ...] = ()
    others: tuple[Sighting, ...] = ()
    notes: tuple[Sighting, ...] = ()
    blamed: Blamed | None = None
    nccl: Nccl | None = None
    unfinished: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    checks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    report: Report | None = None
    redaction: str = field(default="none")
