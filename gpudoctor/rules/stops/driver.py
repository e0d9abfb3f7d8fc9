"""The kernel driver is not there, not the right one, or not of the libraries' version."""

import re
from collections.abc import Sequence

from gpudoctor.facts.container import Container
from gpudoctor.facts.gpu_path import CudaInit, GpuLibraries, KernelDriver, PciBus
from gpudoctor.facts.gpus import Nvml
from gpudoctor.finding import Fix
from gpudoctor.rules.selection import of_vendor
from gpudoctor.rules.stops.stop import Stop, is_inside

MISMATCH = 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH
# NVIDIA driver 580 README, "Open Linux Kernel Modules": Blackwell and later need them. Its list
# of devices: the last id of Ada is 28f8, the first of Blackwell 2901.
FIRST_BLACKWELL = 0x2900
FIRST_TURING = 0x1E00  # ditto: the open modules need a GSP, which Turing was the first to have


def foreign_driver(bus: PciBus | None, vendor: str) -> Stop | None:
    """GPUs that another driver than the vendor's has."""
    gpus = of_vendor(bus.gpus if bus else (), vendor)
    drivers = {gpu.driver for gpu in gpus}
    if drivers == {"nouveau"}:
        return Stop("the GPU is bound to nouveau, not to NVIDIA's driver", _no_nouveau(), "node")
    if drivers == {"vfio-pci"}:
        addresses = " ".join(gpu.bus_id for gpu in gpus)
        give_back = f"for gpu in {addresses}; do driverctl unset-override $gpu; done"
        text = "Run this in the virtual machine that has the GPU, or take it back"
        summary = "the GPU is set aside for virtual machines: bound to vfio-pci"
        return Stop(summary, Fix(text=text, commands=[give_back], needs_root=True), "node")
    return None


def _no_nouveau() -> Fix:
    return Fix(
        text="Keep nouveau out, install NVIDIA's driver, and reboot",
        commands=[
            "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n'"
            " > /etc/modprobe.d/blacklist-nouveau.conf",
            "if command -v dracut; then dracut --force; else update-initramfs -u; fi",
        ],
        needs_root=True,
    )


def not_loaded(driver: KernelDriver, bus: PciBus | None, vendor: str) -> Stop:
    """The vendor's module is not loaded."""
    if found := foreign_driver(bus, vendor):
        return found
    module = "amdgpu" if vendor == "amd" else "nvidia"
    load = "modprobe amdgpu" if vendor == "amd" else "modprobe nvidia && nvidia-modprobe -u -c 0"
    text = f"Load {module}; if there is no such module for this kernel, install the driver"
    evidence: tuple[str, ...] = ()
    if driver.secure_boot:
        text += ", signed"
        evidence = ('Secure Boot is on: unsigned modules end in "Key was rejected by service"',)
    commands = [load, f"dkms status  # {module} must be built for $(uname -r)"]
    fix = Fix(text=text, commands=commands, needs_root=True)
    return Stop(f"the kernel module {module} is not loaded", fix, "node", evidence)


def wrong_flavour(
    driver: KernelDriver, bus: PciBus | None, alive: Sequence[str], log: Sequence[str] = ()
) -> Stop | None:
    """GPUs that this flavour of NVIDIA's module cannot drive; `alive`: bus ids that answer."""
    said = [line for line in log if re.search(r"open kernel modules|open\s+nvidia\.ko", line)]
    gpus = of_vendor(bus.gpus if bus else (), "nvidia")
    driven = {gpu.device_id for gpu in gpus if gpu.bus_id in alive}
    for gpu in gpus:
        number = int(gpu.device_id or "0", 16)
        if gpu.device_id in driven or gpu.driver not in ("", "nvidia"):
            continue
        if driver.nvidia_open is False and number >= FIRST_BLACKWELL:
            needs, has, package = "the open kernel module", "proprietary", "nvidia-open"
        elif driver.nvidia_open and 0 < number < FIRST_TURING:
            needs, has, package = "the proprietary kernel module", "open", "cuda-drivers"
        else:
            continue
        text = f"Install {needs} of the driver in place of the {has} one, and reboot"
        commands = [
            f"apt-get install {package}  # NVIDIA's repository; dnf has the same name",
            "reboot",
        ]
        fix = Fix(text=text, commands=commands, needs_root=True)
        summary = f"{gpu.bus_id} ({gpu.device_id}) needs {needs}"
        evidence = (f"loaded: nvidia {driver.nvidia}, the {has} flavour", *said[:2])
        return Stop(summary, fix, "node", evidence)
    return None


def mismatch(
    driver: KernelDriver | None,
    libraries: GpuLibraries | None,
    nvml: Nvml | None,
    cuda: CudaInit | None,
    container: Container | None,
) -> Stop | None:
    """Libraries that are not of the loaded module's version.

    A library that works is right, whatever its name; forward compatibility is another thing.
    """
    module = driver.nvidia if driver else ""
    differ: list[tuple[str, str]] = []
    if libraries and module:
        if not (nvml and nvml.code == 0):
            differ.append(("libnvidia-ml", libraries.libnvidia_ml_version))
        if not (cuda and cuda.code == 0) and not libraries.compat:
            differ.append(("libcuda", libraries.libcuda_version))
    differ = [(name, version) for name, version in differ if version not in ("", module)]
    if not differ and not (nvml and nvml.code == MISMATCH):
        return None
    summary = f"libnvidia-ml is not of the loaded module's version {module}".rstrip()
    if differ:
        words = " and ".join(f"{name} {version}" for name, version in differ)
        summary = f"module {module}, {words}"
    found = [libraries.libcuda, libraries.libnvidia_ml] if libraries else []
    evidence = tuple(f"found first: {path}" for path in found if path)
    where = "ldconfig -p | grep -E 'libcuda.so.1|libnvidia-ml.so.1'"
    if is_inside(container):
        text = (
            "Make the container anew, so that it gets the libraries of the node's driver; if the"
            " image brings its own, or LD_LIBRARY_PATH leads to others, remove those"
        )
        return Stop(summary, Fix(text=text, commands=[where]), "launch", evidence)
    reload = "rmmod nvidia_drm nvidia_modeset nvidia_uvm nvidia; modprobe nvidia"
    text = "Load the module that belongs to the libraries: reboot, or, with no GPU in use:"
    return Stop(
        summary, Fix(text=text, commands=[reload, where], needs_root=True), "node", evidence
    )
