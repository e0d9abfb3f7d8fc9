"""Plant AMD GPUs in a tree: /sys as amdgpu and KFD show it, and the directory of /dev.

`python3 amd.py ROOT MODEL [N.KEY=VALUE ...]` writes ROOT/sys and ROOT/dev; a tree can be looked
at by its root, or laid over the real /sys with an overlay mount.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True)
class Card:
    """One GPU and all that can be wrong with it."""

    device: str = "0x74a1"
    pci_class: str = "0x120000"
    gfx: int = 90402
    simds: int = 1216
    memory: int = 206141652992
    used: int = 298844160
    domain: int = 0
    bus: int = 0x05
    own_switch: bool = False  # a Radeon: two bridges on the card itself
    hive: int = 0x1234ABCD
    xgmi_engines: int = 14
    name: str = ""
    driver: str = "amdgpu"
    kfd: bool = True
    render: bool = True
    partitions: int = 1
    compute: str = "SPX"
    memory_mode: str = "NPS1"
    speed: str = "32.0 GT/s PCIe"
    max_speed: str = "32.0 GT/s PCIe"
    width: int = 16
    max_width: int = 16
    slot_width: int = 16
    replays: int = 0
    numa: int = 0
    ras: bool = True
    ue: int = 0
    ce: int = 0
    xgmi_errors: int = 0
    bad_pages: str = ""
    busy: int = 0
    temperature: int = 45
    memory_temperature: int = 38
    power: int = 150
    limit: int = 750
    limit_default: int = 750
    asleep: bool = False
    p2p: Sequence[int] = ()  # cards that it reaches directly over PCIe
    processes: str = ""  # "4711:1073741824,..."

    @property
    def bus_id(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:00.0"


MI300X = Card()
RADEON = Card(
    device="0x744c",
    pci_class="0x030000",
    gfx=110000,
    simds=192,
    memory=24 * GIB,
    bus=0x03,
    own_switch=True,
    hive=0,
    xgmi_engines=0,
    compute="",
    memory_mode="",
    speed="16.0 GT/s PCIe",
    max_speed="16.0 GT/s PCIe",
    ras=False,
    numa=-1,
    power=20,
    limit=303,
    limit_default=303,
)
RAPHAEL = replace(
    RADEON,
    device="0x164e",
    gfx=100306,
    simds=4,
    memory=512 << 20,
    used=40 << 20,
    bus=0x0F,
    own_switch=False,
)


def mi300x(count: int = 2) -> list[Card]:
    """An OAM board: every GPU has a link to every other."""
    return [replace(MI300X, bus=0x05 + 0x10 * i, numa=i * 2 // count) for i in range(count)]


def plant(root: Path, cards: Sequence[Card], driver: str = "6.12.12") -> Path:
    """Write the tree; its root."""
    nodes = [(i, card) for i, card in enumerate(cards) for _ in range(card.partitions) if card.kfd]
    kfd = root / "sys/class/kfd/kfd"
    _node(kfd / "topology/nodes/0", 0, {"cpu_cores_count": 96, "simd_count": 0})
    (kfd / "proc").mkdir(parents=True, exist_ok=True)
    seen: dict[int, int] = {}
    for number, (which, card) in enumerate(nodes, 1):
        part = seen[which] = seen.get(which, -1) + 1
        _kfd_gpu(kfd, number, part, card, nodes)
    for index, card in enumerate(cards):
        _pci(root / "sys", index, card)
        if card.render:
            write(root / f"dev/dri/renderD{128 + index}", "")
    if any(card.kfd for card in cards):
        write(root / "dev/kfd", "")
    write(root / "sys/module/amdgpu/initstate", "live")
    if driver:
        write(root / "sys/module/amdgpu/version", driver)
    return root


def _kfd_gpu(kfd: Path, number: int, part: int, card: Card, nodes: list[tuple[int, Card]]) -> None:
    folder = kfd / f"topology/nodes/{number}"
    own = nodes[number - 1][0]
    gpu_id = 50000 + number
    xgmi = [n for n, (_, peer) in enumerate(nodes, 1) if n != number and _joined(card, peer)]
    near = [n for n, (which, _) in enumerate(nodes, 1) if which in card.p2p]
    properties = {
        "cpu_cores_count": 0,
        "simd_count": card.simds // card.partitions,
        "mem_banks_count": 1,
        "io_links_count": 1 + len(xgmi),
        "p2p_links_count": len(near),
        "gfx_target_version": card.gfx,
        "vendor_id": 0x1002,
        "device_id": int(card.device, 16),
        "location_id": card.bus << 8 | part << 28,
        "domain": card.domain,
        "drm_render_minor": 128 + own,
        "hive_id": card.hive,
        "num_sdma_engines": 2,
        "num_sdma_xgmi_engines": card.xgmi_engines,
        "max_engine_clk_fcompute": 2100,
        "local_mem_size": 0,
        "unique_id": 0xABCD0000 + own,
        "num_xcc": 8 // card.partitions,
    }
    _node(folder, gpu_id, properties)
    bank = {"heap_type": 1, "size_in_bytes": card.memory // card.partitions, "flags": 0}
    write(folder / "mem_banks/0/properties", _lines(bank))
    cpu = {"type": 2, "node_from": number, "node_to": 0, "weight": 20}
    write(folder / "io_links/0/properties", _lines(cpu))
    for place, to in enumerate(xgmi, 1):
        link = {"type": 11, "node_from": number, "node_to": to, "weight": 15}
        write(folder / f"io_links/{place}/properties", _lines(link))
    for place, to in enumerate(near):
        link = {"type": 2, "node_from": number, "node_to": to, "weight": 40}
        write(folder / f"p2p_links/{place}/properties", _lines(link))
    for process in filter(None, card.processes.split(",")):
        pid, _, held = process.partition(":")
        write(kfd / f"proc/{pid}/vram_{gpu_id}", held)


def _joined(one: Card, other: Card) -> bool:
    return bool(one.hive) and one.hive == other.hive


def _node(folder: Path, gpu_id: int, properties: dict[str, int]) -> None:
    write(folder / "gpu_id", gpu_id)
    write(folder / "name", "ip discovery" if gpu_id else "")
    write(folder / "properties", _lines(properties))


def _pci(sys: Path, index: int, card: Card) -> None:
    """The card behind its slot, and the links that lead to it."""
    port = sys / f"devices/pci{card.domain:04x}:00/{card.domain:04x}:00:{card.bus >> 3:02x}.1"
    _function(port, "0x1022", "0x14ab", "0x060400", card)
    write(port / "max_link_width", card.slot_width)
    folder = port
    if card.own_switch:
        for below, device in ((2, "0x1478"), (1, "0x1479")):
            folder /= f"{card.domain:04x}:{card.bus - below:02x}:00.0"
            _function(folder, "0x1002", device, "0x060400", card)
    folder /= card.bus_id
    inside = replace(card, width=16, speed=card.max_speed) if card.own_switch else card
    _function(folder, "0x1002", card.device, card.pci_class, inside)
    _link(sys / f"bus/pci/devices/{card.bus_id}", folder)
    if not card.driver:
        return
    _link(folder / "driver", sys / f"bus/pci/drivers/{card.driver}")
    _link(sys / f"class/drm/card{index}/device", folder)
    _link(sys / f"class/drm/renderD{128 + index}/device", folder)
    _amdgpu(folder, index, card)


def _function(folder: Path, vendor: str, device: str, pci_class: str, card: Card) -> None:
    files = {
        "vendor": vendor,
        "device": device,
        "class": pci_class,
        "numa_node": card.numa,
        "current_link_speed": card.speed,
        "current_link_width": card.width,
        "max_link_speed": card.max_speed,
        "max_link_width": card.max_width,
    }
    for name, text in files.items():
        write(folder / name, text)


def _amdgpu(folder: Path, index: int, card: Card) -> None:
    files = {
        "uevent": f"DRIVER={card.driver}\nPCI_SLOT_NAME={card.bus_id}",
        "mem_info_vram_total": card.memory,
        "mem_info_vram_used": card.used,
        "gpu_busy_percent": card.busy,
        "pcie_replay_count": card.replays,
        "vbios_version": "113-M3000100-102",
        "power/runtime_status": "suspended" if card.asleep else "active",
        "product_name": card.name,
        "current_compute_partition": card.compute,
        "current_memory_partition": card.memory_mode,
    }
    monitor = {
        "name": "amdgpu",
        "temp1_label": "junction" if card.ras else "edge",
        "temp1_input": card.temperature * 1000,
        "temp1_crit": 100000,
        "temp2_label": "mem",
        "temp2_input": card.memory_temperature * 1000,
        "power1_average": card.power * 1000000,
        "power1_cap": card.limit * 1000000,
        "power1_cap_default": card.limit_default * 1000000,
        "freq1_input": 132000000,
    }
    files |= {f"hwmon/hwmon{index + 3}/{name}": text for name, text in monitor.items()}
    if card.ras:
        files |= {
            "ras/features": "feature mask: 0x1fff",
            "ras/umc_err_count": f"ue: {card.ue}\nce: {card.ce}",
            "ras/gfx_err_count": "ue: 0\nce: 0",
            "ras/xgmi_wafl_err_count": f"ue: 0\nce: {card.xgmi_errors}",
            "ras/gpu_vram_bad_pages": card.bad_pages,
        }
    for name, text in files.items():
        if text != "":
            write(folder / name, text)
    if card.ras:
        write(folder / "ras/gpu_vram_bad_pages", card.bad_pages)


def _lines(properties: dict[str, int]) -> str:
    return "\n".join(f"{name} {value}" for name, value in properties.items())


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def write(path: Path, text: object) -> None:
    """A file as sysfs has it, with its line end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


if __name__ == "__main__":
    models = {"mi300x": mi300x(), "radeon": [RADEON], "laptop": [RAPHAEL]}
    cards = models[sys.argv[2]]
    for change in sys.argv[3:]:
        place, _, key = change.partition("=")[0].partition(".")
        kind = type(getattr(cards[int(place)], key))
        value = change.partition("=")[2]
        cards[int(place)] = replace(
            cards[int(place)], **{key: kind(int(value) if kind is bool else value)}
        )
    plant(Path(sys.argv[1]), cards)
