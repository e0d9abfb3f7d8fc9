"""GPUs and network cards of a node, as rows of a table."""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.facts.network import Interface, Network
from gpudoctor.facts.rdma import Rdma, RdmaDevice, RdmaPort
from gpudoctor.report import Node
from gpudoctor.units import GIB, count_of, size

from .reading import read

COLUMNS = {"temperature": "Heat", "power": "Power", "clock": "Clock", "pcie": "PCIe"} | {
    "numa": "NUMA",
    "links": "Links",
}


class GpuRow(Struct, frozen=True, kw_only=True):
    """A GPU; a text that is empty: not known."""

    index: int
    name: str
    bus: str
    lost: str
    memory: str
    used: float | None  # of its memory, 0 to 1
    temperature: str
    power: str
    clock: str
    pcie: str
    numa: str
    links: str
    less: tuple[str, ...]  # the columns in which it falls short of the others, or of itself
    notes: tuple[str, ...]


class GpuTable(Struct, frozen=True):
    """All GPUs. `said` is what they have in common: "8 × H100, driver 570.172.08"."""

    said: str
    is_mixed: bool
    rows: tuple[GpuRow, ...]
    remarks: tuple[str, ...]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Those of which anything is known: their names in a row, and in words."""
        return [(column, words) for column, words in COLUMNS.items() if self.has(column)]

    def has(self, column: str) -> bool:
        return any(getattr(row, column) for row in self.rows)


class Nic(Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    state: str
    speed: str
    addresses: tuple[str, ...]
    pcie: str
    numa: str
    notes: tuple[str, ...]


def gpu_table(node: Node) -> GpuTable | None:
    """None: no GPU is known."""
    gpus = read(node.facts, Gpus)
    if gpus is None or not gpus.devices:
        return None
    names = Counter(gpu.name or f"{gpu.vendor} GPU" for gpu in gpus.devices if not gpu.lost)
    said = [f"{count} × {name}" for name, count in names.most_common()]
    if lost := len(gpus.devices) - len(gpus.alive):
        said.append(f"{lost} lost")
    if gpus.driver:
        said.append(f"driver {gpus.driver}")
    most = max((_active(gpu) for gpu in gpus.devices), default=0)
    rows = tuple(_gpu(gpu, most) for gpu in gpus.devices)
    return GpuTable(", ".join(said), len(names) > 1, rows, gpus.remarks)


def _gpu(gpu: Gpu, most_links: int) -> GpuRow:
    used, whole = gpu.memory_used_bytes, gpu.memory_bytes
    limit = f" of {gpu.power_limit_w:.0f}" if gpu.power_limit_w is not None else ""
    slower = gpu.clock_mhz is not None and gpu.clock_mhz != (gpu.clock_max_mhz or gpu.clock_mhz)
    fastest = f" of {gpu.clock_max_mhz}" if slower else ""
    less = {"pcie": (gpu.pcie_width or 0) < (gpu.pcie_width_max or 0) and gpu.pcie_width}
    less["links"] = gpu.links is not None and _active(gpu) < most_links
    return GpuRow(
        index=gpu.index,
        name=gpu.name,
        bus=gpu.bus_id.removeprefix("0000:"),
        lost=gpu.lost,
        memory=_memory(used, whole),
        used=used / whole if used is not None and whole else None,
        temperature=f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else "",
        power=f"{gpu.power_w:.0f}{limit} W" if gpu.power_w is not None else "",
        clock=f"{gpu.clock_mhz}{fastest} MHz" if gpu.clock_mhz is not None else "",
        pcie=_slot(gpu.pcie_gen, gpu.pcie_width, gpu.pcie_width_max),
        numa="" if gpu.numa_node is None else str(gpu.numa_node),
        links=_links(gpu),
        less=tuple(column for column, is_less in less.items() if is_less),
        notes=tuple(_notes(gpu)),
    )


def _memory(used: int | None, whole: int | None) -> str:
    if whole is None:
        return ""
    return size(whole) if used is None else f"{used / GIB:.1f} of {whole / GIB:.1f} GiB"


def _slot(gen: int | None, width: int | None, width_max: int | None) -> str:
    """ "gen5 x16", "gen4 x8 of x16"."""
    if width is None:
        return ""
    less = f" of x{width_max}" if width_max and width < width_max else ""
    return f"{f'gen{gen} ' if gen else ''}x{width}{less}"


def _links(gpu: Gpu) -> str:
    if gpu.links is None:
        return ""
    active = _active(gpu)
    return str(active) if active == len(gpu.links) else f"{active} of {len(gpu.links)}"


def _active(gpu: Gpu) -> int:
    return sum(link.active for link in gpu.links or ())


def _notes(gpu: Gpu) -> Iterable[str]:
    """What is out of the ordinary; whether it is a fault, the checks say."""
    if gpu.ecc_enabled is False:
        yield "ECC off"
    if gpu.ecc_uncorrected:
        yield count_of(gpu.ecc_uncorrected, "uncorrected ECC error")
    if gpu.remap_failed:
        yield "row remapping failed"
    elif gpu.remap_pending or gpu.pages_pending:
        yield "memory repair waits for a reset"
    if gpu.recovery_action not in (None, "", "none"):
        yield f"asks for: {gpu.recovery_action}"
    kinds = {row["name"]: row["kind"] for row in table("gpu_throttle")["reasons"]}
    if slowed := [r for r in gpu.throttle or () if kinds.get(r) not in ("idle", "setting")]:
        yield f"slowed by {', '.join(slowed)}"
    if errors := sum(link.errors or 0 for link in gpu.links or ()):
        yield count_of(errors, "link error")
    if gpu.mig_enabled:
        yield f"MIG, {count_of(gpu.mig_devices or 0, 'slice')}"
    if gpu.compute_mode not in (None, "", "default"):
        yield f"{gpu.compute_mode} mode"
    if gpu.processes:
        yield count_of(len(gpu.processes), "process", "processes") + " on it"
    if gpu.busy_percent:
        yield f"{gpu.busy_percent} % busy"
    if gpu.unread:
        yield f"not readable: {', '.join(gpu.unread)}"


def nics(node: Node) -> list[Nic]:
    """RDMA ports first, then the interfaces that are no RDMA device's and not made of software."""
    rdma, network = read(node.facts, Rdma), read(node.facts, Network)
    devices = rdma.devices if rdma else ()
    interfaces = {i.name: i for i in network.interfaces} if network else {}
    rows = [
        _port(device, port, interfaces)
        for device in devices
        for port in device.ports or (RdmaPort(number=1),)
    ]
    taken = {port.interface for device in devices for port in device.ports}
    rows += [
        _interface(interface)
        for interface in interfaces.values()
        if interface.name not in taken and interface.kind not in ("loopback", "veth", "dummy")
    ]
    return rows


