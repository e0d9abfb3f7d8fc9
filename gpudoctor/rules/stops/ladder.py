"""The ladder: layer by layer from the PCI bus to the vendor's runtime."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from gpudoctor.facts.container import Container
from gpudoctor.facts.gpu_path import (
    Allocation,
    CudaInit,
    DeviceNodes,
    GpuLibraries,
    HipInit,
    KernelDriver,
    PciBus,
)
from gpudoctor.facts.gpus import NVML_NO_LIBRARY, Gpu, Gpus, Nvml
from gpudoctor.facts.user import User
from gpudoctor.finding import Fix, Rung, Status
from gpudoctor.launch.settings import EnvSet, GpuDevices, Setting
from gpudoctor.rules.selection import of_vendor, select, vendor_of
from gpudoctor.rules.stops.driver import mismatch, not_loaded, wrong_flavour
from gpudoctor.rules.stops.nodes import Nodes, closed, nodes_of
from gpudoctor.rules.stops.runtime import cuda_fails, hidden, hip_fails
from gpudoctor.rules.stops.stop import Stop, ask_kernel, install_libraries, is_inside
from gpudoctor.snapshot import Absent
from gpudoctor.units import count_of

NAMES = {"nvidia": "NVIDIA", "amd": "AMD"}
# The nodes for all GPUs, and those of each.
NODES = {
    "nvidia": ("/dev/nvidiactl", "/dev/nvidia0"),
    "amd": ("/dev/kfd", "/dev/dri/renderD*"),
    "wsl": ("", "/dev/dxg"),
}


class Seen(Struct, frozen=True):
    """All that is known of the way, in its order."""

    bus: PciBus
    driver: KernelDriver
    nodes: DeviceNodes | Absent
    libraries: GpuLibraries | Absent
    nvml: Nvml | Absent
    gpus: Gpus | Absent
    cuda: CudaInit | Absent
    hip: HipInit | Absent
    allocation: Allocation
    container: Container
    user: User | None

    @property
    def vendor(self) -> str:
        """Whose GPU the job is after; empty: there is no sign of any."""
        known = self.gpus.devices if isinstance(self.gpus, Gpus) else ()
        if any(not gpu.integrated for gpu in known):
            return vendor_of(known)
        on_bus = {gpu.vendor for gpu in self.bus.gpus}
        if "nvidia" in on_bus or self.driver.nvidia or self._nodes("nvidia").gpus:
            return "nvidia"
        if self.container.wsl2 or self.container.runtime == "gvisor":
            return "nvidia"  # no bus to see; both pass on NVIDIA's
        return "amd" if "amd" in on_bus or self._nodes("amd").control else ""

    @property
    def devices(self) -> Sequence[Gpu]:
        """The vendor's GPUs, lost or not."""
        return of_vendor(self.gpus.devices if isinstance(self.gpus, Gpus) else (), self.vendor)

    @property
    def opened(self) -> Nodes:
        """The device nodes that the job needs."""
        if not self.vendor:
            return Nodes([], [])
        return self._nodes("wsl" if self.container.wsl2 else self.vendor)

    def _nodes(self, vendor: str) -> Nodes:
        return nodes_of(None if isinstance(self.nodes, Absent) else self.nodes, vendor)


Layer = Callable[[Seen], tuple[Status, str] | Stop]


def climb(seen: Seen) -> tuple[list[Rung], Stop | None]:
    """Layer by layer to the first that is broken."""
    runtime, library = ("HIP", "KFD") if seen.vendor == "amd" else ("CUDA", "NVML")
    layers: dict[str, Layer] = {
        "PCI bus": _bus,
        "kernel driver": _driver,
        "device nodes": _device_nodes,
        "permission": _permission,
        "user library": _library,
        library: _kfd if seen.vendor == "amd" else _nvml,
        "variables": _variables,
        runtime: _hip if seen.vendor == "amd" else _cuda,
    }
    rungs: list[Rung] = []
    stop: Stop | None = None
    for name, layer in layers.items():
        answer = (Status.SKIP, "not reached") if stop else layer(seen)
        if isinstance(answer, Stop):
            stop = answer
            rungs.append(Rung(name, Status.FAIL, stop.summary))
        else:
            rungs.append(Rung(name, *answer))
    return rungs, stop


