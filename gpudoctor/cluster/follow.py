"""The part of a node that does not judge: tell what it found, and learn what becomes of it."""

import contextlib
import time

from gpudoctor.cluster.board import Unreachable
from gpudoctor.cluster.board.messages import BadMessage, Judge, Roll, Verdict, read
from gpudoctor.cluster.board.seat import Interrupted, JudgeLost, Seat
from gpudoctor.cluster.orders import obey, offer
from gpudoctor.cluster.part import SLACK, Part
from gpudoctor.snapshot import dump, encode


class Silent(Exception):
    """Another process works for this node."""


def attend(part: Part) -> Verdict:
    """What the node that judges makes of all.

    Raises:
        Silent: another process of this host does it.
        JudgeLost: the one that judges is not heard any more, or never was.
        Interrupted: a signal came.
        Unreachable: the board is not there, or gone.
    """
    until = part.began + part.plan.wait
    while True:
        seat = _take_seat(part, until)
        try:
            return _follow(part, seat)
        except JudgeLost:
            # What we met was left by a run that died; another one may take its place.
            if not _await_renewal(part, until):
                raise
        except Unreachable:
            if not part.board.renewed():
                raise
        except BadMessage as error:
            raise JudgeLost(f"what it says cannot be read: {error}") from None
        except Interrupted:
            with contextlib.suppress(Unreachable):
                seat.at("interrupted", ended="it was interrupted by a signal")
            raise


def _take_seat(part: Part, until: float) -> Seat:
    board, place = part.board, part.place
    while not board.find(0.25):
        if part.stopped():
            raise Interrupted
        if time.monotonic() >= until:
            raise JudgeLost(f"nobody was at {board.where} in {part.plan.wait:.0f} s")
    raw = board.get("judge", max(1.0, until - time.monotonic()))
    if raw is None:
        raise JudgeLost(f"it says nothing at {board.where}")
    try:
        judge = read(raw, Judge)
    except BadMessage as error:
        raise Unreachable(f"{board.where}: {error}") from None
    if judge.key != place.key:
        raise Unreachable(f"another job meets at {board.where} ({judge.key}): --meet-port PORT")
    own = part.joined()
    if place.ranks is None:
        first = board.add(f"ranks/{own.host}") == 1
        if place.leads is None and (not first or judge.host == own.host):
            raise Silent
    index = board.add("joined") - 1
    board.put(f"joined/{index}", encode(own))
    return Seat(board, str(index), part.stopped, part.plan.patience)


def _follow(part: Part, seat: Seat) -> Verdict:
    board, index = part.board, int(seat.index)
    seat.at("looking at its machine")
    if part.snapshot is None:
        part.snapshot = part.look(lambda names: seat.alive())
    with part.peer(part.snapshot) as peer:
        if peer is not None:
            board.put(f"card/{index}", peer.card())
        board.put(f"facts/{index}", dump([part.snapshot]))
        seat.at("facts sent")
        wait = max(part.plan.wait, time.monotonic() - part.began) + part.plan.look_seconds
        roll = read(_awaited(seat, "roll", wait + 2 * SLACK), Roll)
        is_on = any(entry.index == index for entry in roll.entries)
        if is_on and len(roll.entries) > 1:
            toured = part.tour(roll, index, peer, seat, seat.alive)
            board.put(f"toured/{index}", encode(toured))
        offer(board, index)
        seat.at("met the others")
        seconds = roll.seconds + 2 * SLACK
        first = _awaited(seat, "order/0", seconds)
    if is_on:
        obey(part, seat, first, lambda key, limit: _awaited(seat, key, limit))
    seat.at("done")
    verdict = read(_awaited(seat, "verdict", part.plan.look_seconds + 6 * SLACK), Verdict)
    board.add("fetched")
    return verdict


def _awaited(seat: Seat, key: str, seconds: float) -> bytes:
    found = seat.wait(key, time.monotonic() + seconds)
    if found is None:
        raise JudgeLost(f"it left no {key} in {seconds:.0f} s")
    return found


def _await_renewal(part: Part, until: float) -> bool:
    while not part.board.renewed():
        if part.stopped():
            raise Interrupted
        if time.monotonic() >= until:
            return False
        time.sleep(0.2)
    return True
