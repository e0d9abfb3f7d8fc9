"""AMD's GPUs: KFD's topology and sysfs say most, AMD SMI adds what only it knows."""

import itertools
import re
from collections import Counter
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.data import table
from gpudoctor.facts.gpus import Gpu, GpuProcess, Pair
from gpudoctor.probes import Machine
from gpudoctor.probes.amd_kfd import KfdGpu, kfd_topology, with_errors
from gpudoctor.probes.amd_sysfs import VENDOR, Device
from gpudoctor.probes.in_time import in_time

DRM = "/sys/class/drm"
PCI = "/sys/bus/pci/devices"
KFD_PROCESSES = "/sys/class/kfd/kfd/proc"
HOST_PIDS = "pid:[4026531836]"  # include/linux/proc_ns.h: the first pid namespace
ANSWER_SECONDS = 6.0
SILENT = f"no answer in {ANSWER_SECONDS:g} s from its files in sysfs"
NOT_IN_KFD = "not in KFD's topology: ROCm cannot use it"
VGA = "0x0300"  # PCI class; accelerators have another, old display cards have it too


class AmdGpus(Struct, frozen=True):
    """AMD's half of `Gpus`."""

    devices: tuple[Gpu, ...]
    pairs: tuple[Pair, ...]
    driver: str
    sources: tuple[str, ...]
    remarks: tuple[str, ...]


class _Card(Struct, frozen=True):
    device: Device
    node: KfdGpu | None  # None: KFD does not have it
    alone: bool = True  # not one of several partitions


def amd_gpus(machine: Machine) -> AmdGpus | None:
    """AMD's GPUs, None if there is none. Only for an isolated probe."""
    topology = kfd_topology(machine)
    nodes, denied = topology.gpus, topology.denied
    bus_ids = _bus_ids(machine)
    if not nodes and not bus_ids and not denied:
        return None
    devices = [Device(machine, _folder(machine, node.bus_id)) for node in nodes]
    partitions = Counter(device.folder for device in devices)
    cards = [
        _Card(device, node, partitions[device.folder] == 1)
        for device, node in zip(devices, nodes, strict=True)
    ]
    remarks = []
    if denied:
        more = "more " if nodes else ""
        remarks.append(f"{denied} {more}on this machine, which this container may not use")
    # Where some are denied, a card without a node is one of those.
    for bus_id in [] if denied else bus_ids:
        device = Device(machine, f"{PCI}/{bus_id}")
        if device.folder in partitions:
            continue
        if (device.text("class", "") or VGA).startswith(VGA):
            remarks.append(f"{bus_id} is not in KFD's topology: it serves a display only")
        else:
            cards.append(_Card(device, None))
    if not cards and not denied:
        return None
    return _answers(machine, cards, remarks)


def _answers(machine: Machine, cards: list[_Card], remarks: list[str]) -> AmdGpus:
    """Every card asked at once, in the order of KFD's nodes, which is that of HIP."""
    from gpudoctor.probes.amd_smi import AmdSmi, amd_smi, with_smi  # only where there is a GPU

    peers = {card.node.node: card.node.bus_id for card in cards if card.node}
    asked = in_time([partial(_gpu, card, peers) for card in cards], ANSWER_SECONDS)
    smi = amd_smi(machine) if cards else AmdSmi()
    found = []
    for index, (card, gpu) in enumerate(zip(cards, asked, strict=True)):
        gpu = gpu or Gpu(vendor="amd", index=0, bus_id=card.device.bus_id, lost=SILENT)
        found.append(replace(with_smi(gpu, smi.gpus.get(gpu.bus_id)), index=index))
        node = f"/dev/dri/{gpu.render_node}"
        if gpu.render_node and machine.exists("/dev/kfd") and not machine.exists(node):
            remarks.append(f"{node} is not in here: ROCm leaves {gpu.bus_id} out")
    sources = {
        "kfd": any(card.node for card in cards),
        "sysfs": bool(cards),
        "amdsmi": bool(smi.gpus),
    }
    return AmdGpus(
        devices=tuple(found),
        pairs=tuple(_pairs(cards)),
        driver=machine.text("/sys/module/amdgpu/version") or smi.driver,
        sources=tuple(name for name, used in sources.items() if used),
        remarks=(*remarks, *smi.remarks),
    )