def _bus(seen: Seen) -> tuple[Status, str] | Stop:
    found = of_vendor(seen.bus.gpus, seen.vendor)
    if found:
        return Status.PASS, f"{count_of(len(found), NAMES[seen.vendor] + ' GPU')}"
    if seen.container.wsl2:
        return Status.SKIP, "WSL2: the GPU is behind /dev/dxg"
    if seen.vendor and (seen.opened.gpus or seen.devices or seen.container.runtime == "gvisor"):
        return Status.SKIP, "not shown here"
    meant = "gpudoctor check --expect gpus=0"
    evidence = ("/sys/bus/pci shows none",)
    settings: list[Setting] = []
    text = "Run this where the GPUs are; if the job needs none, say so"
    commands = [meant]
    if seen.container.slurm or seen.container.kubernetes:
        settings = [GpuDevices("nvidia", 1)]
        text = "Ask for a GPU; if the job needs none, say so"
    elif seen.allocation.scheduler == "slurm":
        evidence = ("Slurm is installed and this is no job of it: it looks like a login node",)
        commands = ["srun --gres=gpu:1 gpudoctor check", meant]
    fix = Fix(*settings, text=text, commands=commands)
    return Stop("no NVIDIA or AMD GPU on the PCI bus", fix, "launch", evidence)


def _driver(seen: Seen) -> tuple[Status, str] | Stop:
    driver = seen.driver
    if seen.vendor == "amd" and driver.amdgpu:
        return Status.PASS, f"amdgpu {driver.amdgpu_version or 'of the kernel'}"
    if seen.vendor == "nvidia" and driver.nvidia:
        return Status.PASS, f"nvidia {driver.nvidia}"
    if seen.container.wsl2:
        return Status.SKIP, "WSL2: it is Windows' own"
    if seen.opened.gpus or seen.devices or seen.container.runtime == "gvisor":
        return Status.SKIP, "not shown here"
    return not_loaded(driver, seen.bus, seen.vendor)


def _device_nodes(seen: Seen) -> tuple[Status, str] | Stop:
    if isinstance(seen.nodes, Absent):
        return Status.SKIP, seen.nodes.absent
    nodes = seen.opened
    if nodes.gpus and (nodes.control or seen.container.wsl2):
        return Status.PASS, f"{count_of(len(nodes.gpus), 'GPU')}: {nodes.gpus[0].path}, ..."
    wanted = _missing(nodes, "wsl" if seen.container.wsl2 else seen.vendor)
    names = ("NVIDIA_VISIBLE_DEVICES", "AMD_VISIBLE_DEVICES")
    evidence = [f"{n}={seen.allocation.visible[n]}" for n in names if n in seen.allocation.visible]
    if is_inside(seen.container):
        fix = Fix(GpuDevices(seen.vendor, seen.allocation.expected))
        return Stop(f"no {wanted} in this container", fix, "launch", tuple(evidence))
    text, command = "Make the device nodes", "nvidia-modprobe -u -c 0"
    if seen.vendor == "amd":
        text, command = (
            "Load the driver anew, with its compute part",
            "modprobe -r amdgpu && modprobe amdgpu",
        )
    if seen.container.wsl2:
        text, command = "Update WSL, and NVIDIA's driver in Windows", "wsl.exe --update"
    fix = Fix(text=text, commands=[command], needs_root=not seen.container.wsl2)
    return Stop(f"there is no {wanted}", fix, "node", tuple(evidence))


def _missing(nodes: Nodes, kind: str) -> str:
    """Which nodes are not there; those for all GPUs may be."""
    for_all, of_each = NODES[kind]
    if not for_all or (nodes.control and not nodes.gpus):
        return of_each
    return for_all if nodes.gpus else f"{for_all} and {of_each}"


