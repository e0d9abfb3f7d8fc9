"""Where checkpoints go, and the clock."""

from collections.abc import Iterator

from gpudoctor.units import size
from gpudoctor.watch.course import Course
from gpudoctor.watch.event import Trouble
from gpudoctor.watch.look import Space

# Nearly full: so small a share and so few bytes; on a large file system a share is still much.
NEARLY, NEARLY_BYTES = 0.05, 100 << 30
FULL, FULL_BYTES = 0.001, 100 << 20
STEP = 1.0  # seconds; a daemon that slews moves the clock by 0.5 ms in a second


def troubles(course: Course) -> Iterator[Trouble]:
    """What is not well in the look of now."""
    for place in course.now.places or ():
        yield from _space(place)
    yield from _clock(course)


def _space(place: Space) -> Iterator[Trouble]:
    total, free = place.total_bytes, place.free_bytes
    full = total > 0 and free < min(FULL * total, FULL_BYTES)
    inodes = place.inodes > 0 and place.inodes_free == 0
    if full or inodes or (total > 0 and free < min(NEARLY * total, NEARLY_BYTES)):
        bad = full or inodes
        yield Trouble(
            id="disk-full" if bad else "disk-filling",
            subject=place.path,
            level="error" if bad else "warning",
            text="no inode left" if inodes else f"{size(free)} of {size(total)} free",
            means='the next checkpoint ends with "No space left on device", or is cut short',
            do="Remove old checkpoints, or write them elsewhere",
            check="storage-space",
            source="places",
            end="there is space again",
        )


def _clock(course: Course) -> Iterator[Trouble]:
    now, last = course.now, course.last
    step = (now.clock - last.clock) - (now.at - last.at)
    if abs(step) > STEP:
        yield Trouble(
            id="clock-step",
            subject="clock",
            level="warning",
            text=f"set {abs(step):.1f} s {'ahead' if step > 0 else 'back'}",
            means="time stamps of ranks no longer agree; certificates and tokens may expire",
            do="See who sets it: `chronyc tracking`, `timedatectl`",
            check="clock-sync",
            source="clock",
            mark=f"{now.at:.3f}",
        )
