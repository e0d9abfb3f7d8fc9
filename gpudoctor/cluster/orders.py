"""Sums over several nodes: the one that judges says which nodes sum together, and all obey."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from gpudoctor.cluster.board import Board
from gpudoctor.cluster.board.messages import BadMessage, Count, Seconds, Text, read
from gpudoctor.cluster.board.seat import Seat
from gpudoctor.cluster.gather import Seen
from gpudoctor.cluster.links.card import read as read_card
from gpudoctor.cluster.links.rounds import tournament
from gpudoctor.cluster.part import SLACK, Part
from gpudoctor.collect import collect
from gpudoctor.facts.all_reduce import AllReduce, PairFigure, PairReduce
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.workload import Workload
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.all_reduce import free_port, over_nodes
from gpudoctor.probes.pytorch import seconds_left
from gpudoctor.rules.suspects import next_pairs
from gpudoctor.snapshot import Absent, encode

ALL_SECONDS = 150.0  # torch is imported by every rank; then about 20 s
PAIR_SECONDS = 90.0
ROUNDS = 4  # of pairs: all once, then suspects with good nodes
PAIR_BYTES = 64 << 20  # where nothing larger was reached by all together
CPU_RANKS = 2  # on each node, where nobody says how many there will be
NOT_ASKED = Absent("loads all nodes: runs only with --deep")


class Group(Struct, frozen=True, kw_only=True):
    """Nodes that sum together, by number; the first of them has the address and the port."""

    nodes: tuple[Count, ...]
    address: Text
    port: Annotated[int, Meta(ge=1, le=65535)]


class Order(Struct, frozen=True, kw_only=True):
    """Under "order/K": groups that sum at the same time; none: there are no more orders."""

    groups: tuple[Group, ...] = ()
    ranks: Annotated[int, Meta(ge=1, le=1024)] = 1
    seconds: Seconds = 0.0
    sizes: tuple[Annotated[int, Meta(ge=1, le=1 << 34)], ...] = ()


class Sum(Struct, frozen=True, kw_only=True):
    """Under "sum/K/N": what came of an order at one node; `port` is for the next."""

    found: AllReduce | None = None
    absent: Text = ""
    broken: bool = False


class Reduced(Struct, frozen=True, kw_only=True):
    """What all orders brought."""

    all_reduce: AllReduce | Absent = NOT_ASKED
    pair_reduce: PairReduce | Absent = NOT_ASKED


def obey(part: Part, seat: Seat, first: bytes, awaited: Callable[[str, float], bytes]) -> None:
    """Do what is ordered, until no more is."""
    number, raw = 0, first
    while (order := read(raw, Order)).groups:
        _sum(part, seat, order, number, int(seat.index), seat.alive)
        number += 1
        raw = awaited(f"order/{number}", order.seconds + 3 * SLACK)


def give(
    part: Part,
    seat: Seat,
    goes: Sequence[Seen],
    own: Seen,
    sweep: Callable[[Callable[[], str]], None],
) -> Reduced:
    """Order all that is to be summed, and gather what came of it.

    Args:
        goes: the nodes that are there; none: nothing is to be summed.
        own: this node.
        sweep: to be called while it waits, with what to say.
    """
    giving = _Giving(part, seat, goes, own, sweep)
    if len(goes) < 2:
        giving.end()
        nothing = Absent("fewer than two nodes can be met") if part.plan.reduces else NOT_ASKED
        return Reduced(all_reduce=nothing, pair_reduce=nothing)
    seconds = min(ALL_SECONDS, part.plan.look_seconds)
    everybody = giving.sum([tuple(goes)], seconds, ())[0]
    sums = PairReduce(bytes=_pair_bytes(everybody))
    if len(goes) > 2 and isinstance(everybody, AllReduce) and not everybody.error:
        sums = giving.pairs(sums.bytes)
    giving.end()
    return Reduced(all_reduce=everybody, pair_reduce=sums)


class _Giving:
    """Orders, one after the other."""

    def __init__(
        self,
        part: Part,
        seat: Seat,
        goes: Sequence[Seen],
        own: Seen,
        sweep: Callable[[Callable[[], str]], None],
    ) -> None:
        self._part, self._seat, self._goes, self._own = part, seat, goes, own
        self._sweep, self._number = sweep, 0
        self._end = time.monotonic() + part.plan.look_seconds
        job = own.facts.get(Workload) if own.facts else Absent("")
        known = isinstance(job, Workload) and job.knows("local_ranks")
        self._ranks = job.local_ranks if isinstance(job, Workload) and known else CPU_RANKS

    def end(self) -> None:
        """There are no more orders."""
        self._part.board.put(f"order/{self._number}", encode(Order()))

    def sum(
        self, groups: Sequence[tuple[Seen, ...]], seconds: float, sizes: tuple[int, ...]
    ) -> list[AllReduce | Absent]:
        """What the first node of each group tells, or another where that one tells nothing."""
        board, number = self._part.board, self._number
        order = Order(
            groups=tuple(map(self._group, groups)), ranks=self._ranks, seconds=seconds, sizes=sizes
        )
        board.put(f"order/{number}", encode(order))
        self._number += 1
        until = time.monotonic() + seconds + SLACK
        own = self._own.index
        sums = {own: _sum(self._part, self._seat, order, number, own, self._listen)}
        asked = {one.index for group in groups for one in group}
        names = {one.index: one.name for one in self._goes}
        while asked - set(sums) and time.monotonic() < until:
            for index in sorted(asked - set(sums)):
                raw = board.get(f"sum/{number}/{index}")
                sums |= {index: _told(raw)} if raw is not None else {}
            waits = sorted(asked - set(sums))
            waits = [i for i in waits if any(o.index == i and o.goes_on for o in self._goes)]
            if not waits:
                break
            line = f"waiting for the sum of {', '.join(names[index] for index in waits[:5])}"
            self._sweep(lambda line=line: line)  # type: ignore[misc]
        return [_best([sums.get(one.index) for one in group]) for group in groups]

    def pairs(self, size: int) -> PairReduce:
        """Disjoint pairs, and then suspects with good nodes."""
        count = len(self._goes)
        by_name = {one.name: one for one in self._goes}
        rounds = tournament(count, 1 + count % 2).rounds  # of an odd number one sits out
        planned = [[(self._goes[a], self._goes[b]) for a, b in pairs] for pairs in rounds]
        figures: list[PairFigure] = []
        gone: set[str] = set()
        late = ""
        for number in range(ROUNDS + count % 2):
            if number < len(planned):
                pairs = planned[number]
            else:
                known = {figure.nodes: figure.busbw for figure in figures}
                pairs = [(by_name[a], by_name[b]) for a, b in next_pairs(known)]
            gone |= {one.name for pair in pairs for one in pair if not one.goes_on}
            pairs = [pair for pair in pairs if not gone & {one.name for one in pair}]
            if not pairs:
                break
            if self._end - time.monotonic() < PAIR_SECONDS:  # one that is cut off looks broken
                late = "no time was left for more pairs: --deadline S"
                break
            found = self.sum(pairs, PAIR_SECONDS, (size,))
            for pair, figure in zip(pairs, found, strict=True):
                figures.append(_figure((pair[0].name, pair[1].name), number, figure))
        lost = f"{', '.join(sorted(gone))[:200]} lost meanwhile" if gone else ""
        why = "; ".join(filter(None, (lost, late)))
        return PairReduce(bytes=size, figures=tuple(figures), unfinished=why)

    def _listen(self) -> None:
        self._sweep(lambda: "")

    def _group(self, nodes: Sequence[Seen]) -> Group:
        first = nodes[0]
        free = self._part.board.get(f"port/{first.index}", 1.0) or b""
        number = int(free) if free.isdigit() and len(free) <= 5 else 0
        number = number if 0 < number < 1 << 16 else 29_400
        if first is self._own:
            number = free_port()
        address = read_card(first.card).addresses[0].ip
        return Group(nodes=tuple(one.index for one in nodes), address=address, port=number)


def offer(board: Board, index: int) -> None:
    """Name a port that is free here, for the next sum."""
    board.put(f"port/{index}", b"%d" % free_port())


def _sum(
    part: Part, seat: Seat, order: Order, number: int, index: int, alive: Callable[[], None]
) -> AllReduce | Absent:
    """This node's part in a sum; whoever is in no group has none."""
    mine = next((group for group in order.groups if index in group.nodes), None)
    if mine is None:
        return Absent("not in this round")
    seat.at(f"sum {number + 1} with {len(mine.nodes) - 1} others")
    python = part.snapshot.get(JobPython) if part.snapshot else Absent("not looked at")
    if isinstance(python, Absent):
        found: AllReduce | Absent = python
    else:
        found = _reduced(part, order, mine, index, python.path, alive)
    told = Sum(found=found) if isinstance(found, AllReduce) else Sum(absent=found.absent[:300])
    part.board.put(f"sum/{number}/{index}", encode(told))
    offer(part.board, index)
    return found


