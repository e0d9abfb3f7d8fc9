"""The figures of a node, and how they are spread over a fleet."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from gpudoctor.facts.all_reduce import AllReduce
from gpudoctor.facts.clock import Clock
from gpudoctor.facts.gpu_speed import GpuSpeed, Rate
from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.facts.shm import Shm
from gpudoctor.facts.storage import Storage
from gpudoctor.facts.system import System
from gpudoctor.fleet.model import Extreme, Figure, FigureKey
from gpudoctor.snapshot import Absent, F, Fact, Snapshot

KINDS: tuple[type[Fact], ...] = (AllReduce, Clock, GpuSpeed, Gpus, Shm, Storage, System)


class Kind(Struct, frozen=True):
    """A figure; `low_is_bad` None: neither end is bad by itself."""

    key: str
    label: str
    unit: str
    low_is_bad: bool | None = None


KNOWN = (
    Kind("busbw", "All-reduce, bus bandwidth", "bytes/s", True),
    Kind("h2d", "Host to GPU, slowest GPU", "GB/s", True),
    Kind("d2h", "GPU to host, slowest GPU", "GB/s", True),
    Kind("memory", "GPU memory, slowest GPU", "GB/s", True),
    Kind("matmul", "Matrix products, slowest GPU", "TFLOPS", True),
    Kind("temperature", "GPU temperature, hottest GPU", "°C", False),
    Kind("memory_temperature", "GPU memory temperature, hottest", "°C", False),
    Kind("clock", "GPU clock, slowest GPU", "MHz"),
    Kind("power", "GPU power, all GPUs", "W"),
    Kind("corrected", "Corrected memory errors, all GPUs", "", False),
    Kind("shm_free", "/dev/shm free", "bytes", True),
    Kind("memory_free", "Memory available", "bytes", True),
    Kind("disk_free", "Free space, fullest file system", "bytes", True),
    Kind("clock_error", "Clock error, at most", "s", False),
    Kind("uptime", "Up for", "s"),
    Kind("seconds", "Run time of gpudoctor", "s", False),
)
PLACES = {kind.key: place for place, kind in enumerate(KNOWN)}


def figures(node: Snapshot, seconds: float) -> dict[str, float]:
    """All figures that a node tells, by key."""
    told = dict(_told(node))
    told["seconds"] = seconds
    return {key: float(value) for key, value in told.items() if math.isfinite(value)}


def _told(node: Snapshot) -> Iterator[tuple[str, float]]:
    yield from _speeds(node)
    if gpus := _known(node, Gpus):
        yield from _gpus(gpus.devices)
    if (shm := _known(node, Shm)) and shm.exists:
        yield "shm_free", shm.free_bytes
    if system := _known(node, System):
        if system.memory_available_bytes is not None:
            yield "memory_free", system.memory_available_bytes
        if system.uptime_seconds is not None:
            yield "uptime", system.uptime_seconds
    if storage := _known(node, Storage):
        free = [place.free_bytes for place in storage.places if place.free_bytes is not None]
        if free:
            yield "disk_free", min(free)
    if (clock := _known(node, Clock)) and clock.synchronised:
        yield "clock_error", clock.max_error_seconds


def _known(node: Snapshot, kind: type[F]) -> F | None:
    fact = node.get(kind)
    return None if isinstance(fact, Absent) else fact


def _speeds(node: Snapshot) -> Iterator[tuple[str, float]]:
    reduced = _known(node, AllReduce)
    if reduced and reduced.points:
        yield "busbw", max(point.busbw for point in reduced.points)
    if speed := _known(node, GpuSpeed):
        yield from _least("h2d", [gpu.h2d_gbs for gpu in speed.devices])
        yield from _least("d2h", [gpu.d2h_gbs for gpu in speed.devices])
        yield from _least("memory", [gpu.memory_gbs for gpu in speed.devices])
        yield from _least("matmul", [gpu.matmul_tflops for gpu in speed.devices])


def _least(key: str, rates: Iterable[Rate | None]) -> Iterator[tuple[str, float]]:
    known = [rate.best for rate in rates if rate is not None]
    if known:
        yield key, min(known)


def _gpus(gpus: Sequence[Gpu]) -> Iterator[tuple[str, float]]:
    for key, found, pick in (
        ("temperature", [gpu.temperature_c for gpu in gpus], max),
        ("memory_temperature", [gpu.temperature_memory_c for gpu in gpus], max),
        ("clock", [gpu.clock_mhz for gpu in gpus], min),
        ("power", [gpu.power_w for gpu in gpus], sum),
        ("corrected", [gpu.ecc_corrected_total for gpu in gpus], sum),
    ):
        known = [value for value in found if value is not None]
        if known:
            yield key, pick(known)


def spread(kind: Kind, cohort: str, told: Sequence[tuple[float, str]]) -> Figure:
    """The distribution of a figure over the nodes that tell it, at least one.

    Args:
        told: values, each with the name of its node.
    """
    ordered = sorted(told)
    p1, p50, p99 = (_percentile(ordered, share) for share in (0.01, 0.5, 0.99))
    return Figure(
        key=kind.key,
        label=kind.label,
        unit=kind.unit,
        cohort=cohort,
        count=len(ordered),
        low=Extreme(*ordered[0]),
        p1=p1,
        p50=p50,
        p99=p99,
        high=Extreme(*ordered[-1]),
        low_is_bad=kind.low_is_bad,
    )


def _percentile(ordered: Sequence[tuple[float, str]], share: float) -> float:
    """The smallest value that so large a share of the nodes does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)][0]


def keys(told: Iterable[Mapping[str, float]]) -> tuple[FigureKey, ...]:
    """The figures that at least one node tells, in our order."""
    found = {key for each in told for key in each}
    return tuple(FigureKey(k.key, k.label, k.unit) for k in KNOWN if k.key in found)
