"""The rows of all nodes so far: what is kept of a report."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec

from gpudoctor.facts.gpus import Gpus
from gpudoctor.facts.rdma import Rdma
from gpudoctor.finding import Status
from gpudoctor.fleet import figures
from gpudoctor.fleet.lean import Found, LeanNode, LeanReport, Passed, Quiet, Skipped, some_facts
from gpudoctor.fleet.model import LETTER, About, Finding
from gpudoctor.fleet.tables import Advice, Column, OfCluster, Row, Table, worst
from gpudoctor.identities import Name, names_in
from gpudoctor.launch.plan import next_steps
from gpudoctor.launch.settings import AnySetting
from gpudoctor.report import Cluster, Redaction, Result, Step
from gpudoctor.rules.traits import KINDS, Trait, model, traits
from gpudoctor.snapshot import Absent, Fact, Snapshot, name_of

MOST_LINES = 20  # of evidence of one finding
MOST_LINE = 500  # characters
MOST_FIX = 40  # lines
_KINDS: tuple[type[Fact], ...] = (*KINDS, *figures.KINDS, Rdma)
WANTED = {name_of(kind): kind for kind in _KINDS}
# Facts that state names which the fleet could repeat.
NAMING = ("system", "names", "user", "job", "master", "environment", "network_mounts", "gpus")
T = TypeVar("T")
_SETTINGS = msgspec.json.Decoder(tuple[AnySetting, ...])


class Redacts(Protocol):
    """What hides names: `gpudoctor.sharing.Redactor`."""

    level: str

    @property
    def redaction(self) -> Redaction: ...
    def learn(self, names: Iterable[Name]) -> None: ...
    def read(self, explanations: Iterable[str]) -> None: ...
    def fact(self, name: str, fact: object) -> object: ...


class Gathered:
    """The rows of all nodes so far, and the tables that they refer to."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.numbers: dict[str, int] = {}
        self.refused: dict[tuple[str, bool], list[str]] = {}
        self.repeated: set[str] = set()
        self.reports = 0
        self.checks: Table[str] = Table()
        self.about: list[About] = []
        self.texts: Table[str] = Table()
        self.letters: Table[str] = Table()
        self.advice: Table[Advice] = Table()
        self.traits: dict[Trait, Column] = {}
        self.has: dict[str, Column] = {}  # by fact: "yes" where the node has it
        self.of_cluster: list[OfCluster] = []
        self.clusters: list[Cluster] = []
        self.redactions: list[Redaction] = []
        self._usual: list[str] = []  # the order in which checks nearly always come
        self._same: dict[object, object] = {}
        self._names: dict[bytes, tuple[Name, ...]] = {}
        self._tokens: dict[str, dict[str, int]] = {}  # by node name: numbers of runs

    def refuse(self, source: str, why: str, *, foreign: bool = False) -> None:
        """Note something that could not be used."""
        self.refused.setdefault((why, foreign), []).append(source)

    def take(self, report: LeanReport, redactor: Redacts | None) -> None:
        """Keep of a report what will be shown."""
        self.reports += 1
        for node in report.nodes:
            self._node(node, report, redactor)
        if report.redaction.level != "none" and report.redaction not in self.redactions[-1:]:
            self.redactions.append(report.redaction)
        if report.cluster is not None:
            self.clusters.append(report.cluster)
            for result in report.cluster.results:
                self._of_cluster(result, report.run.launcher)

    def _node(self, node: LeanNode, report: LeanReport, redactor: Redacts | None) -> None:
        facts = some_facts(node, WANTED)
        if redactor is not None:
            self._learn(node, redactor)
        gpus, rdma = facts.get(Gpus), facts.get(Rdma)
        cards = () if isinstance(gpus, Absent) else gpus.devices
        ports = () if isinstance(rdma, Absent) else rdma.devices
        found = [result for result in node.results if isinstance(result, Found)]
        counted = [result for result in found if result.ignored is None]
        statuses = {result.status for result in counted}
        statuses |= {kind.status for kind in (Passed, Skipped) if kind in map(type, node.results)}
        row = Row(
            name=self._name(node, report),
            started=report.run.started,
            seconds=report.run.seconds,
            complete=report.run.complete,
            launcher=report.run.launcher,
            status=worst(statuses),
            model=model(facts),
            results=self._letters(node),
            findings=self._once(
                tuple(self._finding(result, report.run.launcher) for result in counted)
            ),
            steps=self._steps(report, counted),
            figures=figures.figures(facts, report.run.seconds),
            devices=self._once_of({"GPU": len(cards), "GPU bus id": len(cards), "NIC": len(ports)}),
            identity=frozenset(gpu.uuid for gpu in cards if gpu.uuid),
        )
        self._put(row, facts)

    def _name(self, node: LeanNode, report: LeanReport) -> str:
        """A name of its own for what is host-01 in one report and somebody else in the next."""
        if report.redaction.level != "public":
            return node.name
        runs = self._tokens.setdefault(node.name, {})
        number = runs.setdefault(report.run.id, len(runs) + 1)
        return node.name if number == 1 else f"{node.name}#{number}"

    def _learn(self, node: LeanNode, redactor: Redacts) -> None:
        """Tell the redactor the names that a node states; most nodes state the same."""
        redactor.learn(names_in({"nodes": [{"name": node.name}]}))
        for name in NAMING if redactor.level == "public" else ("user",):
            raw = bytes(node.facts.get(name, b""))
            if raw and raw not in self._names:
                facts = {name: msgspec.json.decode(raw)}
                self._names[raw] = tuple(names_in({"nodes": [{"facts": facts}]}))
                redactor.learn(self._names[raw])

    def _put(self, row: Row, facts: Snapshot) -> None:
        """The row in its place; of two runs of one node the later one stays."""
        number = self.numbers.get(row.name)
        tries = 1
        while number is not None and _are_two(self.rows[number], row):
            tries += 1
            row.name = f"{facts.name}#{tries}"
            number = self.numbers.get(row.name)
        if number is not None:
            self.repeated.add(row.name)
            if row.started < self.rows[number].started:
                return
            self.rows[number] = row
        else:
            number = self.numbers[row.name] = len(self.rows)
            self.rows.append(row)
        if row.name in self.repeated:
            for column in (*self.traits.values(), *self.has.values()):
                column.put(number, "")
        for trait, value in traits(facts).items():
            if trait not in self.traits:
                self.traits[trait] = Column()
            self.traits[trait].put(number, value)
        for name in ("job_python", "packages", "environment"):
            if name in facts.facts and not isinstance(facts.facts[name], Absent):
                self.has.setdefault(name, Column()).put(number, "yes")

    def _letters(self, node: LeanNode) -> int:
        """The node's string of results; nearly always the checks come as they came before."""
        ids = [result.id for result in node.results]
        told = [LETTER[result.status] for result in node.results]
        for place, result in enumerate(node.results):
            if isinstance(result, Found):
                told[place] = told[place] if result.ignored is None else "i"
                self._check(result)
        if ids == self._usual:
            return self.letters.number("".join(told))
        for result in node.results:
            self._check(result)
        letters = ["-"] * len(self.about)
        for name, letter in zip(ids, told, strict=True):
            letters[self.checks.number(name)] = letter
        if len(ids) == len(letters) and all(map(self._is_at, ids, range(len(ids)))):
            self._usual = ids
        return self.letters.number("".join(letters))

    def _is_at(self, name: str, place: int) -> bool:
        return self.checks.number(name) == place

    def _check(self, result: Quiet | Found | Result) -> int:
        """The number of a check; why it matters is kept where it found something."""
        number = self.checks.number(result.id)
        why = "" if isinstance(result, Quiet) else result.why
        about = About(result.id, result.topic, result.title, why)
        if number == len(self.about):
            self.about.append(about)
        elif why and not self.about[number].why:
            self.about[number] = about
        return number

    def _finding(self, result: Found | Result, launcher: str) -> Finding:
        lines = [*result.evidence]
        lines += [f"{rung.name}: {rung.detail or rung.status.value}" for rung in result.ladder]
        fixes = [fix for fix in result.fixes if fix.launcher in (launcher, "any")]
        advice = [fix.text for fix in fixes if fix.text]
        commands = [line for fix in fixes for each in fix.commands for line in each.split("\n")]
        unknown = result.status is Status.ERROR
        return self._once(
            Finding(
                check=self._check(result),
                status=result.status,
                owner=result.owner,
                summary=self._text(result.reason if unknown else result.summary),
                evidence=tuple(map(self._text, lines[:MOST_LINES])),
                advice=tuple(map(self._text, advice[:MOST_FIX])),
                commands=tuple(map(self._text, commands[:MOST_FIX])),
            )
        )

    def _text(self, text: str) -> int:
        return self.texts.number(text if len(text) <= MOST_LINE else f"{text[:MOST_LINE]}...")

    def _steps(self, report: LeanReport, found: Sequence[Found]) -> tuple[int, ...]:
        """What is to be done on one node; of several nodes the report tells it of all at once."""
        if len(report.nodes) == 1 and report.cluster is None:
            steps = report.next_steps
        else:
            steps = next_steps(map(_result, found), report.run.launcher)
        return self._advised(steps)

    def _advised(self, steps: Iterable[Step]) -> tuple[int, ...]:
        return self._once(
            tuple(
                self.advice.number(Advice(s.owner, s.launcher, s.text, s.command, s.needs_root))
                for s in steps
            )
        )

    def _of_cluster(self, result: Result, launcher: str) -> None:
        self._check(result)
        if result.ignored is not None or result.status in (Status.PASS, Status.SKIP):
            return
        finding = self._finding(result, launcher)
        steps = self._advised(next_steps([result], launcher))
        self.of_cluster.append(OfCluster(finding, result.nodes, steps))
        for row in (self.rows[self.numbers[n]] for n in result.nodes if n in self.numbers):
            row.findings = (*row.findings, finding)
            row.status = worst([row.status, finding.status])

    def _once(self, value: T) -> T:
        """The same value, if there was an equal one before: then that."""
        return self._same.setdefault(value, value)  # type: ignore[return-value]

    def _once_of(self, value: dict[str, int]) -> dict[str, int]:
        return self._same.setdefault(tuple(value.values()), value)  # type: ignore[return-value]


def _result(found: Found) -> Result:
    """As much of a result as a plan needs."""
    try:
        settings = _SETTINGS.decode(found.settings)
    except msgspec.DecodeError:
        settings = ()  # of a newer version
    return Result(
        id=found.id,
        topic=found.topic,
        title=found.title,
        status=found.status,
        owner=found.owner,
        fixes=found.fixes,
        settings=settings,
    )


def _are_two(one: Row, other: Row) -> bool:
    """Whether two machines have this name: they have no GPU in common."""
    return bool(one.identity and other.identity and one.identity.isdisjoint(other.identity))
