"""All NVIDIA GPUs through NVML: each asked in a thread of its own, then the ways between them."""

import time
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gpudoctor.facts.gpus import Gpus, Pair
from gpudoctor.probes import Machine, nvml_library, signs
from gpudoctor.probes import nvml_values as values
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent

if TYPE_CHECKING:
    from gpudoctor.probes.nvidia_gpu import Reading

READ_SECONDS = 4.0  # for all GPUs at once; a healthy one answers everything in 0.1 to 1 s
REST_SECONDS = 2.0  # for what is left of a GPU after a question that hangs
PAIR_SECONDS = 2.0
MOST_PAIRED = 16
STACK = 2 << 20  # bytes; foreign code may want more than our own

READ, WRITE, NVLINK = 0, 1, 2  # NVML_P2P_CAPS_INDEX_*
NO_PERMISSION = 4


def nvidia_gpus(machine: Machine, seconds: float) -> Gpus | Absent:
    """What NVML says of all GPUs within so many seconds, or why it says nothing."""
    until = time.monotonic() + seconds
    library = nvml_library.load(machine)
    if library is None:
        return Absent(signs.no_nvidia(machine))
    if library.handle is None:
        return Absent("NVML cannot be loaded: see gpu-visible")  # the Nvml fact says why
    # Some 30 ms that machines without the library do not pay.
    import pynvml as nvml

    from gpudoctor.probes.nvidia_gpu import Reading

    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return Absent(f"NVML does not start: {nvml_library.name_of(error.value)}")
    # Before anything can hang: one call that does may keep a lock that all others need.
    driver = _answer(nvml, nvml.nvmlSystemGetDriverVersion) or ""
    cuda = _answer(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    readings = [Reading(nvml, machine, index) for index in range(count)]
    left = until - time.monotonic() - REST_SECONDS - PAIR_SECONDS
    patience = max(1.0, min(READ_SECONDS, left))
    in_time([reading.read for reading in readings], patience, STACK)
    in_time([r.read for r in readings if r.hangs and r.handle], REST_SECONDS, STACK)
    others = [reading for reading in readings if reading.code == NO_PERMISSION]
    if others and len(others) == count:
        return Absent(f"none of {count} GPUs may be read: NVML_ERROR_NO_PERMISSION")
    pairs, remarks = _pairs(nvml, [r for r in readings if not (r.code or r.hangs)])
    if others:
        remarks.append(f"{len(others)} of {count} GPUs are closed to us: NVML_ERROR_NO_PERMISSION")
    return Gpus(
        devices=tuple(reading.gpu(patience) for reading in readings if reading not in others),
        pairs=pairs,
        driver=driver,
        cuda=values.cuda(cuda) if cuda else None,
        sources=("nvml",),
        remarks=tuple(remarks),
    )


def _pairs(nvml: Any, alive: Sequence["Reading"]) -> tuple[tuple[Pair, ...], list[str]]:
    """What is known of each pair of GPUs that answer, and what should be said of it."""
    remarks = []
    if len(alive) > MOST_PAIRED:
        remarks.append(f"pairs are read of {MOST_PAIRED} of {len(alive)} GPUs only")
    couples = list(combinations(alive[:MOST_PAIRED], 2))
    (pairs,) = in_time([lambda: [_pair(nvml, *couple) for couple in couples]], PAIR_SECONDS, STACK)
    if pairs is None:
        remarks.append(f"pairs of GPUs: no answer in {PAIR_SECONDS:g} s")
    return tuple(pair for pair in pairs or () if pair), remarks


def _pair(nvml: Any, one: "Reading", other: "Reading") -> Pair | None:
    handles = one.handle, other.handle
    status = [_answer(nvml, nvml.nvmlDeviceGetP2PStatus, *handles, cap) for cap in (READ, WRITE)]
    path = values.PATHS.get(_answer(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, *handles), "")
    if _answer(nvml, nvml.nvmlDeviceGetP2PStatus, *handles, NVLINK) == 0:
        path = "NVLink"
    if status == [None, None] and not path:
        return None
    worst = next((code for code in status if code), status[0])
    return Pair(one=one.index, other=other.index, p2p=values.P2P.get(worst, "unknown"), path=path)


def _answer(nvml: Any, call: Any, *arguments: Any) -> Any:
    """What a call returns, or None where it fails."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None
