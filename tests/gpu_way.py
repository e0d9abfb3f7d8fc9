"""Whole ways from the bus to the runtime, all in order; a test breaks them at one place."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from gpudoctor import (
    Absent,
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
    HipInit,
    KernelDriver,
    Nvml,
    PciBus,
    PciGpu,
    Snapshot,
    User,
    Workload,
)
from gpudoctor.judge import judge_one
from gpudoctor.registry import get
from gpudoctor.snapshot import name_of
from tests.gpu_machines import (
    DESKTOP,
    H100,
    HGX,
    INSTINCT,
    MI300X,
    NOTEBOOK,
    SLICED,
    VGPU,
    WSL2,
    machine,
)

VERSION = "570.172.08"
GIB = 1 << 30
DOCKER = Container(runtime="docker", launcher="docker", pid_private=True)
POD = Container(runtime="containerd", launcher="kubernetes", kubernetes=True, pid_private=True)
SLURM = Container(launcher="slurm", slurm=True)
ALICE = User(uid=1000, gid=1000, groups=(1000, 27))
IDS = {"nvidia": "0x2330", "amd": "0x74a1"}
DRIVERS = {"nvidia": "nvidia", "amd": "amdgpu"}
NO_AMD = Absent("nothing here speaks of a GPU of AMD's")
NO_NVIDIA = Absent("nothing here speaks of a GPU of NVIDIA's")
NVIDIA_LIBRARIES = GpuLibraries(
    libcuda=f"/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}",
    libcuda_version=VERSION,
    libnvidia_ml=f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{VERSION}",
    libnvidia_ml_version=VERSION,
)


def snapshot(*facts: Fact, **absent: Absent) -> Snapshot:
    return Snapshot("node", {**{name_of(type(fact)): fact for fact in facts}, **absent})


def full(found: Gpus) -> Gpus:
    """The same GPUs with what a server's driver also tells."""
    devices = tuple(
        replace(
            gpu,
            uuid=f"GPU-{gpu.index:08x}-0000-4000-8000-000000000000",
            memory_bytes=80 * GIB,
            memory_used_bytes=0,
            processes=(),
            compute_mode="default" if gpu.vendor == "nvidia" else None,
            persistence=True if gpu.vendor == "nvidia" else None,
        )
        for gpu in found.devices
    )
    return replace(found, devices=devices)


def on_bus(found: Gpus, **fields: Any) -> PciBus:
    kind = {"driver": DRIVERS[found.devices[0].vendor]} | fields
    return PciBus(
        gpus=tuple(
            PciGpu(bus_id=g.bus_id, vendor=g.vendor, **{"device_id": IDS[g.vendor], **kind})
            for g in found.devices
        )
    )


def nodes(*paths: str, error: str = "", mode: str = "0666", gid: int = 0) -> tuple[DeviceNode, ...]:
    return tuple(DeviceNode(path=p, mode=mode, uid=0, gid=gid, error=error) for p in paths)


def nvidia_nodes(numbers: Sequence[int], **more: Any) -> tuple[DeviceNode, ...]:
    control = nodes("/dev/nvidiactl", "/dev/nvidia-uvm", **more)
    return (*control, *nodes(*(f"/dev/nvidia{n}" for n in numbers), **more))


def amd_nodes(count: int, **more: Any) -> tuple[DeviceNode, ...]:
    more = {"mode": "0660", "gid": 109, **more}
    return nodes("/dev/kfd", *(f"/dev/dri/renderD{128 + n}" for n in range(count)), **more)


def environment(
    env: Mapping[str, str] | None = None,
    expected: int | None = None,
    told_by: str = "",
    local_rank: int | None = None,
) -> Allocation:
    return Allocation(visible=env or {}, expected=expected, told_by=told_by, local_rank=local_rank)


def ranks(count: int, told_by: str = "--nproc-per-node") -> Workload:
    return Workload().told({"local_ranks": count}, told_by)


def nvidia(found: Gpus, *other: Fact, container: Container | None = None) -> Snapshot:
    """NVIDIA's, in order; `other` facts are put in the place of these."""
    count = len(found.devices)
    return snapshot(
        Expectations(),
        on_bus(found),
        KernelDriver(nvidia=VERSION, nvidia_open=True, nvidia_uvm=True),
        DeviceNodes(nodes=nvidia_nodes(range(count))),
        NVIDIA_LIBRARIES,
        Nvml(library="libnvidia-ml.so.1", version=VERSION, code=0),
        found,
        CudaInit(code=0, devices=count, version=(12, 8)),
        environment(),
        container or Container(),
        ALICE,
        ranks(count, "GPU device nodes"),
        hip_init=NO_AMD,
    ).replace(*other)


def amd(found: Gpus, *other: Fact, container: Container | None = None) -> Snapshot:
    """AMD's, in order, without a HIP library of the system's."""
    count = len(found.devices)
    return snapshot(
        Expectations(),
        on_bus(found),
        KernelDriver(amdgpu=True, kfd_gpus=("gfx942",) * count),
        DeviceNodes(nodes=amd_nodes(count)),
        GpuLibraries(libamdhip64_error="libamdhip64.so: cannot open shared object file"),
        found,
        environment(),
        container or Container(),
        replace(ALICE, groups=(1000, 109)),
        ranks(count, "GPU device nodes"),
        nvml=NO_NVIDIA,
        cuda_init=NO_NVIDIA,
        hip_init=Absent("no HIP library outside of Python packages"),
    ).replace(*other)


