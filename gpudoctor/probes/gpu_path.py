"""Follow the way from the PCI bus to the vendor's runtime, layer by layer."""

import functools
import os
import re
import stat

from gpudoctor.facts.gpu_path import (
    Allocation,
    CudaInit,
    DeviceNode,
    DeviceNodes,
    GpuLibraries,
    HipInit,
    KernelDriver,
    KernelLog,
    PciBus,
)
from gpudoctor.probes import Machine, error_words, linker, pci, probe, signs
from gpudoctor.probes.allocation import CHOOSE, local_rank, promised
from gpudoctor.probes.cgroup import parse_cpus
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent

LIBCUDA = "libcuda.so.1"
LIBNVIDIA_ML = "libnvidia-ml.so.1"
# ROCm's packages do not always tell the linker where they are.
LIBAMDHIP64 = tuple(f"libamdhip64.so{end}" for end in (".7", ".6", ".5", ""))
ROCM_LIBAMDHIP64 = "/opt/rocm/lib/libamdhip64.so"
ONLY_LIVE = "what a process can open and load is not known from --root"
SECONDS = 4.0  # for all device nodes together
START = 20.0  # a driver without persistence first wakes each GPU, about 2 s each
MODULES = "/sys/module"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@probe()
def pci_bus(machine: Machine) -> PciBus:
    """GPUs, NVSwitches, NUMA nodes and the IOMMU."""
    found, nvswitches = pci.gpus(machine)
    nodes = "/sys/devices/system/node"
    # Memory of a GPU may be a node, too; those with processors count.
    with_cpus = machine.text(f"{nodes}/has_cpu") or machine.text(f"{nodes}/online")
    return PciBus(
        gpus=found,
        nvswitches=nvswitches,
        numa_nodes=parse_cpus(with_cpus) or 1,
        iommu=pci.iommu(machine, [gpu.bus_id for gpu in found]),
    )


@probe()
def kernel_driver(machine: Machine) -> KernelDriver:
    """The modules of both vendors, and the GPUs that AMD's offers for computing."""
    nvidia, nvidia_open = parse_version(machine.text("/proc/driver/nvidia/version") or "")
    nvidia = nvidia or machine.text(f"{MODULES}/nvidia/version") or ""
    amdgpu = machine.exists(f"{MODULES}/amdgpu")
    uvm = machine.exists(f"{MODULES}/nvidia_uvm") if machine.exists(MODULES) else None
    return KernelDriver(
        nvidia=nvidia,
        nvidia_open=nvidia_open,
        nvidia_uvm=uvm,
        nouveau=machine.exists(f"{MODULES}/nouveau"),
        amdgpu=amdgpu,
        amdgpu_version=machine.text(f"{MODULES}/amdgpu/version") or "",
        kfd_gpus=tuple(_kfd_gpus(machine)),
        secure_boot=_secure_boot(machine, nvidia=bool(nvidia), amd=amdgpu),
    )


def parse_version(text: str) -> tuple[str, bool | None]:
    """The version in /proc/driver/nvidia/version, and whether it is the open kernel module."""
    if not text:
        return "", None
    line = re.search(r"^NVRM version:.*?\b(\d{2,}\.\d[\d.]*)", text, re.MULTILINE)
    return (line[1], "Open Kernel Module" in line[0]) if line else ("", None)


def _kfd_gpus(machine: Machine) -> list[str]:
    nodes = sorted(map(int, filter(str.isdigit, machine.list(signs.KFD_NODES))))
    if not nodes:
        return []
    from gpudoctor.probes.amd_kfd import arch_of, parse_properties  # not where there is no GPU

    found = []
    for node in nodes:
        # Unreadable for a GPU that a device cgroup keeps from us.
        text = machine.text(f"{signs.KFD_NODES}/{node}/properties") or ""
        if arch := arch_of(parse_properties(text).get("gfx_target_version", 0)):
            found.append(arch)
    return found


def _secure_boot(machine: Machine, **loaded: bool) -> bool | None:
    """Ask the firmware, but only where a module is missing that it may have refused."""
    if all(loaded.get(vendor) for vendor in pci.vendors(machine)):
        return None
    try:
        return machine.read(SECURE_BOOT)[-1:] == "\x01"
    except OSError:
        return None


@probe(isolated=True)
def device_nodes(machine: Machine) -> DeviceNodes | Absent:
    """Open every device node of a GPU and close it again. None is made."""
    if not machine.live:
        return Absent(ONLY_LIVE)
    paths = node_paths(machine)
    if not paths:
        return DeviceNodes()
    found = in_time([functools.partial(_open, path) for path in paths], SECONDS)
    late = f"ETIMEDOUT: no answer in {SECONDS:g} s"
    return DeviceNodes(
        nodes=tuple(
            node or DeviceNode(path=path, mode="", uid=0, gid=0, error=late)
            for path, node in zip(paths, found, strict=True)
        ),
        group_names=parse_groups(machine.text("/etc/group") or ""),
    )


