"""The fleet as every format renders it, and as JSON publishes it."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from gpudoctor.finding import Owner, Status
from gpudoctor.report import Cluster, Redaction, Tool

SCHEMA = "gpudoctor.fleet/1"
LETTER = {
    Status.PASS: "p",
    Status.WARN: "w",
    Status.FAIL: "f",
    Status.SKIP: "s",
    Status.ERROR: "e",
}
"""A result in a node's string of results; "i" is one that is ignored, "-" one that it lacks."""


class Hosts(Struct, frozen=True):
    """Nodes: how many, and their names as Slurm folds them."""

    count: int = 0
    names: str = ""


class Unread(Struct, frozen=True, kw_only=True):
    """Files, or reports in them, that could not be used, for one reason.

    `foreign`: they hold something else, so no node is missing for that.
    """

    reason: str
    foreign: bool
    count: int
    files: tuple[str, ...]  # the first of them


class Pattern(Struct, frozen=True, kw_only=True):
    """What those that have a problem have in common, and others rarely.

    Attributes:
        kind: "GPU", "NIC", "GPU bus id"; "neighbours", "name"; a column of the inventory, as
            "rack"; a trait, as "NVIDIA driver".
        value: "3", "mlx5_4", "gpu-002-[01-16]", "c2", "550.54.15".
        holds: for so many of the nodes that have the problem.
        of: so many have it.
        others: so many that do not have the problem are there, or have it too; None: a device,
            where that says nothing.
        words: the pattern as a phrase: "always GPU 3", "13 of 14 on rack c2".
    """

    kind: str
    value: str
    holds: int
    of: int
    others: int | None = None
    words: str = ""


class Said(Struct, frozen=True):
    """The words of a problem, and the nodes that say just those."""

    summary: str
    status: Status
    nodes: Hosts


class Problem(Struct, frozen=True, kw_only=True):
    """One kind of problem: a check that finds something, or one cause why checks could not look.

    Attributes:
        id: of the check; of a cause that has blinded several checks "unchecked-1", ...
        checks: numbers in Fleet.checks.
        status: fail if it fails on any node, else warn; error: not known.
        failed: on so many of the nodes it is worse than a warning.
        said: the first of its wordings, those of the most nodes first.
        more: how many other wordings there are.
    """

    id: str
    checks: tuple[int, ...]
    title: str
    status: Status
    owner: Owner
    nodes: Hosts
    failed: int = 0
    of_cluster: bool = False  # found by looking at several nodes together
    patterns: tuple[Pattern, ...] = ()
    said: tuple[Said, ...] = ()
    more: int = 0


class Value(Struct, frozen=True):
    """A value, and the nodes that have it."""

    value: str
    nodes: Hosts


class Difference(Struct, frozen=True, kw_only=True):
    """A trait in which nodes of one cohort differ. `usual` empty: no value has a majority."""

    trait: str
    usual: str
    count: int  # of nodes that have the usual value
    others: tuple[Value, ...]
    matters: Literal["fail", "warn", "said"] = "said"
    owner: Owner = "node"

    @property
    def outliers(self) -> int:
        return sum(value.nodes.count for value in self.others)


class Cohort(Struct, frozen=True, kw_only=True):
    """The nodes with the same GPUs, which should be alike.

    Attributes:
        name: the GPU model; "no GPU", or empty where it is not known.
        alike: the traits that all nodes of it have alike, of which something is known.
        differ: the others, those with few outliers first.
    """

    name: str
    nodes: Hosts
    alike: Mapping[str, str] = {}
    differ: tuple[Difference, ...] = ()


class Extreme(Struct, frozen=True):
    value: float
    node: str


class Figure(Struct, frozen=True, kw_only=True):
    """How a figure is distributed over the nodes of a cohort that tell it."""

    key: str
    label: str
    unit: str  # "bytes", "bytes/s", "°C", "s", "MHz", "TFLOPS", ...
    cohort: str
    count: int
    low: Extreme
    p1: float
    p50: float
    p99: float
    high: Extreme
    low_is_bad: bool | None = None  # None: neither end is bad by itself


class Command(Struct, frozen=True):
    """Lines to paste, and the nodes that they are for."""

    command: str
    nodes: Hosts


class Action(Struct, frozen=True, kw_only=True):
    """What one owner has to do, on which nodes: the same advice of many nodes as one."""

    owner: Owner
    launcher: str = field(name="for")
    text: str
    needs_root: bool
    nodes: Hosts
    commands: tuple[Command, ...] = ()
    more: int = 0  # commands that are left out


class Finding(Struct, frozen=True, kw_only=True):
    """A result of a node that did not pass. Words and lines are numbers in `Fleet.texts`."""

    check: int  # in Fleet.checks
    status: Status
    owner: Owner
    summary: int
    evidence: tuple[int, ...] = ()
    advice: tuple[int, ...] = ()  # how to mend it, in words
    commands: tuple[int, ...] = ()  # and as lines to paste


class FleetNode(Struct, frozen=True, kw_only=True):
    """One node: its verdict, its results, and figures.

    Attributes:
        results: a number in Fleet.results: a letter for each of Fleet.checks.
        cohort: a number in Fleet.cohorts.
        unlike: traits in which it is not as most of its cohort, and what it has.
        figures: in the order of Fleet.figure_keys.
        place: the columns that the inventory gives for it.
    """

    name: str
    status: Status
    started: str
    seconds: float
    launcher: str
    cohort: int
    results: int
    complete: bool = True
    findings: tuple[Finding, ...] = ()
    figures: tuple[float | None, ...] = ()
    unlike: Mapping[str, str] = {}
    place: Mapping[str, str] = {}


class About(Struct, frozen=True):
    """A check that at least one of the reports has; why it matters, where it found something."""

    id: str
    topic: str
    title: str
    why: str = ""


class FigureKey(Struct, frozen=True):
    """A figure that at least one node tells."""

    key: str
    label: str
    unit: str


class Fleet(Struct, frozen=True, kw_only=True):
    """Everything that is known of all nodes."""

    schema: str = SCHEMA
    tool: Tool
    made: str  # UTC, ISO 8601
    first: str = ""  # when the first and the last of the runs were started
    last: str = ""
    status: Status
    exit_code: int
    counts: Mapping[str, int]  # nodes by verdict
    reports: int = 0  # that were read
    expected: int | None = None  # nodes, None: nobody said
    missing: Hosts = Hosts()
    missing_places: Mapping[str, Mapping[str, int]] = {}  # column -> value -> missing nodes
    unexpected: Hosts = Hosts()
    unread: tuple[Unread, ...] = ()
    repeated: Hosts = Hosts()  # nodes with several reports: the latest counts
    interrupted: Hosts = Hosts()
    actions: tuple[Action, ...] = ()
    exclude: Hosts = Hosts()  # nodes that a job should do without
    exclude_lines: Mapping[str, str] = {}
    unjudged: Hosts = Hosts()  # nodes of which nobody can say whether they are well
    problems: tuple[Problem, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    figures: tuple[Figure, ...] = ()
    checks: tuple[About, ...] = ()
    texts: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    figure_keys: tuple[FigureKey, ...] = ()
    nodes: tuple[FleetNode, ...] = ()
    cluster: Cluster | None = None  # of the one report that was read, if it has one
    redaction: Redaction = Redaction()
    remarks: tuple[str, ...] = ()
