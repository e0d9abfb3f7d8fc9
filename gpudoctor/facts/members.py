"""The nodes of a job, as the one that gathers them came to know them."""

from typing import Any

from msgspec import Struct

from gpudoctor.snapshot import Absent, F, Fact, Snapshot


class Member(Struct, frozen=True, kw_only=True):
    """A node that has joined.

    Attributes:
        name: its host name; where several have the same, made unique by "#2".
        rank: the lowest rank of the job that runs on it.
        ranks: how many of the job's ranks run on it.
        arrived_seconds: after the first that joined.
        step: the last step that it was seen at: "joined", "facts sent", "round 3", "done".
        lost: why nothing more came from it; empty: it came to the end.
        refused: why what it sent could not be used; empty: it could.
    """

    name: str
    rank: int = 0
    ranks: int = 1
    arrived_seconds: float = 0.0
    step: str = "joined"
    lost: str = ""
    refused: str = ""


class Members(Fact, frozen=True, kw_only=True):
    """Who was expected, and who came.

    `expected` is None where nobody said how many nodes the job has. `names` are those that the
    launcher lists; empty: it lists none.
    """

    expected: int | None = None
    told_by: str = ""  # the variable or option that says so
    names: tuple[str, ...] = ()
    ranks: int | None = None  # of the whole job
    members: tuple[Member, ...] = ()  # by rank
    waited_seconds: float = 0.0
    meeting: str = ""  # where they met: "node0:29501", a directory

    @property
    def missing(self) -> int:
        """How many nodes have not come."""
        return max(0, (self.expected or 0) - len(self.members))


class Nodes(Fact, frozen=True, kw_only=True):
    """The snapshots of the nodes that answered: put together for judging, never stored."""

    snapshots: tuple[Snapshot, ...] = ()

    def each(self, kind: type[F]) -> dict[str, F]:
        """A fact of every node that has it, by the node's name."""
        found: dict[str, Any] = {node.name: node.get(kind) for node in self.snapshots}
        return {name: fact for name, fact in found.items() if not isinstance(fact, Absent)}
