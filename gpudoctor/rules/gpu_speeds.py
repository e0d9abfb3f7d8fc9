"""How fast a GPU should be: data/gpu_speed.json, and GPUs of its kind beside it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpudoctor.data import table
from gpudoctor.facts.gpu_speed import GpuRates, GpuSpeed, Rate
from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.units import size

HELD_BYTES = 2 << 30  # as in gpu-busy: less is the driver's and our own


def expected(name: str, figure: str) -> float | None:
    """What a GPU of this name reached elsewhere; None: not known, so it must not be judged."""
    bare = re.sub(r"^(NVIDIA|AMD) ", "", name.strip(), flags=re.IGNORECASE)
    rows: Sequence[Mapping[str, Any]] = table("gpu_speed")["models"]
    found = (row for row in rows if re.fullmatch(row["name"], bare, re.IGNORECASE))
    return next(found, {}).get(figure)


def expected_copy(gpu: Gpu) -> float | None:
    """GB/s between host and GPU over its PCIe link as wide as it is now.

    The generation is the highest possible: an idle GPU lowers it, and raises it to copy.
    """
    rows = table("gpu_speed")["pcie"]
    lane = next((row["gbs_per_lane"] for row in rows if row["gen"] == gpu.pcie_gen_max), None)
    return lane * gpu.pcie_width if lane and gpu.pcie_width else None


def warn_share(kind: str) -> float:
    """The share of the expected value below which a GPU is slow."""
    share: float = table("gpu_speed")["warn_below"][kind]["value"]
    return share


def gpu_of(rates: GpuRates, gpus: Gpus | None) -> Gpu:
    """The GPU as its driver describes it; where that is not known, as torch does."""
    alive = gpus.alive if gpus else ()
    same = [gpu for gpu in alive if gpu.bus_id and gpu.bus_id == rates.bus_id]
    if not same and not rates.bus_id:  # an older torch does not tell: all must be alike
        named = [gpu for gpu in alive if gpu.name == rates.name]
        links = {(gpu.pcie_gen_max, gpu.pcie_width) for gpu in alive}
        same = [gpu for gpu in named if len(named) == len(alive) and len(links) == 1]
        same = [gpu for gpu in same if gpu.index == rates.index] or same[:1]
    if same:
        return same[0]
    vendor = "amd" if rates.name.startswith("AMD") else "nvidia"
    return Gpu(vendor=vendor, index=rates.index, bus_id=rates.bus_id, name=rates.name)


def behind(own: Rate, peers: Sequence[Rate]) -> float:
    """How far a GPU's best round is below the median of the others' best, 0.1 for 10 %."""
    if not peers:
        return 0.0
    best = sorted(peer.best for peer in peers)
    middle = (best[(len(best) - 1) // 2] + best[len(best) // 2]) / 2
    return 1 - own.best / middle if middle else 0.0


def beside(speed: GpuSpeed, rates: GpuRates, gpu: Gpu) -> list[str]:
    """What else may have had a part in a GPU's figures: other work, busy CPUs."""
    found = []
    if rates.busy_percent:
        found.append(f"before it was measured GPU {gpu.index} was {rates.busy_percent} % busy")
    if (rates.memory_used_bytes or 0) > HELD_BYTES:
        found.append(f"{size(rates.memory_used_bytes)} of GPU {gpu.index}'s memory was in use")
    if gpu.processes:
        pids = ", ".join(str(process.pid) for process in gpu.processes[:4])
        found.append(f"processes on GPU {gpu.index}: pid {pids}")
    if speed.load_average is not None and speed.cpus:
        found.append(f"load average {speed.load_average:.1f} on {speed.cpus} CPUs")
    return found
