"""The ladder: how far the way to a GPU leads, from the PCI bus to the vendor's runtime."""

from collections.abc import Sequence

from gpudoctor import (
    Absent,
    Allocation,
    Container,
    CudaInit,
    DeviceNodes,
    Expectations,
    Finding,
    Gpu,
    GpuLibraries,
    Gpus,
    HipInit,
    KernelDriver,
    Nvml,
    PciBus,
    User,
    check,
    count_of,
    ok,
    skip,
    unknown,
)
from gpudoctor.rules import stops
from gpudoctor.rules.selection import of_vendor, select

LATER = [
    r"No CUDA GPUs are available",
    r"Found no NVIDIA driver on your system",
    r"no (CUDA|ROCm)-capable device is detected",
    r"No HIP GPUs are available",
    r"could not select device driver",
    r"libcuda\.so\.1: cannot open shared object file",
    r"No devices were found",
]


@check(owner="launch", symptoms=LATER)
def gpu_visible(
    expectations: Expectations,
    pci_bus: PciBus,
    kernel_driver: KernelDriver,
    device_nodes: DeviceNodes | Absent,
    gpu_libraries: GpuLibraries | Absent,
    nvml: Nvml | Absent,
    gpus: Gpus | Absent,
    cuda_init: CudaInit | Absent,
    hip_init: HipInit | Absent,
    allocation: Allocation | None,
    container: Container | None,
    user: User | None,
) -> Finding:
    """The job can use a GPU.

    Between a GPU and the job stand the bus, the kernel driver, device nodes, their permissions,
    libraries and variables. Whichever of them is missing, the job only says "No CUDA GPUs are
    available" or "Found no NVIDIA driver on your system", or it trains on the CPU.
    """
    if expectations.gpus == 0:
        return ok("none is expected")
    way = stops.Seen(
        bus=pci_bus,
        driver=kernel_driver,
        nodes=device_nodes,
        libraries=gpu_libraries,
        nvml=nvml,
        gpus=gpus,
        cuda=cuda_init,
        hip=hip_init,
        allocation=allocation or Allocation(),
        container=container or Container(),
        user=user,
    )
    remarks = gpus.remarks if isinstance(gpus, Gpus) else ()
    if found := _usable(way):
        return ok(found, remarks)
    ladder, stop = stops.climb(way)
    return stop.finding(ladder, remarks) if stop else _not_known(way)


def _not_known(way: stops.Seen) -> Finding:
    runtime = way.hip if way.vendor == "amd" else way.cuda
    facts = (runtime, way.nodes, way.libraries, way.nvml, way.gpus, way.cuda, way.hip)
    reasons = [fact for fact in facts if isinstance(fact, Absent)]
    if broken := [fact.absent for fact in reasons if fact.broken]:
        return unknown(broken[0])
    return skip(reasons[0].absent if reasons else "nothing was tried")


def _usable(seen: stops.Seen) -> str:
    """What the job can use; empty: nothing that is known of."""
    if isinstance(seen.cuda, CudaInit) and seen.cuda.code == 0 and seen.cuda.devices:
        return _named(seen.cuda.devices, of_vendor(seen.devices, "nvidia"))
    if seen.vendor != "amd":
        return ""
    if isinstance(seen.hip, HipInit):
        works = seen.hip.code == 0 and seen.hip.devices
        return _named(seen.hip.devices, seen.devices) if works else ""
    # torch brings its own HIP: what the driver offers is all that can be known without it.
    left = select([gpu for gpu in seen.devices if not gpu.lost], seen.allocation.visible).gpus
    nodes = seen.opened
    reached = nodes.control and nodes.gpus and not nodes.refused
    return _named(len(left), left) if left and reached else ""


def _named(count: int, gpus: Sequence[Gpu]) -> str:
    names = {gpu.name for gpu in gpus if gpu.name}
    return f"{count} x {names.pop()}" if len(names) == 1 else count_of(count, "GPU")
