"""The size of /dev/shm for so many equal processes, when it is known what one of them takes.

The rule is the one that reproduces a table that people pass on: 512 MiB while that is twice the
need; beyond, the need and 30 % of it, in whole GiB.
"""

from collections.abc import Iterable

from msgspec import Struct

from gpudoctor.units import GIB, MIB, size

SMALL = 512 * MIB
ROOM = 2  # times the need that the small size must have
RESERVE_PERCENT = 30
FULL_PERCENT = 80  # of /dev/shm, from which on there is too little left
PER_GPU = tuple(range(1, 13))


class Sizes(Struct, frozen=True):
    """Sizes for one need: what just holds it, what to ask for, and what leaves plenty."""

    least: int
    recommended: int
    generous: int


class Row(Struct, frozen=True):
    """So many processes on each GPU, what they need together, and the size for it."""

    per_gpu: int
    processes: int
    need: int
    recommended: int


def sizes(need: int) -> Sizes:
    """The sizes for a need."""
    least = SMALL if need <= SMALL else _whole_gib(need)
    recommended = SMALL if ROOM * need <= SMALL else _whole_gib(with_reserve(need))
    return Sizes(least, recommended, 2 * recommended)


def with_reserve(need: int) -> int:
    """The need and its reserve."""
    return need * (100 + RESERVE_PERCENT) // 100


def _whole_gib(count: int) -> int:
    return -(-count // GIB) * GIB


def rows(gpus: int, per_process: int, per_gpu: Iterable[int] = PER_GPU) -> tuple[Row, ...]:
    """The table: more and more processes on each GPU."""
    needs = [(each, gpus * each, gpus * each * per_process) for each in per_gpu]
    return tuple(Row(*need, sizes(need[-1]).recommended) for need in needs)


def arithmetic(need: int) -> str:
    """How the recommended size comes about."""
    if ROOM * need <= SMALL:
        return f"{ROOM} x {size(need)} fits into {size(SMALL)}"
    enough = with_reserve(need)
    return (
        f"{size(need)} and {RESERVE_PERCENT} % ="
        f" {f'{enough / MIB:.4g} MiB' if enough < GIB else size(enough)},"
        f" in whole GiB: {size(sizes(need).recommended)}"
    )