def _permission(seen: Seen) -> tuple[Status, str] | Stop:
    if isinstance(seen.nodes, Absent):
        return Status.SKIP, "not known without the nodes"
    nodes = seen.opened
    if nodes.refused:
        names = seen.nodes.group_names
        return closed(nodes, seen.vendor, seen.user, seen.container, names)
    errors = [f"{node.path}: {node.error}" for node in nodes.gpus if node.error]
    if errors and len(errors) == len(nodes.gpus):
        fix = ask_kernel(seen.vendor, "Look for the cause in the kernel's log")
        return Stop(errors[0], fix, "node", tuple(errors))
    opened = len(nodes.gpus) - len(errors)
    return Status.PASS, f"{opened} of {len(nodes.gpus)} can be opened"


def _library(seen: Seen) -> tuple[Status, str] | Stop:
    libraries = seen.libraries
    if isinstance(libraries, Absent):
        return Status.SKIP, libraries.absent
    if seen.vendor == "amd":
        found = libraries.libamdhip64
        return (Status.PASS, found) if found else (Status.SKIP, "torch brings its own HIP")
    if libraries.libcuda:
        return Status.PASS, libraries.libcuda
    evidence = (libraries.libcuda_error,) if libraries.libcuda_error else ()
    summary = "the driver's libcuda.so.1 cannot be loaded"
    if is_inside(seen.container):
        # The container toolkit brings it, but only with the capability "compute".
        settings = (EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"), GpuDevices("nvidia"))
        return Stop(summary, Fix(*settings), "launch", evidence)
    if seen.container.wsl2:
        fix = Fix(EnvSet("LD_LIBRARY_PATH", "/usr/lib/wsl/lib"))
        return Stop(summary, fix, "job", evidence)
    return Stop(summary, install_libraries(seen.driver.nvidia), "node", evidence)


def _nvml(seen: Seen) -> tuple[Status, str] | Stop:
    if isinstance(seen.nvml, Absent):
        return Status.SKIP, seen.nvml.absent
    libraries = None if isinstance(seen.libraries, Absent) else seen.libraries
    cuda = seen.cuda if isinstance(seen.cuda, CudaInit) else None
    if wrong := mismatch(seen.driver, libraries, seen.nvml, cuda, seen.container):
        return wrong
    alive = [gpu.bus_id for gpu in seen.devices if not gpu.lost]
    if alive:
        return Status.PASS, count_of(len(alive), "GPU")
    if seen.nvml.code in (None, NVML_NO_LIBRARY):
        return Status.SKIP, "no libnvidia-ml.so.1; CUDA does without"
    if flavour := wrong_flavour(seen.driver, seen.bus, alive):
        return flavour
    if seen.nvml.code == 0 and isinstance(seen.gpus, Absent):
        return Status.SKIP, seen.gpus.absent
    summary = f"NVML: {seen.nvml.error}" if seen.nvml.code else "NVML starts, and shows no GPU"
    if seen.devices:
        summary = f"no GPU answers: {seen.devices[0].lost}"
    fix = ask_kernel("nvidia", "Look for the cause in the kernel's log, and reboot")
    return Stop(summary, fix, "node")


def _kfd(seen: Seen) -> tuple[Status, str] | Stop:
    if found := seen.driver.kfd_gpus:
        return Status.PASS, f"{count_of(len(found), 'GPU')}: {', '.join(dict.fromkeys(found))}"
    text = 'Look for "skipped device" or "PCI rejects atomics" in the kernel\'s log'
    summary = "KFD, the compute part of amdgpu, has no GPU"
    return Stop(summary, ask_kernel("amd", text), "node")


def _variables(seen: Seen) -> tuple[Status, str] | Stop:
    chosen = select(seen.devices, seen.allocation.visible)
    if chosen.among and not chosen.gpus:
        return hidden(chosen)
    return Status.PASS, ", ".join(chosen.variables) or "none chooses among the GPUs"


def _cuda(seen: Seen) -> tuple[Status, str] | Stop:
    if isinstance(seen.cuda, Absent):
        return Status.SKIP, seen.cuda.absent
    libraries = None if isinstance(seen.libraries, Absent) else seen.libraries
    return cuda_fails(seen.cuda, seen.driver, libraries, seen.opened, seen.container)


def _hip(seen: Seen) -> tuple[Status, str] | Stop:
    if isinstance(seen.hip, Absent):
        return Status.SKIP, seen.hip.absent
    libraries = None if isinstance(seen.libraries, Absent) else seen.libraries
    return hip_fails(seen.hip, libraries)