def _port(device: RdmaDevice, port: RdmaPort, interfaces: dict[str, Interface]) -> Nic:
    name = device.name if len(device.ports) < 2 else f"{device.name}:{port.number}"
    interface = interfaces.get(port.interface)
    notes = [device.node_error] if device.node_error else []
    if not device.uverbs:
        notes.append("no device node")
    notes += [f"{count} {what.replace('_', ' ')}" for what, count in port.counters.items()]
    state = ", ".join(filter(None, (port.state, port.physical_state)))
    return Nic(
        name=name,
        kind=", ".join(filter(None, (port.link_layer, port.interface))),
        state=state or "not known",
        speed=f"{port.rate_gbps:g} Gb/s" if port.rate_gbps else "",
        addresses=_addresses(interface) if interface else (),
        pcie=_slot(device.link_gen, device.link_width, device.link_width_max),
        numa="" if device.numa_node is None else str(device.numa_node),
        notes=tuple(notes),
    )


def _interface(interface: Interface) -> Nic:
    speed = interface.speed_mbps
    notes = [f"MTU {interface.mtu}"]
    if interface.limit_mbps is not None:
        notes.append(f"limited to {interface.limit_mbps:g} Mb/s")
    if interface.errors:
        notes.append(count_of(interface.errors, "error"))
    if interface.above:
        notes.append(f"part of {', '.join(interface.above)}")
    return Nic(
        name=interface.name,
        kind=interface.kind,
        state="up" if interface.running else "no carrier" if interface.up else "switched off",
        speed=f"{speed / 1000:g} Gb/s" if speed and speed > 0 else "",
        addresses=_addresses(interface),
        pcie="",
        numa="" if interface.numa_node is None else str(interface.numa_node),
        notes=tuple(notes),
    )


def _addresses(interface: Interface) -> tuple[str, ...]:
    return tuple(f"{a.ip}/{a.prefix}" for a in interface.addresses if a.scope != "link")
