"""Look at InfiniBand, RoCE and EFA devices, and at what using them needs."""

import functools
import os
import re

from gpudoctor.facts.rdma import Gid, NcclPlugins, Rdma, RdmaDevice, RdmaPort
from gpudoctor.probes import Machine, error_words, linker, pci, probe
from gpudoctor.probes.gpu_path import parse_version
from gpudoctor.probes.in_time import in_time
from gpudoctor.probes.nccl import told
from gpudoctor.snapshot import Absent

DEVICES = "/sys/class/infiniband"
VERBS = "/sys/class/infiniband_verbs"
PCI_CLASS = "0x0207"  # InfiniBand controller
PCI_DRIVERS = ("mlx5_core", "mlx4_core")  # of network and InfiniBand cards alike
NO_DEVICE = "there is no RDMA device here: /sys/class/infiniband is empty"
EMPTY_GID = "0000:0000:0000:0000:0000:0000:0000:0000"
MOST_GIDS, GIDS_APART = 256, 32  # a table is filled from its start, with few gaps
SECONDS = 3.0  # for all devices together, whose firmware answers or not, and for all folders
DMA_BUF = (5, 12)  # Linux with ib_umem_dmabuf; NCCL, GPUDirect RDMA
DMA_BUF_OPTIONS = ("CONFIG_DMABUF_MOVE_NOTIFY=y", "CONFIG_PCI_P2PDMA=y")  # rccl rocmwrap.cc

# What NCCL (net_ib/gdr.cc) and RCCL (net_ib.cc) look for.
PEER_MEMORY = {
    "/sys/module/nvidia_peermem": "nvidia_peermem",
    "/sys/kernel/mm/memory_peers/nv_mem": "nv_peer_mem",
    "/sys/kernel/mm/memory_peers/nv_mem_nc": "nv_peer_mem",
    "/sys/kernel/mm/memory_peers/amdkfd": "amdkfd",
    "/sys/kernel/memory_peers/amdkfd": "amdkfd",
    "/sys/memory_peers/amdkfd": "amdkfd",
}

# Those that say something of a link, of InfiniBand and of the drivers' own for RoCE.
COUNTERS = (
    *("link_downed", "link_error_recovery", "local_link_integrity_errors", "symbol_error"),
    *("port_rcv_errors", "excessive_buffer_overrun_errors", "port_xmit_discards"),
)
HW_COUNTERS = (
    *("local_ack_timeout_err", "out_of_sequence", "packet_seq_err", "rnr_nak_retry_err"),
    *("rx_icrc_encapsulated", "roce_adp_retrans", "retrans", "completer_retry_err"),
)


def nothing(machine: Machine) -> str:
    """Why there is nothing to look at; a card without a device of its own is something."""
    cards = any(machine.exists(f"/sys/bus/pci/drivers/{driver}") for driver in PCI_DRIVERS)
    return "" if cards or machine.list(DEVICES) else NO_DEVICE


@probe(isolated=True, timeout=8.0, unless=nothing)
def rdma(machine: Machine) -> Rdma | Absent:
    """Devices and ports as the kernel shows them; device nodes are opened and closed."""
    unclaimed = _unclaimed(machine)
    names = machine.list(DEVICES)
    if not names and not unclaimed:
        return Absent(NO_DEVICE)
    uverbs = {machine.text(f"{VERBS}/{u}/ibdev") or "": u for u in machine.list(VERBS)}
    looks = [functools.partial(_device, machine, name, uverbs.get(name, "")) for name in names]
    found = in_time(looks, SECONDS) if looks else []
    devices = tuple(device for device in found if device)
    if len(devices) < len(names):
        mute = [name for name, device in zip(names, found, strict=True) if not device]
        return Absent(f"{', '.join(mute)} did not answer in {SECONDS:g} s", broken=True)
    find = functools.partial(linker.find, machine, "libibverbs.so.1", "libibverbs.so")
    (library,) = in_time([find], SECONDS)
    if library is None:
        return Absent("a folder of LD_LIBRARY_PATH does not answer", broken=True)
    return Rdma(
        devices=devices,
        libibverbs=library,
        providers=_providers(machine, library),
        peer_memory=tuple(dict.fromkeys(w for at, w in PEER_MEMORY.items() if machine.exists(at))),
        dma_buf=_dma_buf(machine),
        unclaimed=unclaimed,
    )


@probe(isolated=True, timeout=3.0)
def nccl_plugins(machine: Machine) -> NcclPlugins | Absent:
    """Plug-ins by the names of their files, and the files that are asked for; none is loaded."""
    values = told(machine)
    efa = any(re.match(r"(rdmap|efa)", name) for name in machine.list(DEVICES))
    if not efa and not any(values.get(name) for name in ("NCCL_NET_PLUGIN", "NCCL_NET")):
        return Absent("no network plug-in of NCCL is asked for, and no EFA is here")
    asked = values.get("NCCL_NET_PLUGIN", "").split(",")
    named = [path for path in asked if path.startswith("/") and machine.exists(path)]
    others = [re.escape(name) for name in asked if re.fullmatch(r"lib[\w.+-]+\.so[\d.]*", name)]
    pattern = "|".join([r"libnccl-net[\w.-]*\.so[\d.]*", *others])
    return NcclPlugins(files=(*named, *linker.find_all(machine, f"(?:{pattern})")))


def parse_rate(text: str) -> float | None:
    """Gb/s of "400 Gb/sec (4X NDR)"."""
    match = re.match(r"([\d.]+) Gb/sec", text)
    return float(match[1]) if match else None


