"""This node's rounds: in each it meets one other, probes it and is probed, one at a time."""

import time
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.cluster.links.card import Card
from gpudoctor.cluster.links.pair import CONNECT_SECONDS, Source, Trial
from gpudoctor.cluster.links.peer import LATE_SECONDS, Peer
from gpudoctor.cluster.links.rounds import Schedule
from gpudoctor.facts.links import Way
from gpudoctor.facts.network import Network

CONTACT_SECONDS = 4.0  # a partner of which nothing is heard is not waited for longer
OVER = 1 << 16  # a round after all others


class Tour(Struct, frozen=True):
    """What this node found: `rounds` that it went, and why it did not go all."""

    ways: tuple[Way, ...] = ()
    rounds: int = 0
    unfinished: str = ""


def run_rounds(
    peer: Peer,
    me: str,
    cards: Mapping[str, Card],
    schedule: Schedule,
    *,
    deadline: float,
    network: Network | None = None,
    seconds: float = 1.0,
    progress: Callable[[int], None] = lambda number: None,
) -> Tour:
    """Meet all whom the schedule names. To be called on all nodes at about the same time.

    Args:
        peer: this node's, open; it must stay open until all nodes are done.
        me: this node's name.
        cards: of all nodes, in an order that is the same on all of them.
        schedule: `rounds.tournament(len(cards))`.
        deadline: by the monotonic clock; nothing goes on after it.
        network: this node's.
        seconds: how long throughput is measured, in each direction; 0: not at all.
        progress: is told the number of each round when it begins, from 1 on.
    """
    names = list(cards)
    index = names.index(me)
    ways: list[Way] = []
    try:
        for number in range(len(schedule.rounds)):
            if time.monotonic() >= deadline:
                why = f"no time was left after round {number} of {len(schedule.rounds)}"
                return Tour(tuple(ways), number, why)
            progress(number + 1)
            other = schedule.partner(number, index)
            if other is None:
                continue
            target = replace(cards[names[other]], name=names[other])
            trial = Trial(Source(me, index, network), target, number)
            way = _meet(peer, trial, number, index, other, seconds, deadline)
            if way is not None:
                ways.append(way)
    finally:
        peer.begin(OVER, driving=False)
    return Tour(tuple(ways), len(schedule.rounds))


def _meet(
    peer: Peer,
    trial: Trial,
    number: int,
    index: int,
    other: int,
    seconds: float,
    deadline: float,
) -> Way | None:
    """Probe the partner, and wait until it has probed us.

    The one with the lower index drives. The other one knocks at the same time, and is let in when
    the driver is done; so neither has to guess how long the other may take.
    """
    began = time.monotonic()
    peer.begin(number, driving=index < other)
    way = trial.run(seconds=seconds, deadline=deadline)
    peer.drove()
    if way is not None and way.error == "SILENT":  # its process stands still: no probe will come
        return way
    now = time.monotonic()
    first = began + CONTACT_SECONDS
    if trial.reached:  # it is at this round, and knocks by now unless something is in between
        first = max(first, now + CONNECT_SECONDS + 0.5)
    peer.await_visit(
        number, other, first=min(first, deadline), last=min(now + LATE_SECONDS, deadline)
    )
    return way
