"""The part of the node that judges: wait for the others in bounded time, and gather from them."""

import contextlib
import time
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.cluster.board import Unreachable
from gpudoctor.cluster.board.messages import Entry, Judge, Roll, Toured, Verdict
from gpudoctor.cluster.board.seat import Interrupted, Seat
from gpudoctor.cluster.gather import Gather, Seen
from gpudoctor.cluster.links import port
from gpudoctor.cluster.links.card import read as read_card
from gpudoctor.cluster.links.peer import Peer
from gpudoctor.cluster.links.rounds import ALL_PAIRS, tournament
from gpudoctor.cluster.orders import Reduced, give
from gpudoctor.cluster.part import SLACK, Part
from gpudoctor.facts.links import Links
from gpudoctor.hostlist import fold
from gpudoctor.snapshot import Absent, Fact, Snapshot, encode, name_of

ROUND_SECONDS = 20.0  # on average at most; a pair that does not answer takes about 8
THROUGHPUT_SECONDS = 1.0, 0.3  # of one direction, among few nodes and among many
LINGER = 5.0  # seconds for the others to fetch the verdict
_SWEEP = 0.1  # seconds between two
_TELL, _REPEAT = 5.0, 30.0  # seconds between two lines of progress, and two that are the same


class Gathered(Struct, frozen=True, kw_only=True):
    """What there is in the end.

    Attributes:
        snapshots: of the nodes that answered, by rank.
        facts: of the cluster.
        missing: names of those that did not come.
    """

    snapshots: tuple[Snapshot, ...]
    facts: Snapshot
    missing: tuple[str, ...]