def _device(machine: Machine, name: str, uverbs: str) -> RdmaDevice:
    at = f"{DEVICES}/{name}"
    addresses = re.findall(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", machine.link(at))
    address = addresses[-1] if addresses else ""
    slot = pci.link(machine, f"{pci.DEVICES}/{address}") if address else None
    node = machine.number(f"{at}/device/numa_node")
    numbers = sorted(int(n) for n in machine.list(f"{at}/ports") if n.isdigit())
    return RdmaDevice(
        name=name,
        driver=os.path.basename(machine.link(f"{at}/device/driver")) or _software(machine, at),
        board=" ".join(t for f in ("hca_type", "board_id") if (t := machine.text(f"{at}/{f}"))),
        pci=address,
        numa_node=node if node is not None and node >= 0 else None,
        uverbs=uverbs,
        node_error=_node_error(machine, uverbs),
        link_gen=slot.gen if slot else None,
        link_gen_max=slot.gen_max if slot else None,
        link_width=slot.width if slot else None,
        link_width_max=slot.width_max if slot else None,
        ports=tuple(_port(machine, at, number) for number in numbers),
    )


def _software(machine: Machine, at: str) -> str:
    """Soft-RoCE and Soft-iWARP have no driver below them, but say what they are."""
    words = machine.text(f"{at}/node_desc") or ""
    return {"rxe": "rdma_rxe", "Software iWARP stack": "siw"}.get(words, "")


def _port(machine: Machine, at: str, number: int) -> RdmaPort:
    place = f"{at}/ports/{number}"
    return RdmaPort(
        number=number,
        state=port_state(machine, place),
        physical_state=_word(machine, f"{place}/phys_state"),
        rate_gbps=parse_rate(machine.text(f"{place}/rate") or ""),
        link_layer=machine.text(f"{place}/link_layer") or "",
        interface=_interface(machine, at, number),
        gids=_gids(machine, place),
        counters=port_counters(machine, place),
    )


def port_state(machine: Machine, place: str) -> str:
    """ACTIVE, DOWN, ... of a port, by its directory."""
    return _word(machine, f"{place}/state")


def _word(machine: Machine, path: str) -> str:
    """ACTIVE of "4: ACTIVE"."""
    return (machine.text(path) or "").rpartition(":")[2].strip()


def _interface(machine: Machine, at: str, number: int) -> str:
    if name := machine.text(f"{at}/ports/{number}/gid_attrs/ndevs/0"):
        return name
    found = machine.list(f"{at}/device/net")
    ports = {machine.number(f"{at}/device/net/{name}/dev_port"): name for name in found}
    return ports.get(number - 1, found[0] if len(found) == 1 else "")


def _gids(machine: Machine, place: str) -> tuple[Gid, ...]:
    indices = sorted(int(name) for name in machine.list(f"{place}/gids") if name.isdigit())
    found: list[Gid] = []
    for index in indices[:MOST_GIDS]:
        gid = machine.text(f"{place}/gids/{index}") or EMPTY_GID
        if gid != EMPTY_GID:
            attributes = f"{place}/gid_attrs"
            kind = machine.text(f"{attributes}/types/{index}") or ""
            interface = machine.text(f"{attributes}/ndevs/{index}") or ""
            found.append(Gid(index=index, gid=gid, type=kind, interface=interface))
        elif index - (found[-1].index if found else 0) > GIDS_APART:
            break
    return tuple(found)


def port_counters(machine: Machine, place: str) -> dict[str, int]:
    """What is counted of a port, by its directory, where it is not zero."""
    paths = {name: f"{place}/counters/{name}" for name in COUNTERS}
    paths |= {name: f"{place}/hw_counters/{name}" for name in HW_COUNTERS}
    values = {name: machine.number(path) for name, path in paths.items()}
    return {name: value for name, value in values.items() if value}


def _node_error(machine: Machine, uverbs: str) -> str:
    """Why the device node cannot be opened; what another machine's opens is not known."""
    if not (uverbs and machine.live):
        return ""
    try:
        os.close(os.open(f"/dev/infiniband/{uverbs}", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error_words(error)
    return ""


def _providers(machine: Machine, library: str) -> tuple[str, ...]:
    """libmlx5 of libmlx5-rdmav34.so: the parts of libibverbs that know the devices."""
    if not library:
        return ()
    folders = [os.path.dirname(library)]
    if machine.live:  # /lib/... may be a link to /usr/lib/..., and the file to one elsewhere
        folders.append(os.path.dirname(os.path.realpath(library)))
    names = [name for folder in folders for name in machine.list(f"{folder}/libibverbs")]
    found = [re.match(r"(lib\w+)-rdmav\d+\.so", name) for name in names]
    return tuple(dict.fromkeys(match[1] for match in found if match))


def _dma_buf(machine: Machine) -> bool | None:
    """Whether kernel and GPU driver can share memory by DMA-BUF; None: not known."""
    release = machine.text("/proc/sys/kernel/osrelease") or ""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None:
        return None
    if (int(numbers[1]), int(numbers[2])) < DMA_BUF:
        return False
    nvidia, is_open = parse_version(machine.text("/proc/driver/nvidia/version") or "")
    if nvidia:
        return is_open
    if not machine.exists("/sys/module/amdgpu"):
        return None
    config = machine.text(f"/boot/config-{release}")
    return None if config is None else all(option in config for option in DMA_BUF_OPTIONS)


def _unclaimed(machine: Machine) -> tuple[str, ...]:
    """InfiniBand cards whose driver is there, but not the half of it that makes the device."""
    found = []
    for driver in PCI_DRIVERS:
        for address in machine.list(f"/sys/bus/pci/drivers/{driver}"):
            at = f"{pci.DEVICES}/{address}"
            kind = machine.text(f"{at}/class") or ""
            if kind.startswith(PCI_CLASS) and not machine.list(f"{at}/infiniband"):
                found.append(address)
    return tuple(found)
