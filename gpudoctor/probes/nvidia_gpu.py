"""One NVIDIA GPU through NVML, field by field: what fails takes nothing else with it."""

import os
from collections.abc import Callable, Iterable, Set
from ctypes import byref
from functools import partial
from typing import Any

from gpudoctor.facts.gpus import Gpu, GpuProcess, Link
from gpudoctor.probes import Machine
from gpudoctor.probes import nvml_values as values
from gpudoctor.probes.nvml_library import name_of

INVALID_ARGUMENT, NOT_FOUND, CORRUPTED_INFOROM, GPU_IS_LOST = 2, 6, 14, 15
# NOT_SUPPORTED, FUNCTION_NOT_FOUND, VGPU_ECC_NOT_SUPPORTED, ARGUMENT_VERSION_MISMATCH,
# DEPRECATED: neither hardware nor driver has it, which is no error.
NOT_THERE = (3, 13, 22, 25, 26)
CORE, SLOWDOWN, SM, NODE = 0, 1, 1, 0  # sensor, threshold, clock, affinity scope
CORRECTED, UNCORRECTED = 0, 1
VOLATILE, AGGREGATE = 0, 1
SRAM = 7  # memory location
SINGLE_BIT, DOUBLE_BIT = 0, 1  # causes of page retirement
MEMORY_TEMPERATURE, SLOWDOWN_MARGIN, LINK_RECOVERIES, RECOVERY_ACTION = 82, 194, 215, 230
FIELD_TYPES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
LINK_ERRORS = (0, 1, 2, 3)  # replay, recovery, CRC of flow control, CRC of data
REMOTE_GPU, REMOTE_SWITCH = 0, 2
COMPLETED = 3  # fabric state
NUMA_WORDS = 4  # of 64 nodes each

Call = Callable[[], Any]
Questions = list[tuple[Any, ...]]  # the fields, and the calls that bring them


