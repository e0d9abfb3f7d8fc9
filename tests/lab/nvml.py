"""Two healthy H100 as gpudoctor should see them, the machine around them, and how it looked."""

from pathlib import Path
from typing import Any, NamedTuple

from gpudoctor import (
    Allocation,
    Container,
    CudaInit,
    DeviceNode,
    DeviceNodes,
    Expectations,
    Fact,
    Gpu,
    GpuLibraries,
    Gpus,
    KernelDriver,
    KernelLog,
    Link,
    Nvml,
    PciBus,
    PciGpu,
    Status,
    User,
    Workload,
)
from gpudoctor.judge import judge
from gpudoctor.registry import builtin_checks
from gpudoctor.snapshot import Snapshot

from .conftest import DRIVER

FAKE = Path(__file__).with_name("fake_nvml")
WELL = (Status.PASS, Status.SKIP)

H100 = Gpu(
    vendor="nvidia",
    index=0,
    bus_id="0000:1b:00.0",
    name="NVIDIA H100 80GB HBM3",
    uuid="GPU-fa4e0000-0000-4000-8000-000000000000",
    arch="sm_90",
    memory_bytes=85520809984,
    memory_used_bytes=4194304,
    busy_percent=0,
    processes=(),
    ecc_enabled=True,
    ecc_pending=True,
    ecc_uncorrected=0,
    ecc_uncorrected_total=0,
    ecc_corrected_total=2,
    ecc_sram_uncorrected_total=0,
    rows_remapped=0,
    remap_pending=False,
    remap_failed=False,
    banks_exhausted=0,
    recovery_action="none",
    inforom_corrupt=False,
    throttle=("idle",),
    temperature_c=34,
    temperature_slowdown_c=90,
    temperature_memory_c=41,
    power_w=70.123,
    power_limit_w=700.0,
    power_default_w=700.0,
    clock_mhz=345,
    clock_max_mhz=1980,
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replays=0,
    numa_node=0,
    persistence=True,
    compute_mode="default",
    mig_enabled=False,
    mig_pending=False,
    mig_devices=0,
    links=tuple(Link(number=number, active=True, peer="switch", errors=0) for number in range(18)),
    fabric_state="completed",
)
# The rest of a well machine with two H100, which a library does not bring.
AROUND = (
    Allocation(),
    Container(),
    Expectations(),
    User(uid=1000, gid=1000),
    Workload(),
    PciBus(
        gpus=tuple(
            PciGpu(bus_id=bus_id, vendor="nvidia", device_id="0x2330", driver="nvidia", numa_node=0)
            for bus_id in ("0000:1b:00.0", "0000:43:00.0")
        ),
        nvswitches=4,
        numa_nodes=2,
    ),
    KernelDriver(nvidia=DRIVER, nvidia_open=True, nvidia_uvm=True),
    DeviceNodes(
        nodes=tuple(
            DeviceNode(path=f"/dev/{name}", mode="0666", uid=0, gid=0)
            for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")
        )
    ),
    GpuLibraries(
        libcuda=f"/usr/lib/libcuda.so.{DRIVER}",
        libcuda_version=DRIVER,
        libnvidia_ml=f"/usr/lib/libnvidia-ml.so.{DRIVER}",
        libnvidia_ml_version=DRIVER,
    ),
    CudaInit(code=0, devices=2, version=(13, 0)),
    KernelLog(source="/dev/kmsg"),
)
DESKTOP = (
    PciBus(
        gpus=(PciGpu(bus_id="0000:01:00.0", vendor="nvidia", device_id="0x2684", driver="nvidia"),)
    ),
    KernelDriver(nvidia="570.172.08", nvidia_open=True, nvidia_uvm=True),
    DeviceNodes(
        nodes=tuple(
            DeviceNode(path=f"/dev/{name}", mode="0666", uid=0, gid=0)
            for name in ("nvidiactl", "nvidia-uvm", "nvidia0")
        )
    ),
    GpuLibraries(
        libcuda="/usr/lib/libcuda.so.570.172.08",
        libcuda_version="570.172.08",
        libnvidia_ml="/usr/lib/libnvidia-ml.so.570.172.08",
        libnvidia_ml_version="570.172.08",
    ),
    Nvml(library="/usr/lib/libnvidia-ml.so.570.172.08", version="570.172.08", code=0),
    CudaInit(code=0, devices=1, version=(12, 8)),
)


class Seen(NamedTuple):
    """What gpudoctor saw of the GPUs, and what it made of it."""

    snapshot: Snapshot

    def get(self, kind: type[Any]) -> Any:
        return self.snapshot.get(kind)

    @property
    def gpus(self) -> Gpus:
        found = self.snapshot.get(Gpus)
        assert isinstance(found, Gpus), found
        return found

    def alarms(self, *facts: Fact) -> dict[str, Status]:
        """The checks that are not content, were all else on this machine well but for facts."""
        checks = [check for check in builtin_checks() if check.topic == "gpu"]
        results = judge(checks, self.snapshot.replace(*AROUND, *facts))
        return {result.id: result.status for result in results if result.status not in WELL}
