"""The variables leave no GPU, or the vendor's runtime does not start."""

from gpudoctor.facts.container import Container
from gpudoctor.facts.gpu_path import CudaInit, GpuLibraries, HipInit, KernelDriver, PciBus
from gpudoctor.facts.gpus import NVML_NO_LIBRARY, Nvml
from gpudoctor.finding import Fix, Owner
from gpudoctor.launch.settings import EnvSet, EnvUnset, GpuDevices
from gpudoctor.rules.selection import Selection, of_vendor
from gpudoctor.rules.stops.nodes import Nodes
from gpudoctor.rules.stops.stop import Stop, ask_kernel, install_libraries, is_inside

UVM = "/dev/nvidia-uvm"


def hidden(selection: Selection) -> Stop:
    """The variables leave nothing."""
    name, _, value = selection.variables[-1].partition("=")
    if selection.stopped_by:
        name = selection.stopped_by
    many = len(selection.among)
    here = f"numbers here: 0 to {many - 1}" if many > 1 else "the only number here: 0"
    if value == "NoDevFiles":
        fix = Fix(GpuDevices(selection.among[0].vendor, 1))
        return Stop("Slurm gave this job no GPU: CUDA_VISIBLE_DEVICES=NoDevFiles", fix, "launch")
    if selection.repeated:
        why = f"names GPU {selection.repeated} twice: CUDA then shows none"
    elif selection.stopped_at:
        why = f"names no GPU: {selection.stopped_at}"
    else:
        why = f"is {value!r}: it hides all" if value else "is empty: it hides all"
    return Stop(f"{name} {why}", Fix(EnvUnset(name)), "launch", (*selection.variables, here))


def cuda_fails(
    cuda: CudaInit,
    driver: KernelDriver | None,
    libraries: GpuLibraries | None,
    nodes: Nodes,
    container: Container | None,
) -> Stop:
    """cuInit() returned an error, or cuDeviceGetCount() no GPU."""
    module = driver.nvidia if driver else ""
    summary = f"cuInit() returns {cuda.code}, {cuda.name or 'a code without a name'}"
    if cuda.code == 0:
        summary = "CUDA starts, and counts no GPU"
    evidence = (f"libcuda: {libraries.libcuda}",) if libraries and libraries.libcuda else ()
    node: Owner = "node"
    launch: Owner = "launch" if is_inside(container) else "node"
    match cuda.code:
        case 802:
            fix = Fix(
                text="Start the fabric manager, of exactly the driver's version"
                + (f", {module}" if module else ""),
                commands=[
                    "systemctl enable --now nvidia-fabricmanager",
                    "nv-fabricmanager --version; journalctl -u nvidia-fabricmanager -n 20",
                ],
                needs_root=True,
            )
            return Stop(summary, fix, node, evidence)
        case 34 | 803 | 804:
            text = {
                34: "Let the linker find the driver's libcuda, not the toolkit's stub",
                803: f"Use the libcuda of the loaded driver{' ' + module if module else ''}",
                804: "Remove the package cuda-compat-*, or update the node's driver",
            }[cuda.code]
            shadowed = cuda.code != 803 or (libraries is not None and libraries.compat)
            settings = [EnvUnset("LD_LIBRARY_PATH")] if shadowed else []
            fix = Fix(*settings, text=text, commands=["ldconfig -p | grep libcuda.so.1"])
            return Stop(summary, fix, "job" if cuda.code == 34 else launch, evidence)
        case 46:
            text = "Let several processes use a GPU, and end what holds it"
            commands = ["nvidia-smi -c DEFAULT", "fuser -v /dev/nvidia*"]
            return Stop(summary, Fix(text=text, commands=commands, needs_root=True), node, evidence)
        case 999 if nodes.control and UVM not in [node.path for node in nodes.control]:
            evidence = (f"there is no {UVM}", *evidence)
            if is_inside(container) and driver and driver.nvidia_uvm:
                return Stop(summary, Fix(GpuDevices("nvidia")), launch, evidence)
            text = "Load nvidia-uvm and make its device nodes"
            fix = Fix(text=text, commands=["nvidia-modprobe -u -c 0"], needs_root=True)
            return Stop(summary, fix, node, evidence)
        case 0 | 100 if is_inside(container):
            return Stop(summary, Fix(GpuDevices("nvidia")), "launch", evidence)
    reload = "rmmod nvidia_uvm && modprobe nvidia_uvm  # after suspend; else reboot"
    text = "Look for the cause in the kernel's log"
    return Stop(summary, ask_kernel("nvidia", text, reload), node, evidence)


def without_nvml(
    nvml: Nvml | None,
    cuda: CudaInit | None,
    driver: KernelDriver,
    bus: PciBus | None,
    container: Container | None,
) -> Stop | None:
    """CUDA does without NVML, but NCCL does not: nccl/src/misc/nvmlwrap.cc."""
    if nvml is None or nvml.code in (None, 0) or cuda is None or not cuda.devices:
        return None
    if not of_vendor(bus.gpus if bus else (), "nvidia"):
        return None  # Jetsons have no card and no NVML
    if nvml.code != NVML_NO_LIBRARY:
        fix = ask_kernel("nvidia", "Look for the cause in the kernel's log")
        return Stop(f"CUDA works, NVML does not: {nvml.error}", fix, "node")
    summary = "CUDA works, but libnvidia-ml.so.1, which NCCL needs, cannot be loaded"
    if is_inside(container):
        settings = (EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"), GpuDevices("nvidia"))
        return Stop(summary, Fix(*settings), "launch", (nvml.error,))
    return Stop(summary, install_libraries(driver.nvidia), "node", (nvml.error,))


def hip_fails(hip: HipInit, libraries: GpuLibraries | None) -> Stop:
    """hipInit() or hipGetDeviceCount() returned an error, or no GPU."""
    summary = f"hipInit() returns {hip.code}, {hip.name or 'a code without a name'}"
    if hip.code == 0:
        summary = "HIP starts, and counts no GPU"
    evidence = (f"library: {libraries.libamdhip64}",) if libraries else ()
    text = "Look for the cause in the kernel's log; ROCm and the driver must fit together"
    return Stop(summary, ask_kernel("amd", text), "node", evidence)
