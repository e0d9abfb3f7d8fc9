"""GPUs on the PCI bus as sysfs shows them: no driver, library or device node is touched."""

import functools
import os
import re
from collections.abc import Iterator

from msgspec import Struct

from gpudoctor.facts.gpu_path import PciGpu
from gpudoctor.probes import Machine

DEVICES = "/sys/bus/pci/devices"
VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
# PCI classes without the programming interface: VGA, 3D, other display, accelerator.
GPU_CLASSES = {
    "nvidia": ("0x0300", "0x0302"),
    "amd": ("0x0300", "0x0302", "0x0380", "0x1200"),
}
BRIDGE_CLASS = "0x0680"  # NVSwitch, of NVIDIA's
# Generation by transfer rate in GT/s.
GENERATIONS = {"2.5": 1, "5": 2, "8": 3, "16": 4, "32": 5, "64": 6, "128": 7}
WIDTHS = (1, 2, 4, 8, 12, 16, 32)  # a device that does not answer shows 0, 63 or 255
_ADDRESS = r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"


class Link(Struct, frozen=True):
    """A PCIe link; the highest values are those of card and slot together."""

    width: int | None
    width_max: int | None
    gen: int | None
    gen_max: int | None


@functools.cache
def vendors(machine: Machine) -> set[str]:
    """Whose GPUs are on the bus."""
    return {vendor for _, vendor, kind in _theirs(machine) if kind in GPU_CLASSES[vendor]}


def gpus(machine: Machine) -> tuple[tuple[PciGpu, ...], int]:
    """All GPUs, and how many NVSwitches there are."""
    found, switches = [], 0
    for address, vendor, kind in _theirs(machine):
        if kind in GPU_CLASSES[vendor]:
            # Virtual functions that this machine hands to its guests are no GPUs of its own.
            if not machine.link(f"{DEVICES}/{address}/physfn"):
                found.append(_gpu(machine, address, vendor))
        elif vendor == "nvidia" and kind == BRIDGE_CLASS:
            switches += 1
    return tuple(found), switches


def iommu(machine: Machine, addresses: list[str]) -> str:
    """ "passthrough", "translated" or "off" for these devices; empty if it cannot be told."""
    groups = [f"{DEVICES}/{address}/iommu_group" for address in addresses]
    kinds = {machine.text(f"{group}/type") for group in groups if machine.exists(group)}
    if kinds and kinds <= {"identity", "DMA", "DMA-FQ"}:
        return "passthrough" if kinds == {"identity"} else "translated"
    if not machine.exists("/sys/class/iommu"):
        return ""
    if not machine.list("/sys/class/iommu") or (groups and not kinds):
        return "off"
    words = (machine.text("/proc/cmdline") or "").split()
    return "passthrough" if {"iommu=pt", "iommu.passthrough=1"} & set(words) else "translated"


def parse_generation(speed: str | None) -> int | None:
    """The PCIe generation of "16.0 GT/s PCIe", "8 GT/s"; None of "Unknown"."""
    rate = re.match(r"(\d+(?:\.[1-9])?)(?:\.0)? GT/s", speed or "")
    return GENERATIONS.get(rate[1]) if rate else None


def parse_errors(text: str | None) -> int | None:
    """The sum in aer_dev_fatal and aer_dev_nonfatal."""
    total = re.search(r"^TOTAL_ERR_\w+ (\d+)$", text or "", re.MULTILINE)
    return int(total[1]) if total else None


def _theirs(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Address, vendor and class of every device of theirs; hundreds of others are passed by."""
    for address in machine.list(DEVICES):
        vendor = VENDORS.get(machine.text(f"{DEVICES}/{address}/vendor") or "")
        if vendor:
            yield address, vendor, (machine.text(f"{DEVICES}/{address}/class") or "")[:6]


def _gpu(machine: Machine, address: str, vendor: str) -> PciGpu:
    at = f"{DEVICES}/{address}"
    node = machine.number(f"{at}/numa_node")
    # The link's state is read from the device itself; one that sleeps would be woken by that.
    awake = machine.text(f"{at}/power/runtime_status") not in ("suspended", "suspending")
    to_slot = link(machine, at, awake=awake)
    return PciGpu(
        bus_id=address,
        vendor=vendor,
        device_id=machine.text(f"{at}/device") or "",
        driver=os.path.basename(machine.link(f"{at}/driver")),
        numa_node=node if node is not None and node >= 0 else None,
        link_width=to_slot.width,
        link_width_max=to_slot.width_max,
        link_gen=to_slot.gen,
        link_gen_max=to_slot.gen_max,
        aer_fatal=parse_errors(machine.text(f"{at}/aer_dev_fatal")),
        aer_nonfatal=parse_errors(machine.text(f"{at}/aer_dev_nonfatal")),
    )


def link(machine: Machine, at: str, *, awake: bool = True) -> Link:
    """The link of the card at this path to its slot; one that sleeps has no state."""
    end, port = _ends(machine, at)
    sides = [side for side in (end, port) if side]
    widths = [_width(machine, f"{side}/max_link_width") for side in sides]
    speeds = [parse_generation(machine.text(f"{side}/max_link_speed")) for side in sides]
    return Link(
        width=_width(machine, f"{end}/current_link_width") if awake else None,
        width_max=min((width for width in widths if width), default=None),
        gen=parse_generation(machine.text(f"{end}/current_link_speed")) if awake else None,
        gen_max=min((speed for speed in speeds if speed), default=None),
    )


def _ends(machine: Machine, at: str) -> tuple[str, str]:
    """The two ends of the link to the slot: the card's own, and the port's, empty if not seen.

    Radeons have a PCIe switch on the card; the link between it and the chip is always wide.
    """
    target = machine.link(at)
    end = os.path.normpath(os.path.join(DEVICES, target)) if target else at
    while True:
        port = os.path.dirname(end)
        if not (target and re.fullmatch(_ADDRESS, os.path.basename(port))):
            return end, ""
        if machine.text(f"{end}/vendor") == "0x1002" == machine.text(f"{port}/vendor"):
            end = port
        else:
            return end, port


def _width(machine: Machine, path: str) -> int | None:
    width = machine.number(path)
    return width if width in WIDTHS else None
