"""GPUs as the kernel's compute driver KFD lists them: what ROCm itself starts from."""

import errno

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.gpus import Link
from gpudoctor.probes import Machine
from gpudoctor.probes.signs import KFD_NODES

XGMI = 11  # HSA_IOLINK_TYPE_XGMI; 2 is PCIe
ONE_HOP = 15  # the weight that KFD gives a direct XGMI link; twice that for two hops
LOCAL_MEMORY = (1, 2)  # heap types: the GPU's own memory, seen by the CPU or not


class KfdLink(Struct, frozen=True):
    """A way from one node to another."""

    to: int
    kind: int
    weight: int


class KfdGpu(Struct, frozen=True):
    """A GPU, or a partition of one."""

    node: int
    gpu_id: int
    bus_id: str
    arch: str
    device: str  # "0x74a1"
    unique_id: int
    memory_bytes: int | None
    clock_max_mhz: int
    render_minor: int
    has_xgmi: bool
    links: tuple[KfdLink, ...]
    peers: tuple[int, ...] | None  # nodes with direct access over PCIe; None: an older kernel

    def reaches(self, other: "KfdGpu") -> bool:
        """Whether both are joined by XGMI, over however many hops."""
        return any(link.to == other.node and link.kind == XGMI for link in self.links)

    def direct(self, bus_ids: dict[int, str]) -> tuple[Link, ...] | None:
        """Its XGMI links to other GPUs, not to its own partitions; None: it has no XGMI."""
        if not self.has_xgmi:
            return None
        near = [link.to for link in self.links if link.kind == XGMI and link.weight <= ONE_HOP]
        peers = dict.fromkeys(bus_ids[to] for to in near if to in bus_ids)
        peers.pop(self.bus_id, None)
        return tuple(Link(number=n, active=True, peer=peer) for n, peer in enumerate(peers))


class Topology(Struct, frozen=True):
    """All GPUs of KFD, and how many more the device cgroup keeps from us."""

    gpus: tuple[KfdGpu, ...]
    denied: int


def kfd_topology(machine: Machine) -> Topology:
    """Every node with SIMD units; the others are CPUs."""
    gpus, denied = [], 0
    for number in sorted(int(name) for name in machine.list(KFD_NODES) if name.isdigit()):
        folder = f"{KFD_NODES}/{number}"
        try:
            gpu_id = int(machine.read(f"{folder}/gpu_id"))
            properties = parse_properties(machine.read(f"{folder}/properties"))
        except OSError as error:
            denied += error.errno == errno.EPERM
            continue
        except ValueError:
            continue
        if gpu_id and properties.get("simd_count"):
            gpus.append(_gpu(machine, folder, number, gpu_id, properties))
    return Topology(tuple(gpus), denied)


def parse_properties(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = [line.split() for line in text.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def arch_of(version: int) -> str:
    """gfx_target_version as the compiler says it: 90402 is gfx942, 90010 is gfx90a."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else ""


def bus_id_of(domain: int, location: int) -> str:
    """KFD's location: 8 bits of bus, 5 of device, 3 of function; above them the partition."""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"


def with_errors(links: tuple[Link, ...], errors: int) -> tuple[Link, ...]:
    """Links with errors that are told for all together: then they stand at the first."""
    rest = 0 if errors == 0 else None
    return tuple(
        replace(link, errors=rest if place else errors) for place, link in enumerate(links)
    )


def _gpu(
    machine: Machine, folder: str, number: int, gpu_id: int, properties: dict[str, int]
) -> KfdGpu:
    banks = [
        parse_properties(machine.text(f"{folder}/mem_banks/{name}/properties") or "")
        for name in machine.list(f"{folder}/mem_banks")
    ]
    own = [bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in LOCAL_MEMORY]
    peers = None
    if "p2p_links_count" in properties:
        peers = tuple(link.to for link in _links(machine, f"{folder}/p2p_links"))
    return KfdGpu(
        node=number,
        gpu_id=gpu_id,
        bus_id=bus_id_of(properties.get("domain", 0), properties.get("location_id", 0)),
        arch=arch_of(properties.get("gfx_target_version", 0)),
        device=f"0x{properties.get('device_id', 0):04x}",
        unique_id=properties.get("unique_id", 0),
        memory_bytes=sum(own) or None,
        clock_max_mhz=properties.get("max_engine_clk_fcompute", 0),
        render_minor=properties.get("drm_render_minor", 0),
        has_xgmi=bool(properties.get("num_sdma_xgmi_engines") or properties.get("hive_id")),
        links=tuple(_links(machine, f"{folder}/io_links")),
        peers=peers,
    )


def _links(machine: Machine, folder: str) -> list[KfdLink]:
    found = [
        parse_properties(machine.text(f"{folder}/{name}/properties") or "")
        for name in sorted(machine.list(folder), key=lambda name: (len(name), name))
    ]
    return [
        KfdLink(p["node_to"], p.get("type", 0), p.get("weight", 0)) for p in found if "node_to" in p
    ]