SERVER = nvidia(full(HGX))
AMD_SERVER = amd(full(INSTINCT))
_TWO = full(machine(H100, 2))
_IGPU = Gpu(
    vendor="amd",
    index=0,
    name="AMD gfx1036",
    arch="gfx1036",
    bus_id="0000:0c:00.0",
    integrated=True,
    memory_bytes=GIB // 2,
    memory_used_bytes=GIB // 3,
)
_GEFORCE = replace(
    DESKTOP.devices[0],
    memory_bytes=24 * GIB,
    memory_used_bytes=5 * GIB,  # of the desktop's
    processes=(),
    persistence=False,
    compute_mode="default",
)
GEFORCE = Gpus(devices=(_GEFORCE,), driver=VERSION, sources=("nvml",))
T4 = full(machine(Gpu(vendor="nvidia", index=0, name="Tesla T4", arch="sm_75")))
HEALTHY: Mapping[str, Snapshot] = {
    "8xH100 SXM": SERVER,
    "8xMI300X": AMD_SERVER,
    "container, 2 of 8": nvidia(_TWO, on_bus(HGX), container=DOCKER),
    "container by CDI": nvidia(
        _TWO, on_bus(HGX), environment({"NVIDIA_VISIBLE_DEVICES": "void"}), container=DOCKER
    ),
    "pod with one of 8": nvidia(
        full(machine(H100)),
        on_bus(HGX),
        environment({"NVIDIA_VISIBLE_DEVICES": "GPU-00000000"}, 1, "NVIDIA_VISIBLE_DEVICES"),
        container=POD,
    ),
    "Slurm job with 2 of 8": nvidia(
        _TWO,
        on_bus(HGX),
        DeviceNodes(
            nodes=(
                *nvidia_nodes(range(2)),
                *nodes(
                    *(f"/dev/nvidia{n}" for n in range(2, 8)),
                    error="EPERM: Operation not permitted",
                ),
            )
        ),
        environment({"CUDA_VISIBLE_DEVICES": "0,1"}, 2, "SLURM_GPUS_ON_NODE"),
        container=SLURM,
    ),
    "Slurm task with a GPU of its own": nvidia(
        full(machine(H100)),
        on_bus(HGX),
        environment({"CUDA_VISIBLE_DEVICES": "0"}, 1, "SLURM_GPUS_PER_TASK", 3),
        ranks(8, "SLURM_STEP_TASKS_PER_NODE"),
        container=SLURM,
    ),
    "GeForce desktop": nvidia(GEFORCE),
    "desktop with a GPU in the processor": nvidia(
        replace(GEFORCE, devices=(_GEFORCE, _IGPU)),
        KernelDriver(nvidia=VERSION, amdgpu=True, kfd_gpus=("gfx1036",)),
        DeviceNodes(
            nodes=(*nvidia_nodes([0]), *amd_nodes(1, error="EACCES: Permission denied", gid=992))
        ),
    ),
    "laptop": nvidia(NOTEBOOK),
    "WSL2": nvidia(
        WSL2,
        PciBus(),
        KernelDriver(),
        DeviceNodes(nodes=nodes("/dev/dxg")),
        GpuLibraries(libcuda="/usr/lib/wsl/lib/libcuda.so.1.1"),
        container=Container(wsl2=True),
    ),
    "container in WSL2": nvidia(
        WSL2,
        PciBus(),
        KernelDriver(),
        DeviceNodes(nodes=nodes("/dev/dxg")),
        container=replace(DOCKER, wsl2=True),
    ),
    "gVisor hides the bus": nvidia(
        T4, PciBus(), KernelDriver(), container=Container(runtime="gvisor", launcher="kubernetes")
    ),
    "cloud VM with a T4": nvidia(T4),
    "MIG slice": nvidia(SLICED, environment({"CUDA_VISIBLE_DEVICES": "MIG-41b2"}), ranks(1)),
    "vGPU": nvidia(VGPU),
    "MI300X in a container": amd(
        full(machine(MI300X)),
        on_bus(INSTINCT),
        environment({"HIP_VISIBLE_DEVICES": "0"}),
        container=DOCKER,
    ),
    "MI300X with the system's HIP": AMD_SERVER.replace(HipInit(code=0, devices=8)),
}


def judged(check: str, way: Snapshot) -> Any:
    return judge_one(get(check), way)


EPERM, EACCES = "EPERM: Operation not permitted", "EACCES: Permission denied"
NO_LIBRARY = GpuLibraries(libcuda_error="libcuda.so.1: cannot open shared object file")
NO_NODES = DeviceNodes()
NOTHING = Snapshot(
    "login",
    {
        "expectations": Expectations(),
        "pci_bus": PciBus(),
        "kernel_driver": KernelDriver(),
        "device_nodes": NO_NODES,
        "gpu_libraries": GpuLibraries(),
        "gpus": Absent("no GPU"),
        "nvml": Absent("no GPU"),
        "cuda_init": Absent("no GPU"),
        "hip_init": Absent("no GPU"),
        "container": Container(),
        "allocation": environment(),
    },
)


def without(way: Snapshot, *names: str, why: str = "no GPU", broken: bool = False) -> Snapshot:
    """The same way with facts that are not there."""
    return Snapshot(way.name, {**way.facts, **dict.fromkeys(names, Absent(why, broken))})


def unreached(way: Snapshot) -> Snapshot:
    """CUDA and NVML have found nothing."""
    return without(way, "gpus").replace(
        CudaInit(code=100, name="CUDA_ERROR_NO_DEVICE"),
        Nvml(library="x", version=VERSION, code=9, error="NVML_ERROR_DRIVER_NOT_LOADED"),
    )


def cuda(code: int, name: str) -> Snapshot:
    return SERVER.replace(CudaInit(code=code, name=name))
