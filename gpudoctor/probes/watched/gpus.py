"""GPUs of both vendors: only what changes while a job runs, by a library that stays loaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from gpudoctor.facts.gpus import Gpu
from gpudoctor.probes import Machine, nvml_library, signs
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent

SECONDS = 3.0  # for all GPUs at once
STACK = 2 << 20  # bytes; foreign code may want more than our own
NO_PERMISSION = 4
# Of Gpu; of these the questions are asked again for every look.
FIELDS = frozenset(
    (
        *("name", "bus_id", "memory_used_bytes", "busy_percent", "ecc_uncorrected"),
        *("remap_pending", "remap_failed", "pages_pending", "recovery_action"),
        *("throttle", "temperature_c", "temperature_slowdown_c"),
    )
)


class GpusSource:
    """Every GPU that the vendors' drivers name at the beginning."""

    def __init__(self, machine: Machine) -> None:
        self._looks: list[Callable[[], tuple[Gpu, ...]]] = []
        self._why = ""
        if not signs.no_nvidia(machine):
            self._add_nvidia(machine)
        if not signs.no_amd(machine):
            self._add_amd(machine)

    def __call__(self) -> tuple[Gpu, ...] | Absent:
        if not self._looks:
            return Absent(self._why or "no GPU is here")
        return tuple(gpu for look in self._looks for gpu in look())

    def _add_nvidia(self, machine: Machine) -> None:
        library = nvml_library.load(machine)
        if library is None or library.handle is None:
            self._why = f"NVML cannot be loaded: {library.error if library else 'not found'}"
            return
        import pynvml as nvml

        try:
            nvml.nvmlInit()
            if nvml.nvmlDeviceGetCount():
                self._looks.append(Nvidia(nvml, machine))
        except nvml.NVMLError as error:
            self._why = f"NVML does not start: {nvml_library.name_of(error.value)}"

    def _add_amd(self, machine: Machine) -> None:
        from gpudoctor.probes.amd_gpus import amd_gpus

        found = amd_gpus(machine)
        if found and found.devices:
            self._looks.append(Amd(machine, [gpu for gpu in found.devices if not gpu.lost]))


class Nvidia:
    """NVIDIA's GPUs; one that hangs is not asked again before it has answered."""

    def __init__(self, nvml: Any, machine: Machine) -> None:
        self._nvml, self._machine = nvml, machine
        self._hanging: dict[int, Any] = {}
        self._bus_ids: dict[int, str] = {}

    def __call__(self) -> tuple[Gpu, ...]:
        from gpudoctor.probes.nvidia_gpu import Reading

        nvml = self._nvml
        self._hanging = {i: reading for i, reading in self._hanging.items() if reading.hangs}
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            name = nvml_library.name_of(error.value)
            return tuple(_lost(index, bus, name) for index, bus in self._bus_ids.items())
        new = [Reading(nvml, self._machine, i, FIELDS) for i in range(count)]
        asked = [reading for reading in new if reading.index not in self._hanging]
        in_time([reading.read for reading in asked], SECONDS, STACK)
        self._hanging |= {reading.index: reading for reading in asked if reading.hangs}
        found = []
        for reading in asked:
            if reading.code == NO_PERMISSION or reading.hangs:
                continue
            gpu = reading.gpu(SECONDS)
            if gpu.bus_id:
                self._bus_ids[gpu.index] = gpu.bus_id
            found.append(replace(gpu, bus_id=self._bus_ids.get(gpu.index, "")))
        late = f"no answer in {SECONDS:g} s"
        found += [_lost(index, self._bus_ids.get(index, ""), late) for index in self._hanging]
        return tuple(sorted(found, key=lambda gpu: gpu.index))


class Amd:
    """AMD's GPUs by their files in sysfs; a driver that recovers one may not answer."""

    def __init__(self, machine: Machine, known: list[Gpu]) -> None:
        from gpudoctor.probes.amd_sysfs import Device

        self._devices = [
            (gpu, Device(machine, f"/sys/bus/pci/devices/{gpu.bus_id}")) for gpu in known
        ]

    def __call__(self) -> tuple[Gpu, ...]:
        found = in_time([partial(self._gpu, *pair) for pair in self._devices], SECONDS)
        late = f"no answer in {SECONDS:g} s"
        return tuple(
            gpu or replace(known, lost=late)
            for gpu, (known, _) in zip(found, self._devices, strict=True)
        )

    def _gpu(self, known: Gpu, device: Any) -> Gpu:
        fields = device.fields()
        if not fields:
            return replace(known, lost="it is not on the bus any more")
        fields["memory_used_bytes"] = device.number("mem_info_vram_used", "memory_used_bytes")
        told = {name: value for name, value in fields.items() if name in FIELDS or name == "lost"}
        return Gpu(vendor="amd", index=known.index, name=known.name, bus_id=known.bus_id, **told)


def _lost(index: int, bus_id: str, why: str) -> Gpu:
    return Gpu(vendor="nvidia", index=index, bus_id=bus_id, lost=why)
