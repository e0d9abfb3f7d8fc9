"""Which GPUs the variables of CUDA and ROCm leave to a job."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from gpudoctor.facts.expectations import Expectations
from gpudoctor.facts.gpu_path import Allocation, PciGpu
from gpudoctor.facts.gpus import Gpu

G = TypeVar("G", Gpu, PciGpu)


class Selection(Struct, frozen=True, kw_only=True):
    """The GPUs of one vendor that a job finds, in its order.

    Attributes:
        gpus: those that are left.
        among: all of that vendor.
        variables: those that chose, the innermost last: ("CUDA_VISIBLE_DEVICES=0,1",).
        stopped_by: the variable with a word that names no GPU; from that word on all are dropped.
        stopped_at: that word.
        repeated: a word that stands twice, which hides all from CUDA.
        certain: False where the words cannot be told from here, as with slices of MIG.
    """

    gpus: tuple[Gpu, ...] = ()
    among: tuple[Gpu, ...] = ()
    variables: tuple[str, ...] = ()
    stopped_by: str = ""
    stopped_at: str = ""
    repeated: str = ""
    certain: bool = True


def select(gpus: Sequence[Gpu], visible: Mapping[str, str]) -> Selection:
    """What is left of the GPUs by these variables.

    With GPUs of both vendors a job uses those that have the most memory: the others are
    there for the display.
    """
    vendor = vendor_of(gpus)
    among = of_vendor(gpus, vendor)
    return _amd(among, visible) if vendor == "amd" else _nvidia(among, visible)


def promised(
    allocation: Allocation | None, expectations: Expectations | None
) -> tuple[int | None, str]:
    """How many GPUs the job was promised, and by whom; None: nobody said."""
    if expectations and expectations.gpus is not None:
        return expectations.gpus, expectations.told_by or "--expect"
    return (allocation.expected, allocation.told_by) if allocation else (None, "")


def vendor_of(gpus: Sequence[Gpu]) -> str:
    """Whose GPUs a job uses; empty: there are none."""
    memory: dict[str, int] = {}
    for gpu in [gpu for gpu in gpus if not gpu.integrated] or gpus:
        memory[gpu.vendor] = memory.get(gpu.vendor, 0) + (gpu.memory_bytes or 0)
    return max(memory, key=lambda vendor: (memory[vendor], vendor), default="")


def of_vendor(gpus: Iterable[G], vendor: str) -> tuple[G, ...]:
    """Those of one vendor."""
    return tuple(gpu for gpu in gpus if gpu.vendor == vendor)


def _nvidia(among: tuple[Gpu, ...], visible: Mapping[str, str]) -> Selection:
    """CUDA programming guide, environment variables: a list ends at its first invalid word."""
    value = visible.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return Selection(gpus=among, among=among)
    chose = (f"CUDA_VISIBLE_DEVICES={value}",)
    sliced = any(gpu.mig_enabled for gpu in among)
    if value.startswith("MIG-") or (sliced and re.match(r"\d|GPU-", value)):
        # CUDA counts slices, not GPUs, and shows one of them to a process.
        left = tuple(gpu for gpu in among if gpu.mig_enabled) or among
        return Selection(gpus=left, among=among, variables=chose, certain=False)
    places, stopped_at = _places(value, among, lenient=True)
    repeated = [place for number, place in enumerate(places) if place in places[:number]]
    return Selection(
        gpus=() if repeated else tuple(among[place] for place in places),
        among=among,
        variables=chose,
        stopped_by="CUDA_VISIBLE_DEVICES" if stopped_at else "",
        stopped_at=stopped_at,
        # PyTorch's _parse_visible_devices: "Repeated ordinal results in empty set".
        repeated=str(repeated[0]) if repeated else "",
    )


def _amd(among: tuple[Gpu, ...], visible: Mapping[str, str]) -> Selection:
    """ROCr filters first; HIP's numbers are places in what it left.

    ROCm's clr reads CUDA_VISIBLE_DEVICES where HIP_VISIBLE_DEVICES is empty, takes an empty one
    for none, and GPU_DEVICE_ORDINAL only for OpenCL. An empty ROCR_VISIBLE_DEVICES hides all.
    """
    left, chose, by, at = among, [], "", ""
    for name in ("ROCR_VISIBLE_DEVICES", hip_variable(visible)):
        value = visible.get(name)
        if value is None or (not value and name != "ROCR_VISIBLE_DEVICES"):
            continue
        chose.append(f"{name}={value}")
        if "GPU-" in value and not all(gpu.uuid.startswith("GPU-") for gpu in among):
            return Selection(gpus=left, among=among, variables=tuple(chose), certain=False)
        places, stopped_at = _places(value, left, lenient=False)
        left = tuple(left[place] for place in dict.fromkeys(places))
        if stopped_at and not by:
            by, at = name, stopped_at
    return Selection(gpus=left, among=among, variables=tuple(chose), stopped_by=by, stopped_at=at)


def hip_variable(visible: Mapping[str, str]) -> str:
    """The variable that HIP reads."""
    return "HIP_VISIBLE_DEVICES" if visible.get("HIP_VISIBLE_DEVICES") else "CUDA_VISIBLE_DEVICES"


def _places(value: str, among: Sequence[Gpu], *, lenient: bool) -> tuple[list[int], str]:
    """The places that a list names, and the word it stops at, if that names nothing.

    A negative number ends a list on purpose. CUDA reads numbers leniently, as strtoul does.
    """
    places: list[int] = []
    for word in value.split(",") if value else ():
        number = re.match(r"\s*[+-]?\d+" if lenient else r"-?\d+$", word)
        if word.strip().startswith("GPU-"):
            prefix = word.strip().lower()
            found = [n for n, gpu in enumerate(among) if gpu.uuid.lower().startswith(prefix)]
            place = found[0] if len(found) == 1 else len(among)
        else:
            place = int(number[0]) if number else len(among)
        if place < 0:
            break
        if place >= len(among):
            return places, word or "an empty word"
        places.append(place)
    return places, ""
