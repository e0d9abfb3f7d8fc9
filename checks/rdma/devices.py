"""RDMA devices: seen, openable, with a library that knows them, and a way to the GPUs."""

import re
from collections.abc import Callable, Mapping, Sequence

from gpudoctor import (
    Container,
    Environment,
    Finding,
    Fix,
    Gpus,
    NcclPlugins,
    NcclSettings,
    Owner,
    Rdma,
    RdmaDevice,
    RdmaDevices,
    System,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.nccl_ports import SOFTWARE, Port, fabric, idle, told

# The part of libibverbs for each driver: providers/ of rdma-core.
PROVIDERS = {
    "mlx5_core": "libmlx5",
    "mlx4_core": "libmlx4",
    "bnxt_en": "libbnxt_re",
    "ice": "libirdma",
    "i40e": "libirdma",
    "efa": "libefa",
    "rdma_rxe": "librxe",
    "siw": "libsiw",
}
OFI = "/opt/amazon/ofi-nccl/lib"  # where the EFA installer puts it, on Ubuntu one below
OWN_WAY = ("efa", *SOFTWARE)  # no peer memory module: EFA's driver has its own, software none


@check(
    owner="launch",
    symptoms=[
        r"Failed to open libibverbs\.so",
        r"NET/IB : No device found",
        r"NET/IB : Unable to open device",
        r"no userspace device-specific driver found for /sys/class/infiniband_verbs",
    ],
)
def rdma_devices(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
    nccl_plugins: NcclPlugins | None,
    system: System | None,
) -> Finding:
    """The job can open the RDMA devices that this node has.

    /sys shows them in every container, but NCCL also needs /dev/infiniband, libibverbs and its
    part for the device. Without one of them it says only with NCCL_DEBUG=INFO "Failed to open
    libibverbs.so" or "NET/IB : No device found" and takes TCP, many times slower.
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    if rdma.unclaimed and not rdma.devices:
        return _unclaimed(rdma.unclaimed)
    efa = [device for device in rdma.devices if device.driver == "efa"]
    ports = [port for port in fabric(rdma, values) if port.active]
    devices = [*{port.device.name: port.device for port in ports}.values(), *efa]
    if not devices:
        return skip("no active port here is one for a job's traffic: see rdma-ports")
    judge = fail if efa or _is_meant(ports, values) else warn
    if closed := [device for device in devices if not device.uverbs or device.node_error]:
        return _closed(closed, judge)
    if lacking := _library(rdma, devices):
        return judge(lacking, _install(system), basis="vendor", owner="image")
    if efa and nccl_plugins is not None and not nccl_plugins.files:
        return _no_plugin(efa)
    return ok(f"{count_of(len(devices), 'device')} with all that opening them needs")


def _library(rdma: Rdma, devices: Sequence[RdmaDevice]) -> str:
    """What of libibverbs is missing; empty: nothing."""
    if not rdma.libibverbs:
        return "no libibverbs.so.1 in the linker's sight"
    wanted = {PROVIDERS[d.driver] for d in devices if d.driver in PROVIDERS}
    missing = ", ".join(sorted(wanted - set(rdma.providers)))
    return f"libibverbs is here, but not its part {missing}" if missing else ""


def _is_meant(ports: Sequence[Port], values: Mapping[str, str]) -> bool:
    """Whether RDMA is surely meant: it is what InfiniBand is for, or the job names the device."""
    named = bool(values.get("NCCL_IB_HCA"))
    return named or any(port.port.link_layer == "InfiniBand" for port in ports)


def _closed(devices: Sequence[RdmaDevice], judge: Callable[..., Finding]) -> Finding:
    first = devices[0]
    owner: Owner = "launch"
    fix = Fix(RdmaDevices())
    if not first.uverbs:
        summary = f"{_which(devices)}: the kernel offers no /dev/infiniband/uverbs*"
        fix = Fix(text="Load ib_uverbs", commands=["modprobe ib_uverbs"], needs_root=True)
        owner = "node"
    else:
        summary = f"{_which(devices)}: /dev/infiniband/{first.uverbs}: {first.node_error}"
        if first.node_error.startswith("EACCES"):
            commands = ["chmod 0666 /dev/infiniband/uverbs*"]
            fix = Fix(text="Open the nodes to every user", commands=commands, needs_root=True)
            owner = "node"
    return judge(summary[:79], fix, basis="vendor", owner=owner)


def _which(devices: Sequence[RdmaDevice]) -> str:
    return devices[0].name if len(devices) == 1 else count_of(len(devices), "device")


def _unclaimed(addresses: Sequence[str]) -> Finding:
    fix = Fix(
        text="Load the driver's half for InfiniBand; a container needs the host's network",
        commands=["modprobe -a mlx5_ib ib_uverbs"],
        needs_root=True,
    )
    cards = count_of(len(addresses), "InfiniBand card")
    found = f"{cards} on the bus with no device in /sys/class/infiniband"
    return warn(found, fix, evidence=addresses, basis="vendor", owner="node")


def _no_plugin(efa: Sequence[RdmaDevice]) -> Finding:
    fix = Fix(
        text="Install the EFA installer's aws-ofi-nccl in the image, where the linker finds it",
        commands=[f'export LD_LIBRARY_PATH="{OFI}:{OFI}/$(uname -m)-linux-gnu:$LD_LIBRARY_PATH"'],
    )
    found = f"{count_of(len(efa), 'EFA device')}, but no libnccl-net*.so in the linker's sight"
    return warn(found, fix, basis="vendor", owner="image")


def _install(system: System | None) -> Fix:
    name = system.distribution if system else ""
    if re.search(r"Red Hat|CentOS|Rocky|Alma|Fedora|Oracle|Amazon", name):
        command = "dnf install -y libibverbs"
    else:
        command = "apt-get update && apt-get install -y libibverbs1 ibverbs-providers"
    text = "Install libibverbs and its providers in the image"
    return Fix(text=text, commands=[command])


@check(
    owner="node",
    symptoms=[
        r"GPU Direct RDMA Disabled for",
        r"GDRDMA not enabled\. Could not find memory_peers",
        r"ibv_reg_mr\w* failed with error Bad address",
    ],
)
def rdma_gdr(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
    container: Container | None,
) -> Finding:
    """The RDMA cards can reach the memory of the GPUs.

    They need nvidia_peermem, or DMA-BUF (Linux 5.12 and NVIDIA's open kernel module). Otherwise
    every message goes through host memory, at about half the speed: "GPU Direct RDMA Disabled
    for GPU", and no "/GDRDMA" in NCCL's lines of channels.
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    cards = [p for p in fabric(rdma, values) if p.active and p.device.driver not in OWN_WAY]
    if not cards:
        return skip("no active port of a card that needs a way to the GPUs")
    able = [gpu for gpu in gpus.alive if (m := gpu_model(gpu.name)) and m.data_centre]
    if not able:
        return skip("no GPU here that is known to have GPUDirect RDMA")
    modules = MODULES[able[0].vendor]
    if found := [name for name in rdma.peer_memory if name in modules]:
        return ok(f"by {found[0]}")
    if rdma.dma_buf:
        return ok("by DMA-BUF")
    if rdma.dma_buf is None:
        return skip(f"no {modules[0]}; whether DMA-BUF works could not be read")
    fix = _load_peermem(container) if able[0].vendor == "nvidia" else OTHER_KERNEL
    return warn(f"neither {modules[0]} nor DMA-BUF", fix, basis="vendor")


MODULES = {"nvidia": ("nvidia_peermem", "nv_peer_mem"), "amd": ("amdkfd",)}
OTHER_KERNEL = Fix(
    text="Boot a kernel with CONFIG_DMABUF_MOVE_NOTIFY=y and CONFIG_PCI_P2PDMA=y",
    commands=['grep -E "DMABUF_MOVE_NOTIFY|PCI_P2PDMA" /boot/config-$(uname -r)'],
)


def _load_peermem(container: Container | None) -> Fix:
    inside = container is not None and container.runtime != "none"
    where = "/etc/modules-load.d/nvidia-peermem.conf"
    return Fix(
        text="Load nvidia-peermem on the node" + ", outside the container" * inside,
        commands=["modprobe nvidia-peermem", f"echo nvidia-peermem > {where}"],
        needs_root=True,
    )