def node_paths(machine: Machine) -> list[str]:
    """The nodes that computing needs: NVIDIA's, AMD's and WSL's."""
    names = machine.list("/dev")
    numbers = sorted(int(name[6:]) for name in names if re.fullmatch(r"nvidia\d+", name))
    wanted = ["nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in numbers), "kfd", "dxg"]
    paths = [f"/dev/{name}" for name in wanted if name in names]
    for name in machine.list("/dev/dri"):
        if name.startswith("renderD"):
            vendor = machine.text(f"/sys/class/drm/{name}/device/vendor")
            # A partition of a GPU is no PCI device and has no vendor.
            if vendor == "0x1002" or (vendor is None and "kfd" in names):
                paths.append(f"/dev/dri/{name}")
    return paths


def parse_groups(text: str) -> dict[str, int]:
    """The numbers of the groups that own GPUs, from /etc/group."""
    found = re.findall(r"^(render|video):[^:]*:(\d+):", text, re.MULTILINE)
    return {name: int(number) for name, number in found}


def _open(path: str) -> DeviceNode:
    error = ""
    try:
        seen = os.stat(path)
    except OSError as failed:
        return DeviceNode(path=path, mode="", uid=0, gid=0, error=error_words(failed))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as failed:
        error = error_words(failed)
    mode = f"{stat.S_IMODE(seen.st_mode):04o}"
    return DeviceNode(path=path, mode=mode, uid=seen.st_uid, gid=seen.st_gid, error=error)


@probe(isolated=True, timeout=10.0)
def gpu_libraries(machine: Machine) -> GpuLibraries | Absent:
    """Load the vendors' libraries by name, each where it is to be expected."""
    if not machine.live:
        return Absent(ONLY_LIVE)
    nvidia = not signs.no_nvidia(machine)
    libcuda = linker.load(LIBCUDA) if nvidia else linker.Library()
    libnvidia_ml = linker.load(LIBNVIDIA_ML) if nvidia else linker.Library()
    amd = signs.amd_gpu(machine)
    libamdhip64 = linker.load(*LIBAMDHIP64, ROCM_LIBAMDHIP64) if amd else linker.Library()
    return GpuLibraries(
        libcuda=libcuda.file,
        libcuda_version=linker.version_of(libcuda.file),
        libcuda_error=libcuda.error,
        libnvidia_ml=libnvidia_ml.file,
        libnvidia_ml_version=linker.version_of(libnvidia_ml.file),
        libnvidia_ml_error=libnvidia_ml.error,
        libamdhip64=libamdhip64.file,
        libamdhip64_error=libamdhip64.error,
        compat=linker.is_compat(libcuda.file),
    )


@probe(alone=True, timeout=START, unless=signs.no_nvidia)
def cuda_init(machine: Machine) -> CudaInit | Absent:
    """Initialise NVIDIA's driver library and count its GPUs."""
    if not machine.live:
        return Absent(ONLY_LIVE)
    library = linker.load(LIBCUDA)
    if library.handle is None:
        return Absent(f"CUDA's driver library cannot be loaded: {library.error}")
    from gpudoctor.probes.cuda_init import start_cuda

    answer = start_cuda(library.handle)
    return CudaInit(
        code=answer.code, name=answer.name, devices=answer.devices, version=answer.version
    )


@probe(alone=True, timeout=START, unless=signs.no_amd)
def hip_init(machine: Machine) -> HipInit | Absent:
    """Initialise HIP and count its GPUs; the system's own, not the one in torch's wheel."""
    if not machine.live:
        return Absent(ONLY_LIVE)
    library = linker.load(*LIBAMDHIP64, ROCM_LIBAMDHIP64)
    if library.handle is None:
        return Absent(f"no HIP library outside of Python packages: {library.error}")
    from gpudoctor.probes.cuda_init import start_hip

    answer = start_hip(library.handle)
    return HipInit(code=answer.code, name=answer.name, devices=answer.devices)


@probe(isolated=True, unless=signs.no_gpu)
def kernel_log(machine: Machine) -> KernelLog | Absent:
    """Lines about GPUs, from /dev/kmsg or by the system call behind dmesg."""
    from gpudoctor.probes import kernel_log as log  # not where there is no GPU

    addresses = [gpu.bus_id for gpu in pci.gpus(machine)[0]]
    try:
        return KernelLog(source=log.KMSG, lines=log.of_gpus(log.kmsg(machine), addresses))
    except OSError as failed:
        reason = why_unreadable(failed, machine.text("/proc/sys/kernel/dmesg_restrict"))
    if machine.live:
        try:
            return KernelLog(source="syslog(2)", lines=log.of_gpus(log.klogctl(), addresses))
        except OSError:
            pass
    return Absent(reason)


def why_unreadable(error: OSError, dmesg_restrict: str | None) -> str:
    """What keeps the kernel's log from us, and what would let us read it."""
    if isinstance(error, FileNotFoundError):
        return "there is no /dev/kmsg here, as in most containers: run it on the node itself"
    if isinstance(error, PermissionError):
        why = "kernel.dmesg_restrict is 1" if dmesg_restrict == "1" else error_words(error)
        return f"the kernel's log is not for this user ({why}): run it as root on the node"
    return f"/dev/kmsg cannot be read: {error_words(error)}"


@probe()
def allocation(machine: Machine) -> Allocation:
    """What the environment says of GPUs."""
    env = machine.env
    expected, told_by = promised(env)
    return Allocation(
        expected=expected,
        told_by=told_by,
        visible={name: env[name] for name in CHOOSE if name in env},
        local_rank=local_rank(env),
        scheduler="slurm" if _beside_slurm(machine) else "",
    )


def _beside_slurm(machine: Machine) -> bool:
    """Whether jobs of Slurm are started from here, and we are none of its tasks."""
    folders = machine.env.get("PATH", os.defpath).split(os.pathsep)
    started = "SLURMD_NODENAME" in machine.env
    return not started and any(machine.exists(f"{f}/srun") for f in folders if f.startswith("/"))