class Reading:
    """What one GPU has answered so far; a thread of its own fills it by `read()`.

    Attributes:
        code: what NVML returned where that ended the reading, else 0.
        hangs: a question has no answer yet.
        only: the fields that are asked for; None: all.
    """

    def __init__(
        self, nvml: Any, machine: Machine, index: int, only: Set[str] | None = None
    ) -> None:
        self.nvml = nvml
        self.machine = machine
        self.index = index
        self.only = only
        self.handle: Any = None
        self.code = 0
        # What the binding raises for a call that it or the library does not have.
        self._no_call = (AttributeError, getattr(nvml, "NVMLLibraryMismatchError", AttributeError))
        self._todo: Questions = []
        self._asking = ["handle"]
        self._answers: dict[str, Any] = {}
        self._unread: dict[str, str] = {}

    @property
    def hangs(self) -> bool:
        return bool(self._asking) and not self.code

    def read(self) -> None:
        """Ask the GPU everything that it was not asked yet; it may hang anywhere."""
        try:
            if self.handle is None:
                self.handle = self.nvml.nvmlDeviceGetHandleByIndex(self.index)
                self._todo += self._identity() + self._load() + self._memory_errors()
                self._todo += self._heat_and_power() + self._bus_and_modes() + self._connections()
                self._todo = [question for question in self._todo if self._is_meant(question[0])]
                self._asking.remove("handle")
            while self._todo:
                fields, *calls = self._todo.pop(0)
                self._asking.append(fields)
                self._ask(fields.split(), calls)
                self._asking.remove(fields)
        except self.nvml.NVMLError as error:
            self.code = error.value

    def gpu(self, seconds: float) -> Gpu:
        """The GPU as far as it has answered; a question had so many seconds."""
        late = f"no answer in {seconds:g} s"
        lost = name_of(self.code) if self.code else ""
        if self.hangs and self.handle is None:
            lost = late
        unread = dict(self._unread)
        if not lost:
            for fields, *_ in list(self._todo):
                unread |= dict.fromkeys(fields.split(), "not asked, as others had no answer")
            for fields in list(self._asking):
                unread |= dict.fromkeys(fields.split(), late)
        answers = dict(self._answers)
        return Gpu(vendor="nvidia", index=self.index, lost=lost, unread=unread, **answers)

    def _is_meant(self, fields: str) -> bool:
        return self.only is None or not self.only.isdisjoint(fields.split())

    def _ask(self, fields: list[str], calls: Iterable[Call]) -> None:
        """Keep the answer of the first call that is there; several fields share its values."""
        try:
            answer = self._first(*calls)
        except self.nvml.NVMLError as error:
            if error.value == GPU_IS_LOST:
                raise
            self._unread |= dict.fromkeys(fields, name_of(error.value))
            return
        except Exception as error:  # an answer that is none; the other fields are still good
            self._unread |= dict.fromkeys(fields, f"{type(error).__name__}: {error}")
            return
        if answer is not None:
            shared = answer if len(fields) > 1 else [answer]
            self._answers |= dict(zip(fields, shared, strict=True))

    def _first(self, *calls: Call) -> Any:
        """The answer of the first call that is there, or None."""
        for call in calls:
            try:
                return call()
            except self._no_call:
                continue
            except self.nvml.NVMLError as error:
                if error.value not in NOT_THERE:
                    raise
        return None

    def _or_none(self, call: Call) -> Any:
        """The answer to what may fail unnoticed."""
        try:
            return self._first(call)
        except self.nvml.NVMLError as error:
            if error.value == GPU_IS_LOST:
                raise
            return None

    # Each of these returns the fields with the calls that bring them, the newest call first.

    def _identity(self) -> Questions:
        n, gpu = self.nvml, self.handle
        return [
            ("bus_id", lambda: values.bus_id(n.nvmlDeviceGetPciInfo(gpu).busId)),
            ("name", lambda: values.text(n.nvmlDeviceGetName(gpu))),
            ("uuid", lambda: values.text(n.nvmlDeviceGetUUID(gpu))),
            ("arch", lambda: "sm_{}{}".format(*n.nvmlDeviceGetCudaComputeCapability(gpu))),
        ]

    def _load(self) -> Questions:
        n, gpu = self.nvml, self.handle
        return [
            # Only the newer call does not count as used what the driver has reserved.
            (
                "memory_bytes memory_used_bytes",
                lambda: _memory(n.nvmlDeviceGetMemoryInfo(gpu, n.nvmlMemory_v2)),
                lambda: _memory(n.nvmlDeviceGetMemoryInfo(gpu)),
            ),
            ("busy_percent", lambda: n.nvmlDeviceGetUtilizationRates(gpu).gpu),
            ("processes", self._processes),
        ]

    def _memory_errors(self) -> Questions:
        n, gpu = self.nvml, self.handle
        errors = n.nvmlDeviceGetTotalEccErrors
        pages = n.nvmlDeviceGetRetiredPages
        return [
            ("ecc_enabled ecc_pending", lambda: map(bool, n.nvmlDeviceGetEccMode(gpu))),
            ("ecc_uncorrected", lambda: errors(gpu, UNCORRECTED, VOLATILE)),
            ("ecc_uncorrected_total", lambda: errors(gpu, UNCORRECTED, AGGREGATE)),
            ("ecc_corrected_total", lambda: errors(gpu, CORRECTED, AGGREGATE)),
            (
                "ecc_sram_uncorrected_total",
                self._sram_errors,
                lambda: n.nvmlDeviceGetMemoryErrorCounter(gpu, UNCORRECTED, AGGREGATE, SRAM),
            ),
            ("pages_retired", lambda: sum(len(pages(gpu, c)) for c in (SINGLE_BIT, DOUBLE_BIT))),
            ("pages_pending", lambda: bool(n.nvmlDeviceGetRetiredPagesPendingStatus(gpu))),
            (
                "rows_remapped remap_pending remap_failed",
                lambda: values.remapped(n.nvmlDeviceGetRemappedRows(gpu)),
            ),
            ("banks_exhausted", lambda: n.nvmlDeviceGetRowRemapperHistogram(gpu).none),
            (
                "recovery_action",
                lambda: values.named(values.RECOVERY_ACTIONS, self._field(RECOVERY_ACTION)),
            ),
            ("inforom_corrupt", self._inforom_corrupt),
        ]

    def _heat_and_power(self) -> Questions:
        n, gpu = self.nvml, self.handle
        return [
            (
                "throttle",
                lambda: values.reasons(n.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
                lambda: values.reasons(n.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
            ),
            (
                "temperature_c",
                lambda: n.nvmlDeviceGetTemperatureV(gpu, CORE),
                lambda: n.nvmlDeviceGetTemperature(gpu, CORE),
            ),
            (
                "temperature_slowdown_c",
                lambda: n.nvmlDeviceGetTemperatureThreshold(gpu, SLOWDOWN),
                self._slowdown_by_margin,
            ),
            ("temperature_memory_c", lambda: self._field(MEMORY_TEMPERATURE)),
            ("power_w", lambda: n.nvmlDeviceGetPowerUsage(gpu) / 1000),
            (
                "power_limit_w",
                lambda: n.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
                lambda: n.nvmlDeviceGetPowerManagementLimit(gpu) / 1000,
            ),
            (
                "power_default_w",
                lambda: n.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000,
            ),
            ("clock_mhz", lambda: n.nvmlDeviceGetClockInfo(gpu, SM)),
            ("clock_max_mhz", lambda: n.nvmlDeviceGetMaxClockInfo(gpu, SM)),
        ]

    def _bus_and_modes(self) -> Questions:
        n, gpu = self.nvml, self.handle
        return [
            # NVML's highest are those of slot and GPU together.
            ("pcie_gen", lambda: n.nvmlDeviceGetCurrPcieLinkGeneration(gpu)),
            ("pcie_gen_max", lambda: n.nvmlDeviceGetMaxPcieLinkGeneration(gpu)),
            ("pcie_width", lambda: n.nvmlDeviceGetCurrPcieLinkWidth(gpu)),
            ("pcie_width_max", lambda: n.nvmlDeviceGetMaxPcieLinkWidth(gpu)),
            ("pcie_replays", lambda: n.nvmlDeviceGetPcieReplayCounter(gpu)),
            # Not nvmlDeviceGetNumaNodeId: that is the node that a GPU's own memory makes.
            (
                "numa_node",
                lambda: values.only_bit(n.nvmlDeviceGetMemoryAffinity(gpu, NUMA_WORDS, NODE)),
            ),
            ("persistence", lambda: bool(n.nvmlDeviceGetPersistenceMode(gpu))),
            (
                "compute_mode",
                lambda: values.named(values.COMPUTE_MODES, n.nvmlDeviceGetComputeMode(gpu)),
            ),
            ("mig_enabled mig_pending", lambda: map(bool, n.nvmlDeviceGetMigMode(gpu))),
            ("mig_devices", self._mig_devices),
        ]

    def _connections(self) -> Questions:
        n = self.nvml
        return [
            ("links", self._links),
            (
                "fabric_state fabric_error fabric_unhealthy",
                lambda: self._fabric(n.nvmlDeviceGetGpuFabricInfoV, n.c_nvmlGpuFabricInfo_v3_t),
                lambda: self._fabric(n.nvmlDeviceGetGpuFabricInfoV, n.c_nvmlGpuFabricInfoV_t),
                lambda: self._fabric(n.nvmlDeviceGetGpuFabricInfo, n.c_nvmlGpuFabricInfo_t),
            ),
        ]

    def _field(self, number: int, scope: int = 0) -> Any:
        (value,) = self.nvml.nvmlDeviceGetFieldValues(self.handle, [(number, scope)])
        if value.nvmlReturn:
            raise self.nvml.NVMLError(value.nvmlReturn)
        return getattr(value.value, FIELD_TYPES[value.valueType])

    def _processes(self) -> tuple[GpuProcess, ...] | None:
        n, gpu = self.nvml, self.handle
        found = self._first(
            lambda: n.nvmlDeviceGetComputeRunningProcesses(gpu),
            lambda: n.nvmlDeviceGetComputeRunningProcesses_v2(gpu),
        )
        if found is None:
            return None
        clients = self._or_none(lambda: n.nvmlDeviceGetMPSComputeRunningProcesses(gpu)) or []
        held = {process.pid: process.usedGpuMemory for process in (*clients, *found)}
        return tuple(
            _process(self.machine, pid, used)
            for pid, used in sorted(held.items())
            if not descends(self.machine, pid, os.getppid())
        )

    def _sram_errors(self) -> int:
        status = self.nvml.c_nvmlEccSramErrorStatus_v1_t()
        self.nvml.nvmlDeviceGetSramEccErrorStatus(self.handle, byref(status))
        return int(status.aggregateUncParity + status.aggregateUncSecDed)

    def _inforom_corrupt(self) -> bool:
        try:
            self.nvml.nvmlDeviceValidateInforom(self.handle)
        except self.nvml.NVMLError as error:
            if error.value != CORRUPTED_INFOROM:
                raise
            return True
        return False

    def _slowdown_by_margin(self) -> int | None:
        """Newer GPUs tell only how far away it is."""
        now = self._answers.get("temperature_c")
        if now is None:
            return None
        margin = self.nvml.nvmlDeviceGetMarginTemperature(self.handle)
        return int(now + margin - self._field(SLOWDOWN_MARGIN))

    def _mig_devices(self) -> int:
        count = 0
        for index in range(self.nvml.nvmlDeviceGetMaxMigDeviceCount(self.handle)):
            try:
                self.nvml.nvmlDeviceGetMigDeviceHandleByIndex(self.handle, index)
            except self.nvml.NVMLError as error:
                if error.value != NOT_FOUND:
                    raise
            else:
                count += 1
        return count

    def _links(self) -> tuple[Link, ...] | None:
        found = []
        for number in range(self.nvml.NVML_NVLINK_MAX_LINKS):
            try:
                active = bool(self.nvml.nvmlDeviceGetNvLinkState(self.handle, number))
            except self.nvml.NVMLError as error:
                if error.value == INVALID_ARGUMENT:
                    break
                if error.value not in NOT_THERE:
                    raise
            else:
                peer, errors = self._peer(number), self._link_errors(number)
                found.append(Link(number=number, active=active, peer=peer, errors=errors))
        return tuple(found) or None

    def _peer(self, link: int) -> str:
        n, gpu = self.nvml, self.handle
        kind = self._or_none(lambda: n.nvmlDeviceGetNvLinkRemoteDeviceType(gpu, link))
        if kind == REMOTE_SWITCH:
            return "switch"
        if kind != REMOTE_GPU:
            return ""
        remote = self._or_none(lambda: n.nvmlDeviceGetNvLinkRemotePciInfo(gpu, link).busId)
        return values.bus_id(remote) if remote else ""

    def _link_errors(self, link: int) -> int | None:
        count = self.nvml.nvmlDeviceGetNvLinkErrorCounter
        counts = [self._or_none(partial(count, self.handle, link, kind)) for kind in LINK_ERRORS]
        known: list[int] = [count for count in counts if count is not None]
        if known:
            return sum(known)
        recoveries: int | None = self._or_none(partial(self._field, LINK_RECOVERIES, link))
        return recoveries

    def _fabric(self, call: Any, kind: Any) -> tuple[str, str, tuple[str, ...]] | None:
        info = kind()
        call(self.handle, byref(info))
        if info.state not in values.FABRIC_STATES:
            return None
        error = name_of(info.status) if info.state == COMPLETED and info.status else ""
        mask, summary = getattr(info, "healthMask", 0), getattr(info, "healthSummary", 0)
        return values.FABRIC_STATES[info.state], error, values.unhealthy(mask, summary)


def descends(machine: Machine, pid: int, ancestor: int) -> bool:
    """Whether a process was started by another: probes of this very run use GPUs too."""
    for _ in range(64):
        if pid <= 1 or pid == ancestor:
            break
        fields = (machine.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
    return pid == ancestor


def _memory(info: Any) -> tuple[int, int]:
    return info.total, info.used


def _process(machine: Machine, pid: int, used: int | None) -> GpuProcess:
    name = machine.text(f"/proc/{pid}/comm")
    return GpuProcess(pid=pid, memory_bytes=used, name=name or "", visible=name is not None)