class Lead:
    """One run, as the node that judges goes through it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.nodes = Gather(part.board, part.place, part.plan.kinds)
        self.seat = Seat(part.board, "judge", part.stopped, part.plan.patience)
        self._told, self._line = time.monotonic(), ""
        self._links: Links | Absent = Absent("no two nodes were there to be paired")
        self._reduced = Reduced()

    def gather(self) -> None:
        """All that can be had from all nodes.

        Raises:
            Interrupted: a signal came; `gathered` is what there was until then.
            Unreachable: the board is gone.
        """
        part, nodes = self.part, self.nodes
        own = self._open()
        self.seat.at("looking at its machine")
        part.snapshot = part.look(lambda names: self._between())
        own.facts = Snapshot(own.name, part.snapshot.facts)
        self.seat.at("waiting for the others")
        self._await_nodes()
        with part.peer(own.facts) as peer:
            own.card = peer.card() if peer else b""
            self._pair(own, peer)
        goes = [one for one in nodes.going_on if one.card] if part.plan.reduces else []
        self._reduced = give(part, self.seat, goes, own, self._sweep)
        nodes.sweep()
        for one in nodes.going_on:
            one.watch.step = "done"

    @property
    def gathered(self) -> Gathered:
        nodes = self.nodes
        facts: dict[str, Fact | Absent] = {
            name_of(Links): self._links,
            "all_reduce": self._reduced.all_reduce,
            "pair_reduce": self._reduced.pair_reduce,
        }
        return Gathered(
            snapshots=tuple(one.facts for one in nodes.by_rank if one.facts is not None),
            facts=Snapshot("cluster", facts).replace(nodes.members()),
            missing=tuple(nodes.missing()),
        )

    def tell(self, verdict: Verdict) -> None:
        """Leave the verdict for the others."""
        with contextlib.suppress(Unreachable):
            self.part.board.put("verdict", encode(verdict))

    def linger(self) -> None:
        """Stay until all that are alive have fetched the verdict, but not for long."""
        with contextlib.suppress(Unreachable, Interrupted):
            until = time.monotonic() + LINGER
            others = sum(not one.lost for one in self.nodes.seen.values()) - 1
            while self.part.board.add("fetched", 0) < others and time.monotonic() < until:
                self.seat.alive()
                time.sleep(0.02)

    def end(self) -> None:
        """Tell the others that nothing more comes."""
        with contextlib.suppress(Unreachable):
            self.seat.at("interrupted", ended="it was interrupted by a signal")

    def _open(self) -> Seen:
        part = self.part
        own = part.joined()
        if part.place.ranks is None:
            part.board.add(f"ranks/{own.host}")
        index = part.board.add("joined") - 1
        part.board.put(f"joined/{index}", encode(own))
        part.board.put("judge", encode(Judge(host=own.host, key=part.place.key)))
        self.nodes.own = index
        self.nodes.sweep()
        return self.nodes.seen[index]

    def _between(self) -> None:
        self.seat.alive()
        self.nodes.sweep()

    def _await_nodes(self) -> None:
        """Wait until all have come, and then until their facts have."""
        plan, place, nodes = self.part.plan, self.part.place, self.nodes
        until = nodes.began + plan.wait
        if place.nodes is None and place.world is None:
            self.part.say(
                f"nobody says how many nodes there are: waiting {plan.wait:.0f} s for all that "
                "come; --nnodes N ends it sooner"
            )
        while not nodes.complete and time.monotonic() < until:
            self._sweep(nodes.progress)
        nodes.waited = time.monotonic() - nodes.began
        until = time.monotonic() + plan.look_seconds + SLACK
        self._await(until, lambda one: one.facts is not None, "the facts")

    def _await(self, until: float, done: Callable[[Seen], bool], what: str) -> None:
        """Wait until all have done so; who has not by then is lost."""

        def waits() -> list[Seen]:
            return [one for one in self.nodes.going_on if not done(one)]

        def line() -> str:
            names = fold(one.name for one in waits())[:200]
            return f"waiting for {what} of {names}" if names else ""

        while waits() and time.monotonic() < until:
            self._sweep(line)
        for one in waits():
            if one.index != self.nodes.own:
                one.lost = f"{what} did not come in time"

    def _sweep(self, line: Callable[[], str]) -> None:
        began = time.monotonic()
        self._between()
        if began - self._told >= _TELL:
            said = line()
            if said and (said != self._line or began - self._told >= _REPEAT):
                self._told, self._line = began, said
                self.part.say(said)
        time.sleep(max(0.0, _SWEEP - (time.monotonic() - began)))

    def _pair(self, own: Seen, peer: Peer | None) -> None:
        """Have all nodes that are there meet in pairs."""
        board, nodes = self.part.board, self.nodes
        nodes.close()
        goes = nodes.going_on
        schedule = tournament(sum(bool(one.card) for one in goes))
        seconds = ROUND_SECONDS * len(schedule.rounds)
        throughput = self.part.plan.throughput_seconds
        usual = THROUGHPUT_SECONDS[len(goes) > ALL_PAIRS]
        roll = Roll(
            entries=tuple(Entry(index=one.index, name=one.name, card=one.card) for one in goes),
            seconds=seconds,
            throughput_seconds=usual if throughput is None else throughput,
            master_port=self.part.plan.master_port if len(goes) > 1 else 0,
        )
        error = ""
        with contextlib.ExitStack() as opened:
            if roll.master_port and peer is not None:
                error = opened.enter_context(port.held(roll.master_port, read_card(peer.card())))
            board.put("roll", encode(roll))
            if len(goes) < 2:
                return
            until = time.monotonic() + seconds + 2 * SLACK
            own.toured = self.part.tour(roll, own.index, peer, self.seat, self._between)
            self.seat.at("waiting for what the others found")
            nodes.touring = True
            self._await(until, lambda one: one.toured is not None, "the rounds")
        tours = {one.name: one.toured for one in goes if one.toured is not None}
        self._links = _links(tours, schedule.pairs, schedule.pairs_all)
        if roll.master_port:
            self._links = _with_port(self._links, own.name, roll.master_port, error, tours)


def _links(tours: Mapping[str, Toured], pairs: int, pairs_all: int) -> Links:
    unfinished = [f"{name}: {tour.unfinished}" for name, tour in tours.items() if tour.unfinished]
    ways = tuple(way for tour in tours.values() for way in tour.ways)
    if len(ways) < 2 * pairs and not unfinished:
        unfinished = [f"nothing was told of {2 * pairs - len(ways)} of {2 * pairs} ways"]
    return Links(
        ways=ways,
        rounds=max((tour.rounds for tour in tours.values()), default=0),
        pairs=len({frozenset((way.source, way.target)) for way in ways}),
        pairs_all=pairs_all,
        unfinished="; ".join(unfinished[:3]),
    )


def _with_port(
    links: Links, master: str, number: int, error: str, tours: Mapping[str, Toured]
) -> Links:
    tries = tuple(tour.port_try for tour in tours.values() if tour.port_try is not None)
    return replace(links, master=master, master_port=number, master_error=error, tries=tries)
