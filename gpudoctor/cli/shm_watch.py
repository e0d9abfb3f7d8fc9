"""`gpudoctor shm --measure`: once, or again and again with a high-water mark."""

import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.cli.interrupt import Interrupt
from gpudoctor.cli.shm_answer import percent, too_full
from gpudoctor.collect import collect
from gpudoctor.facts.shm_use import ShmUse
from gpudoctor.probes import Machine
from gpudoctor.probes.shm_holders import alive, holders, used
from gpudoctor.rules.shm_table import FULL_PERCENT
from gpudoctor.snapshot import Absent
from gpudoctor.units import MIB, count_of, size

TICK = 0.1  # seconds between looks at how much is used, which cost next to nothing
STEP_PERCENT = 2  # by which that must have grown before it is asked who holds it


class Peak(Struct, frozen=True):
    """The most of everything.

    Attributes:
        use: what was found when the processes held the most.
        per_rank: the most that one of them held on average.
        used: the most that was used of the fullest /dev/shm, by whomever; of `total`.
    """

    use: ShmUse
    per_rank: int
    used: int
    total: int


def measure(words: Sequence[str], stopped: Interrupt) -> ShmUse | Absent:
    """What the processes hold now."""
    found = collect([holders(words)], Machine(), deadline=10.0, stopped=stopped)
    use: ShmUse | Absent = found.facts["shm_use"]
    if isinstance(use, ShmUse) and (not use.places or all(each.unseen for each in use.ranks)):
        return Absent("; ".join(use.remarks) or "the processes have ended", broken=True)
    return use


def once(use: ShmUse) -> Peak:
    """A single measurement."""
    fullest = max(use.places, key=lambda place: percent(place.used_bytes, place.total_bytes))
    seen = [rank for rank in use.counted if not rank.unseen]
    per_rank = -(-use.held_bytes // max(1, len(seen)))
    return Peak(use, per_rank, fullest.used_bytes, fullest.total_bytes)


def watch(
    words: Sequence[str],
    first: ShmUse,
    every: float,
    seconds: float | None,
    stopped: Interrupt,
    say: Callable[[str], None],
) -> Peak:
    """Measure until they end, the time is up, or a signal comes.

    How much is used is asked ten times a second; who holds it, when that has grown and every
    so many seconds.
    """
    end = time.monotonic() + seconds if seconds else float("inf")
    peak, use = once(first), first
    asked = peak.used  # when it was last asked who holds it, at a new high
    _tell(peak, say)
    warned = _warn(peak, say)
    due = time.monotonic() + every
    while not stopped() and time.monotonic() < end:
        now = _now(use)
        if now and now[0] > peak.used:
            peak = replace(peak, used=now[0], total=now[1])
        grown = peak.used - asked > max(MIB, asked * STEP_PERCENT // 100)
        ended = now is None or not alive([rank.pid for rank in use.ranks])
        if grown or ended or time.monotonic() >= due:
            found = measure(words, stopped)
            if isinstance(found, Absent):
                break
            use, asked = found, max(asked, peak.used)
            due = time.monotonic() + every
            peak = _higher(peak, once(use), say)
        warned = warned or _warn(peak, say)
        time.sleep(TICK)
    return peak


def _higher(before: Peak, latest: Peak, say: Callable[[str], None]) -> Peak:
    """Both, the most of each; said if the processes hold noticeably more than ever."""
    fuller = max(before, latest, key=lambda each: each.used)
    most = max(before.use, latest.use, key=lambda use: use.held_bytes)
    if latest.use.held_bytes - before.use.held_bytes > max(MIB, before.use.held_bytes // 100):
        _tell(latest, say)
    return Peak(most, max(before.per_rank, latest.per_rank), fuller.used, fuller.total)


def _now(use: ShmUse) -> tuple[int, int] | None:
    """Used and total of the fullest place; None: one is gone."""
    try:
        return max((used(place.path) for place in use.places), key=lambda found: percent(*found))
    except OSError:
        return None


def _tell(found: Peak, say: Callable[[str], None]) -> None:
    many = count_of(len(found.use.counted), "process holds", "processes hold")
    say(
        f"{_clock()}  new high: {many} {size(found.use.held_bytes)}; /dev/shm {size(found.used)}"
        f" of {size(found.total)} ({percent(found.used, found.total)} %)"
    )


def _warn(found: Peak, say: Callable[[str], None]) -> bool:
    """Whether it is said that too little is left."""
    if not too_full(found.used, found.total):
        return False
    say(f"{_clock()}  warning: /dev/shm is more than {FULL_PERCENT} % full")
    return True


def _clock() -> str:
    return time.strftime("%H:%M:%S")
