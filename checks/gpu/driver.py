"""The kernel driver, and the libraries that must be of its version."""

from gpudoctor import (
    Container,
    CudaInit,
    Expectations,
    Finding,
    GpuLibraries,
    Gpus,
    KernelDriver,
    KernelLog,
    Nvml,
    PciBus,
    check,
    ok,
    skip,
)
from gpudoctor.rules import stops
from gpudoctor.rules.selection import of_vendor

FLAVOUR = {True: ", open module", False: ", proprietary module", None: ""}


@check(
    owner="node",
    symptoms=[
        r"Driver/library version mismatch",
        r"unsupported display driver / cuda driver combination",
        r"requires use of the NVIDIA open kernel modules",
        r"Failed to open libnvidia-ml\.so",
        r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
    ],
)
def gpu_driver(
    kernel_driver: KernelDriver,
    pci_bus: PciBus | None,
    gpu_libraries: GpuLibraries | None,
    nvml: Nvml | None,
    gpus: Gpus | None,
    cuda_init: CudaInit | None,
    kernel_log: KernelLog | None,
    container: Container | None,
    expectations: Expectations | None,
) -> Finding:
    """The kernel driver fits the GPU, and the libraries fit the driver.

    After an update of the driver the old module stays loaded until a reboot; a container may
    bring libraries of its own. Then every start fails: "Driver/library version mismatch", or
    "system has unsupported display driver / cuda driver combination".
    """
    if expectations and expectations.gpus == 0:
        return skip(stops.NOT_MEANT)
    alive = [gpu.bus_id for gpu in of_vendor(gpus.alive, "nvidia")] if gpus else []
    log = kernel_log.lines if kernel_log else ()
    stop = stops.mismatch(kernel_driver, gpu_libraries, nvml, cuda_init, container)
    if not (cuda_init and cuda_init.code == 0 and not alive):  # works, though NVML is silent
        stop = stop or stops.wrong_flavour(kernel_driver, pci_bus, alive, log)
    if not alive and not kernel_driver.nvidia:
        stop = stop or stops.foreign_driver(pci_bus, "nvidia")
    if stop:
        return stop.finding()
    if silent := stops.without_nvml(nvml, cuda_init, kernel_driver, pci_bus, container):
        return silent.warning()
    return _loaded(kernel_driver, gpu_libraries)


def _loaded(driver: KernelDriver, libraries: GpuLibraries | None) -> Finding:
    if driver.nvidia:
        found = (libraries.libcuda, libraries.libnvidia_ml) if libraries else ()
        flavour = FLAVOUR[driver.nvidia_open]
        return ok(f"nvidia {driver.nvidia}{flavour}", [path for path in found if path])
    if driver.amdgpu and driver.kfd_gpus:
        return ok(f"amdgpu {driver.amdgpu_version or 'of the kernel'}")
    return skip("no driver of a GPU is loaded: see gpu-visible")
