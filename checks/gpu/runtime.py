"""The vendor's runtime: whether it starts once all below it is in order."""

from gpudoctor import (
    Absent,
    Allocation,
    Container,
    CudaInit,
    DeviceNodes,
    Expectations,
    Finding,
    GpuLibraries,
    Gpus,
    HipInit,
    KernelDriver,
    Nvml,
    check,
    count_of,
    ok,
    skip,
    unknown,
)
from gpudoctor.rules import stops
from gpudoctor.rules.selection import of_vendor, select

# Not initialized, no device, unknown: what CUDA says whatever is missing below it.
VAGUE = (3, 100, 999)
LATER = [
    r"Error 80[234]: ",
    r"system not yet initialized",
    r"CUDA_ERROR_(SYSTEM_NOT_READY|SYSTEM_DRIVER_MISMATCH|COMPAT_NOT_SUPPORTED_ON_DEVICE)",
    r"forward compatibility was attempted on non supported HW",
    r"CUDA unknown error",
    r"no CUDA-capable device is detected",
    r"CUDA-capable device\(s\) is/are busy or unavailable",
    r"hipErrorNoDevice|no ROCm-capable device is detected",
]


@check(owner="node", symptoms=LATER)
def gpu_init(
    gpu_libraries: GpuLibraries,
    cuda_init: CudaInit | Absent,
    hip_init: HipInit | Absent,
    kernel_driver: KernelDriver | None,
    device_nodes: DeviceNodes | None,
    nvml: Nvml | None,
    gpus: Gpus | None,
    allocation: Allocation | None,
    container: Container | None,
    expectations: Expectations | None,
) -> Finding:
    """CUDA or HIP starts.

    nvidia-smi can look well while CUDA does not start: "Error 802: system not yet initialized"
    without a fabric manager, 803 with a foreign libcuda, 804 with a forward-compatibility
    package on a GPU that it is not for, 999 without nvidia-uvm.
    """
    if expectations and expectations.gpus == 0:
        return skip(stops.NOT_MEANT)
    if isinstance(cuda_init, CudaInit) and cuda_init.code == 0 and cuda_init.devices:
        version = "CUDA {}.{}, ".format(*cuda_init.version) if cuda_init.version else ""
        return ok(f"{version}{count_of(cuda_init.devices, 'GPU')}")
    if kernel_driver and kernel_driver.kfd_gpus and not kernel_driver.nvidia:
        why = _below("amd", device_nodes, None, gpus, allocation)
        return _hip(hip_init, gpu_libraries, why)
    if isinstance(cuda_init, Absent):
        if cuda_init.broken:
            return unknown(f"CUDA could not be tried: {cuda_init.absent}")
        return skip(f"{cuda_init.absent}: see gpu-visible")
    if cuda_init.code in VAGUE and (why := _below("nvidia", device_nodes, nvml, gpus, allocation)):
        return skip(why)
    if cuda_init.code == 0:
        return skip("CUDA starts and finds no GPU: see gpu-visible")
    nodes = stops.nodes_of(device_nodes, "nvidia")
    stop = stops.cuda_fails(cuda_init, kernel_driver, gpu_libraries, nodes, container)
    return stop.finding()


def _hip(hip_init: HipInit | Absent, libraries: GpuLibraries, why: str) -> Finding:
    if isinstance(hip_init, Absent):
        if hip_init.broken:
            return unknown(f"HIP could not be tried: {hip_init.absent}")
        return skip(f"{hip_init.absent}: torch brings its own")
    if hip_init.code == 0 and hip_init.devices:
        return ok(f"HIP, {count_of(hip_init.devices, 'GPU')}")
    return skip(why) if why else stops.hip_fails(hip_init, libraries).finding()


def _below(
    vendor: str,
    device_nodes: DeviceNodes | None,
    nvml: Nvml | None,
    gpus: Gpus | None,
    allocation: Allocation | None,
) -> str:
    """What below the runtime explains that it finds no GPU; empty: nothing does."""
    nodes = stops.nodes_of(device_nodes, vendor)
    if device_nodes and not nodes.gpus and not stops.nodes_of(device_nodes, "wsl").gpus:
        return "there are no device nodes of GPUs: see gpu-visible"
    if nodes.refused:
        return "the device nodes cannot be opened: see gpu-permission"
    if nvml and nvml.code not in (0, stops.NVML_NO_LIBRARY):
        return f"NVML does not start either, {nvml.error}: see gpu-visible"
    if gpus and allocation:
        chosen = select(of_vendor(gpus.devices, vendor), allocation.visible)
        if chosen.among and not chosen.gpus:
            return "variables hide all GPUs: see gpu-selection"
    return ""
