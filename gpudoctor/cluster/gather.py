"""Who has come, what came of them, and who was lost: as the node that judges sees it."""

import time
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from gpudoctor import snapshot
from gpudoctor.cluster.board import Board
from gpudoctor.cluster.board.messages import BadMessage, Joined, Toured, host_name, read
from gpudoctor.cluster.board.seat import Watch
from gpudoctor.cluster.links import card
from gpudoctor.cluster.place import Place
from gpudoctor.facts.members import Member, Members
from gpudoctor.hostlist import fold
from gpudoctor.snapshot import BadFacts, Fact, Snapshot

MOST = 20_000  # nodes
MOST_BYTES = 1 << 20  # of facts; a node has about 30 kB
_SWEEP = 0.05  # seconds between two looks at the board
_BEAT = 1.0  # and at the beats


class Seen(Struct):
    """A node that has joined, and all that came of it."""

    index: int
    name: str
    joined: Joined
    arrived: float  # by the monotonic clock
    watch: Watch
    lost: str = ""
    refused: str = ""
    facts: Snapshot | None = None
    card: bytes = b""
    toured: Toured | None = None

    @property
    def goes_on(self) -> bool:
        """Whether more can be had of it."""
        return not self.lost and not self.refused


class Gather:
    """The nodes of a job as they come.

    Args:
        board: where they leave word.
        place: of this node, which judges.
        kinds: facts that plug-ins brought.
    """

    def __init__(self, board: Board, place: Place, kinds: Sequence[type[Fact]] = ()) -> None:
        self.began = time.monotonic()
        self.waited = 0.0
        self.seen: dict[int, Seen] = {}
        self.own = -1
        self.closed = False  # the roll is out: who comes now comes late
        self.touring = False  # it is: what nodes found of each other comes in
        self._board, self._place, self._kinds = board, place, kinds
        self._holes: set[int] = set()
        self._swept = self._looked = 0.0
        self._names: set[str] = set()

    def sweep(self) -> None:
        """Take what has come since; never waits."""
        now = time.monotonic()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        self._take_joined()
        others = [one for one in self.seen.values() if one.index != self.own and not one.lost]
        for one in others:
            if one.facts is None and one.goes_on:
                self._take_facts(one)
            elif self.touring and one.toured is None and one.goes_on:
                self._take_tour(one)
        if now - self._looked >= _BEAT:
            self._looked = now
            for one in others:
                self._listen(one)

    @property
    def complete(self) -> bool:
        """Whether all that are expected have come."""
        if self._place.nodes is not None:
            return len(self.seen) >= self._place.nodes
        if self._place.world is not None:
            return sum(self._ranks(one) for one in self.seen.values()) >= self._place.world
        return False

    @property
    def going_on(self) -> list[Seen]:
        """The nodes from which more can be had, by rank."""
        return [one for one in self.by_rank if one.goes_on]

    @property
    def by_rank(self) -> list[Seen]:
        """All that have joined."""
        return sorted(self.seen.values(), key=lambda one: (one.joined.rank, one.index))

    def members(self) -> Members:
        """The fact."""
        first = min((one.arrived for one in self.seen.values()), default=0.0)
        members = tuple(
            Member(
                name=one.name,
                rank=one.joined.rank,
                ranks=self._ranks(one),
                arrived_seconds=round(max(0.0, one.arrived - first), 3),
                step=one.watch.step,
                lost=one.lost,
                refused=one.refused,
            )
            for one in self.by_rank
        )
        place = self._place
        return Members(
            expected=place.nodes if place.nodes is not None else self._by_ranks(members),
            told_by=place.told_by,
            names=place.names,
            ranks=place.world,
            members=members,
            waited_seconds=round(self.waited, 3),
            meeting=self._board.where,
        )

    def missing(self) -> list[str]:
        """Those that the launcher lists and that have not come."""
        here = {one.name.partition("#")[0].partition(".")[0] for one in self.seen.values()}
        return [name for name in self._place.names if name.partition(".")[0] not in here]

    def progress(self) -> str:
        """ "61/64 nodes, waiting for gpu-a-[007,012]"."""
        expected = self._place.nodes
        count = f"{len(self.seen)}/{expected} nodes" if expected else f"{len(self.seen)} nodes"
        if expected is None and self._place.world:
            ranks = sum(self._ranks(one) for one in self.seen.values())
            count += f" with {ranks}/{self._place.world} ranks"
        missing = fold(self.missing())
        return f"{count}, waiting for {missing[:200]}" if missing else count

    def _ranks(self, one: Seen) -> int:
        if one.joined.ranks is not None:
            return one.joined.ranks
        return max(1, min(self._board.add(f"ranks/{one.joined.host}", 0), 1 << 16))

    def _by_ranks(self, members: Iterable[Member]) -> int | None:
        """How many nodes at least there must be, where only the number of ranks is known."""
        counts = [member.ranks for member in members]
        if self._place.world is None or not counts:
            return None
        left = max(0, self._place.world - sum(counts))
        return len(counts) + -(-left // max(counts))

    def _take_joined(self) -> None:
        count = min(self._board.add("joined", 0), MOST)
        for index in sorted({*range(len(self.seen) + len(self._holes), count), *self._holes}):
            raw = self._board.get(f"joined/{index}")
            if raw is None:  # it has taken its number, and nothing more yet
                self._holes.add(index)
                continue
            self._holes.discard(index)
            self.seen[index] = self._greeted(index, raw)

    def _greeted(self, index: int, raw: bytes) -> Seen:
        refused = ""
        try:
            joined = read(raw, Joined)
            if not host_name(joined.name):
                refused = "what it calls itself is no name of a host"
        except BadMessage as error:
            joined, refused = Joined(name="", host="", ranks=1), str(error)
        name = host_name(joined.name) or f"node-{index}"
        if self.closed:
            name = self._unique(name)
        arrived = time.monotonic() - min(joined.waited, 3600.0)
        one = Seen(index, name, joined, arrived, Watch(), refused=refused)
        if self.closed and not refused:
            late = time.monotonic() - self.began
            one.lost = f"it came after {late:.0f} s, when the others were already paired"
        return one

    def close(self) -> None:
        """From now on, who comes comes late; those who are there get names of their own."""
        self.closed = True
        for one in self.by_rank:
            one.name = self._unique(one.name)
            if one.facts is not None:
                one.facts = Snapshot(one.name, one.facts.facts)

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self._names:
            number += 1
            unique = f"{name}#{number}"
        self._names.add(unique)
        return unique

    def _take_facts(self, one: Seen) -> None:
        raw = self._board.get(f"facts/{one.index}")
        if raw is None:
            return
        try:
            if len(raw) > MOST_BYTES:
                raise BadMessage(f"its facts have more than {MOST_BYTES >> 20} MiB")
            found = snapshot.load(raw, self._kinds)
            if len(found) != 1:
                raise BadMessage(f"it sent the facts of {len(found)} nodes")
            peer = self._board.get(f"card/{one.index}") or b""
            if peer:
                card.read(peer)
        except (BadMessage, BadFacts, card.BadCard) as error:
            one.refused = f"what it sent cannot be used: {error}"[:300]
            return
        one.facts, one.card = Snapshot(one.name, found[0].facts), peer

    def _take_tour(self, one: Seen) -> None:
        raw = self._board.get(f"toured/{one.index}")
        if raw is None:
            return
        try:
            one.toured = _own_words(read(raw, Toured), one.name, self._names)
            one.watch.step = "done"
        except BadMessage as error:
            one.refused = f"what it sent cannot be used: {error}"[:300]

    def _listen(self, one: Seen) -> None:
        one.watch.see(self._board.get(f"beat/{one.index}"))
        if one.watch.ended:
            one.lost = one.watch.ended
        elif one.watch.silent:
            one.lost = f"nothing came from it in {one.watch.silent:.0f} s"


def _own_words(toured: Toured, name: str, names: Collection[str]) -> Toured:
    """A node may speak only of ways that begin at it, and of one to each other node."""
    if any(way.source != name for way in toured.ways):
        raise BadMessage("it tells of ways that begin elsewhere")
    targets = {way.target for way in toured.ways}
    if len(targets) < len(toured.ways) or not targets <= {*names} - {name}:
        raise BadMessage("it tells of ways that lead nowhere, or of one twice")
    if toured.port_try is not None and toured.port_try.source != name:
        raise BadMessage("it tells of another's connection")
    return toured