def _bus_ids(machine: Machine) -> list[str]:
    """Bus ids of the GPUs that the driver amdgpu has."""
    found = []
    for name in machine.list(DRM):
        folder = f"{DRM}/{name}/device"
        if not re.fullmatch(r"card\d+", name) or machine.text(f"{folder}/vendor") != VENDOR:
            continue
        event = machine.text(f"{folder}/uevent") or ""
        slot = re.search(r"^PCI_SLOT_NAME=(\S+)", event, re.MULTILINE)
        if slot and re.search(r"^DRIVER=amdgpu$", event, re.MULTILINE):
            found.append(slot[1])
    return sorted(found)


def _folder(machine: Machine, bus_id: str) -> str:
    """The PCI device; partitions of one GPU may have functions that only KFD knows."""
    folder = f"{PCI}/{bus_id}"
    return folder if machine.exists(folder) else f"{folder[:-1]}0"


def _gpu(card: _Card, peers: dict[int, str]) -> Gpu:
    """What KFD and sysfs say of one GPU."""
    device, node = card.device, card.node
    fields: dict[str, Any] = {"bus_id": device.bus_id, **device.fields()}
    if card.alone and "lost" not in fields:
        fields["memory_bytes"] = device.number("mem_info_vram_total", "memory_bytes")
        fields["memory_used_bytes"] = device.number("mem_info_vram_used", "memory_used_bytes")
    if node:
        fields |= _of_node(device, node, peers, fields.get("memory_bytes"))
    else:
        fields.setdefault("lost", NOT_IN_KFD)
    device_id = node.device if node else device.text("device", "name") or ""
    row = table("amd_gpus")["archs"].get(fields.get("arch"))
    integrated = row.get("apu", False) if row else None
    known = device.text("product_name", "name") or table("amd_gpus")["names"].get(device_id)
    name = known or f"AMD {fields.get('arch') or device_id}".strip()
    return Gpu(
        vendor="amd",
        index=0,
        name=f"{name} (integrated)" if integrated else name,
        integrated=integrated,
        unread=device.unread,
        **fields,
    )


def _of_node(
    device: Device, node: KfdGpu, peers: dict[int, str], memory: int | None
) -> dict[str, Any]:
    links = node.direct(peers)
    errors = device.xgmi_errors() if links else None
    return {
        "arch": node.arch,
        "uuid": f"GPU-{node.unique_id:016x}" if node.unique_id else "",
        "memory_bytes": node.memory_bytes or memory,
        "clock_max_mhz": node.clock_max_mhz or None,
        "render_node": f"renderD{node.render_minor}" if node.render_minor else "",
        "processes": _processes(device.machine, node.gpu_id),
        "links": with_errors(links, errors) if links and errors is not None else links,
    }


def _processes(machine: Machine, gpu_id: int) -> tuple[GpuProcess, ...] | None:
    """Who holds memory of it. KFD names processes by their pids on the host."""
    if not machine.exists(KFD_PROCESSES):
        return None
    ours = machine.link("/proc/self/ns/pid") == HOST_PIDS
    found = []
    for pid in machine.list(KFD_PROCESSES):
        held = machine.number(f"{KFD_PROCESSES}/{pid}/vram_{gpu_id}")
        if pid.isdigit() and held:
            name = (machine.text(f"/proc/{pid}/comm") or "") if ours else ""
            visible = ours and machine.exists(f"/proc/{pid}")
            found.append(GpuProcess(pid=int(pid), memory_bytes=held, name=name, visible=visible))
    return tuple(found)


def _pairs(cards: list[_Card]) -> list[Pair]:
    """Direct access between GPUs: over XGMI, or over PCIe where KFD lists it."""
    archs = table("amd_gpus")["archs"]
    nodes = [
        (index, card.node)
        for index, card in enumerate(cards)
        if card.node and not archs.get(card.node.arch, {}).get("apu")
    ]
    pairs = []
    for (one, first), (other, second) in itertools.combinations(nodes, 2):
        if first.reaches(second):
            pairs.append(Pair(one=one, other=other, p2p="ok", path="XGMI"))
        elif first.peers is not None and second.node in first.peers:
            pairs.append(Pair(one=one, other=other, p2p="ok", path="PCIe"))
        elif first.peers is not None:
            pairs.append(Pair(one=one, other=other, p2p="not offered by the driver"))
    return pairs
