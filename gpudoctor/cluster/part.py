"""What every node of a run does, whether it judges or not: look, listen, meet the others."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.cluster.board import Board
from gpudoctor.cluster.board.messages import Joined, Roll, Toured, host_name
from gpudoctor.cluster.board.seat import PATIENCE, Seat
from gpudoctor.cluster.links import port
from gpudoctor.cluster.links.address import own_addresses
from gpudoctor.cluster.links.card import BadCard, Card
from gpudoctor.cluster.links.card import read as read_card
from gpudoctor.cluster.links.peer import Peer
from gpudoctor.cluster.links.rounds import tournament
from gpudoctor.cluster.links.tour import run_rounds
from gpudoctor.cluster.place import Place
from gpudoctor.facts.network import Network
from gpudoctor.probes import Machine
from gpudoctor.snapshot import Absent, Fact, Snapshot

WAIT = 60.0  # seconds for all nodes to come
SLACK = 10.0  # seconds that others get beyond our own clock
_ALIVE = 0.25  # seconds of a round, after which it is said that this node is alive

Look = Callable[[Callable[[list[str]], None]], Snapshot]


class Plan(Struct, frozen=True, kw_only=True):
    """What a run is asked to do, beside what the place says.

    Attributes:
        wait: seconds for all nodes to come.
        look_seconds: that looking at a node may take, and then all sums together.
        patience: seconds without a word, after which a node counts as lost.
        throughput_seconds: of one direction between two nodes; None: by how many nodes there are.
        master_port: to be proved; 0: not asked for.
        reduces: nodes sum together, which loads them.
        kinds: facts that plug-ins brought.
    """

    wait: float = WAIT
    look_seconds: float = 30.0
    patience: float = PATIENCE
    throughput_seconds: float | None = None
    master_port: int = 0
    reduces: bool = False
    kinds: tuple[type[Fact], ...] = ()


class Part(Struct, kw_only=True):
    """This node's part in a run.

    Attributes:
        place: who we are.
        board: where the nodes leave word.
        plan: what is asked for.
        machine: this one.
        look: looks at it; it is given what to call now and then.
        stopped: whether a signal came.
        say: a remark, for stderr.
        began: when, by the monotonic clock.
        snapshot: what was seen of this machine.
    """

    place: Place
    board: Board
    plan: Plan
    machine: Machine
    look: Look
    stopped: Callable[[], bool]
    say: Callable[[str], None]
    began: float
    snapshot: Snapshot | None = None

    def joined(self) -> Joined:
        """What it says of itself when it joins."""
        name = host_name(self.place.name) or socket.gethostname()
        waited = time.monotonic() - self.began
        place = self.place
        return Joined(
            name=name, host=this_host(), rank=place.rank, ranks=place.ranks, waited=waited
        )

    @contextlib.contextmanager
    def peer(self, node: Snapshot) -> Iterator[Peer | None]:
        """A listener for the others; None where this node has no address."""
        addresses = own_addresses(node)
        if not addresses or self.place.nodes == 1:
            yield None
            return
        with Peer(node.name[:255], addresses) as peer:
            yield peer

    def tour(
        self, roll: Roll, index: int, peer: Peer | None, seat: Seat, alive: Callable[[], None]
    ) -> Toured:
        """Meet the others, in rounds of disjoint pairs.

        A thread of its own does, so that `alive` is called all the while: who is frozen in the
        midst of a round is known by its silence.
        """
        cards: dict[str, Card] = {}
        me = next((entry.name for entry in roll.entries if entry.index == index), "")
        for entry in roll.entries:
            with contextlib.suppress(BadCard):
                cards[entry.name] = replace(read_card(entry.card), name=entry.name)
        if peer is None or me not in cards:
            return Toured(unfinished="this node has no address")
        names, schedule = list(cards), tournament(len(cards))
        own, deadline = names.index(me), time.monotonic() + roll.seconds
        step, steps = "", ["meeting the others"]
        found = Toured(unfinished="it did not come to an end")

        def progress(number: int) -> None:
            other = schedule.partner(number - 1, own)
            words = f" with {names[other]}" if other is not None else ""
            steps.append(f"round {number}{words}")

        def go() -> None:
            nonlocal found
            network = self.snapshot.get(Network) if self.snapshot else Absent("not seen")
            tour = run_rounds(
                peer,
                me,
                cards,
                schedule,
                deadline=deadline,
                network=None if isinstance(network, Absent) else network,
                seconds=roll.throughput_seconds,
                progress=progress,
            )
            tried, master = None, roll.entries[0].name
            if roll.master_port and me != master and master in cards and self.place.host:
                tried = port.tried(me, self.place.host, roll.master_port, cards[master])
            found = Toured(
                ways=tour.ways, rounds=tour.rounds, unfinished=tour.unfinished, port_try=tried
            )

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        while thread.is_alive() and time.monotonic() < deadline + SLACK:
            if step != steps[-1]:
                step = steps[-1]
                seat.at(step)
            alive()
            thread.join(_ALIVE)
        return found


def this_host() -> str:
    """The same for all processes that share a kernel, a network and a host name."""
    boot, network = "", ""
    with contextlib.suppress(OSError):
        network = os.readlink("/proc/self/ns/net")
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read()
    whole = f"{boot} {network} {socket.gethostname()}"
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]