def _reduced(
    part: Part, order: Order, group: Group, index: int, python: str, alive: Callable[[], None]
) -> AllReduce | Absent:
    @probe(isolated=True, timeout=order.seconds)
    def all_reduce(machine: Machine) -> AllReduce | Absent:
        return over_nodes(
            machine,
            python,
            nodes=len(group.nodes),
            node_rank=group.nodes.index(index),
            address=group.address,
            port=group.port,
            ranks=order.ranks,
            seconds=seconds_left(),
            sizes=order.sizes,
        )

    found = collect(
        [all_reduce],
        part.machine,
        deadline=order.seconds,
        stopped=part.stopped,
        progress=lambda names: alive(),
    )
    fact: AllReduce | Absent = found.facts["all_reduce"]
    return fact


def _told(raw: bytes) -> AllReduce | Absent:
    try:
        told = read(raw, Sum)
    except BadMessage as error:
        return Absent(str(error), broken=True)
    return told.found if told.found is not None else Absent(told.absent, broken=True)


def _best(sums: Sequence[AllReduce | Absent | None]) -> AllReduce | Absent:
    """Of one group: the first node's word, unless it has none or another knows what failed."""
    facts = [found for found in sums if isinstance(found, AllReduce)]
    failed = [found for found in facts if found.error]
    if facts:
        return facts[0] if not facts[0].error else failed[0]
    absent = [found for found in sums if isinstance(found, Absent)]
    return absent[0] if absent else Absent("no node answered", broken=True)


def _pair_bytes(found: AllReduce | Absent) -> int:
    points = found.points if isinstance(found, AllReduce) else ()
    return min(PAIR_BYTES, max((point.bytes for point in points), default=PAIR_BYTES))


def _figure(names: tuple[str, str], number: int, found: AllReduce | Absent) -> PairFigure:
    if isinstance(found, Absent):
        return PairFigure(nodes=names, round=number, error=found.absent)
    figure = PairFigure(nodes=names, round=number, wrong=found.wrong, error=found.error)
    if found.error or not found.points:
        return replace(figure, error=found.error or "nothing was measured")
    return replace(figure, busbw=max(found.points, key=lambda point: point.bytes).busbw)
