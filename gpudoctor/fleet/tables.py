"""What is kept of every node: numbers into tables of texts, so that ten thousand stay small."""

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from gpudoctor.finding import Owner, Status
from gpudoctor.fleet.model import Finding

T = TypeVar("T", bound=Hashable)


class Table(Generic[T]):
    """Values, each once, by number."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number


class Column:
    """One value of every node, by number; 0 where it is not known."""

    def __init__(self) -> None:
        self.table: Table[str] = Table()
        self.table.number("")
        self.cells = array("I")

    def put(self, node: int, value: str) -> None:
        if node >= len(self.cells):
            self.reach(node + 1)
        self.cells[node] = self.table.number(value)

    def reach(self, nodes: int) -> None:
        """Make it so long that every node has a cell."""
        self.cells.extend([0] * (nodes - len(self.cells)))

    @property
    def told(self) -> list[str]:
        return self.table.values

    def tally(self) -> "Counter[int]":
        return Counter(self.cells)


class Advice(Struct, frozen=True):
    """A step of somebody's plan."""

    owner: Owner
    launcher: str
    text: str
    command: str
    needs_root: bool


class Row(Struct):
    """One node. Findings hold numbers of texts, steps of advice."""

    name: str
    started: str
    seconds: float
    complete: bool
    launcher: str
    status: Status
    model: str
    results: int
    findings: tuple[Finding, ...]
    steps: tuple[int, ...]
    figures: Mapping[str, float]
    devices: Mapping[str, int]
    identity: frozenset[str]  # of its GPUs: another machine of the same name has others


class OfCluster(Struct):
    """A result of a check over several nodes."""

    finding: Finding
    nodes: tuple[str, ...]
    steps: tuple[int, ...]


def worst(statuses: Iterable[Status]) -> Status:
    """The verdict over results that count; `skip` when nothing was seen."""
    seen = set(statuses)
    for status in (Status.FAIL, Status.ERROR, Status.WARN, Status.PASS):
        if status in seen:
            return status
    return Status.SKIP
