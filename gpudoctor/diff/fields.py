"""How fields are told to people, and by what items of a list are known again."""

import json
import re
from typing import Any

from gpudoctor.diff.noise import UNSET
from gpudoctor.units import size

KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "device_nodes.nodes": (("path",),),
    "environment.library_dirs": (("path",),),
    "gpu_speed.devices": (("bus_id",), ("index",)),
    "gpus.devices": (("uuid",), ("bus_id",), ("index",)),
    "gpus.devices.links": (("number",),),
    "gpus.devices.processes": (("pid", "name"), ("name",)),
    "gpus.pairs": (("one", "other"),),
    "master.attempts": (("ip",),),
    "nccl_settings.files": (("path",),),
    "network.interfaces": (("name",), ("pci",)),
    "network.interfaces.addresses": (("ip",),),
    "network.routes": (("destination", "interface", "metric"), ("destination",)),
    "network_mounts.mounts": (("target",),),
    "pci_bus.gpus": (("bus_id",),),
    "rdma.devices": (("name",), ("pci",)),
    "rdma.devices.ports": (("number",),),
    "rdma.devices.ports.gids": (("index",),),
    "shm_files.files": (("name",),),
    "storage.places": (("path", "role"), ("role", "named_by", "moved_by"), ("role",)),
    "torch_run.devices": (("bus_id",), ("index",)),
}
"""Of lists of records: the fields that items have alike, tried one after the other."""

USUAL_KEYS = ("uuid", "id", "name", "path", "index", "number", "target")
"""Of lists that nobody declared, such as those of plug-ins."""

SHOWN_BY = {"gpus.devices": "index", "storage.places": "path", "network.routes": "destination"}
"""What an item is called, where that is not the first field that it is known by."""

ORDERED = {"environment.preload", "master.addresses", "names.addresses", "network.interfaces"}
"""Lists whose order means something; all others are unordered."""

VERSIONS = {"cuda_init.version", "gpus.cuda", "nccl_answer.version", "torch_build.cuda"}

DERIVED = {"clock": ("synchronised",)}
"""Properties of facts that say more than the fields that they are made of."""

LABELS = {
    "environment.values": "",
    "firewall.chains": "chain",
    "gpus.devices": "",
    "gpu_speed.devices": "",
    "network.interfaces": "",
    "network.routes": "route",
    "network_mounts.mounts": "",
    "device_nodes.nodes": "",
    "pci_bus.gpus": "",
    "rdma.devices": "",
    "shm.total_bytes": "size",
    "shm_files.files": "",
    "storage.places": "",
    "storage.places.total_bytes": "size",
    "syscalls.answers": "",
    "torch_run.devices": "",
}
"""Where a field's name does not read well, or goes without saying."""

NAMED = re.compile(
    r"environment\.values|job_python\.packages|allocation\.visible|nccl_settings\.origins"
    r"|nccl_settings\.files\.values|syscalls\.answers|[\w.]*told_by"
)
"""Mappings whose keys are names, which stay as they are."""

_NO_LIMIT = re.compile(
    r"limits\.\w+\.(soft|hard)|cgroup\.(\w+_limit\w*|memory_high_bytes|cpu_quota)"
)
_BYTES = re.compile(
    r".*(^|[._])bytes|limits\.(memlock|stack|address_space)\.(soft|hard)|.*[rw]mem_max"
)
_BITS = re.compile(r"privileges\.capabilities\w*")
_UNITS = {
    "_seconds": "s",
    "_mbps": "Mbit/s",
    "_gbps": "Gbit/s",
    "_mhz": "MHz",
    "_percent": "%",
    "_c": "°C",
    "_w": "W",
    "_gbs": "GB/s",
    "_tflops": "TFLOP/s",
}
_SUFFIX = re.compile(r"_(bytes|seconds|mbps|gbps|mhz|percent|c|w|gbs|tflops)$")
MOST = 60  # characters of one value
MOST_ITEM = 32


def label(path: str) -> str:
    """What a field is called, without its unit."""
    parent, _, name = path.rpartition(".")
    if path in LABELS:
        return LABELS[path]
    if NAMED.fullmatch(parent) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return f"{name}:"
    return _SUFFIX.sub("", name).replace("_", " ")


def of_fact(fact: str) -> str:
    """What a fact is called."""
    return fact.replace("_", " ")


def value(path: str, found: Any) -> str:
    """A value with its unit."""
    if found is UNSET:
        return "unset"
    if found is None:
        return "unlimited" if _NO_LIMIT.fullmatch(path) else "not known"
    if isinstance(found, bool):
        return "yes" if found else "no"
    if found == "" or found == [] or found == {}:
        return "none"
    if isinstance(found, int | float):
        return _number(path, found)
    if isinstance(found, list) and path in VERSIONS:
        return ".".join(map(str, found))
    if isinstance(found, list) and not any(isinstance(item, dict | list) for item in found):
        return ", ".join(value(path, item) for item in found)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _number(path: str, found: float) -> str:
    if isinstance(found, int) and _BYTES.fullmatch(path):
        return size(found)
    if isinstance(found, int) and _BITS.fullmatch(path):
        return hex(found)
    if path.endswith("_seconds") and found >= 600:
        return _long(found)
    unit = next((word for suffix, word in _UNITS.items() if path.endswith(suffix)), "")
    number = f"{found:.6g}" if isinstance(found, float) else f"{found}"
    return f"{number} {unit}".rstrip()


def _long(seconds: float) -> str:
    """ "2 d 3 h": a time that nobody counts in seconds."""
    days, hours, minutes = (
        int(seconds) // 86400,
        int(seconds) // 3600 % 24,
        int(seconds) // 60 % 60,
    )
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


def turned(path: str, before: Any, after: Any) -> str:
    """ "64 MiB -> 16 GiB"; of lists only what came and went."""
    if _are_members(before, after) and path not in VERSIONS:
        return _members(path, before, after)
    words = value(path, before), value(path, after)
    if words[0] == words[1]:  # alike only when rounded
        words = (
            f"{words[0]} ({json.dumps(before, default=repr)})",
            f"{words[1]} ({json.dumps(after, default=repr)})",
        )
    return " -> ".join(_parted(*words))


def _are_members(before: Any, after: Any) -> bool:
    """Whether it is told best what came and went: lists of words, one of them with several."""
    if not (isinstance(before, list) and isinstance(after, list) and before and after):
        return False
    return len(before) + len(after) > 2 and not any(isinstance(i, dict) for i in (*before, *after))


def _members(path: str, before: list[Any], after: list[Any]) -> str:
    gone, new = _only_in(before, after), _only_in(after, before)
    if path == "kernel_log.lines":
        gone = []
    if not gone and not new:
        return f"order {' -> '.join(_parted(value(path, before), value(path, after)))}"
    sides = {"new": new, "gone": gone}
    return "; ".join(f"{word} {_cut(value(path, some))}" for word, some in sides.items() if some)


def _only_in(here: list[Any], there: list[Any]) -> list[Any]:
    known = {json.dumps(item) for item in there}
    return [item for item in here if json.dumps(item) not in known]


def _parted(before: str, after: str) -> tuple[str, str]:
    """Both, cut where they are long, but so that what differs is seen."""
    if len(before) <= MOST and len(after) <= MOST:
        return before, after
    alike = 0
    while alike < min(len(before), len(after)) and before[alike] == after[alike]:
        alike += 1
    start = max(0, alike - 20)
    lead = "..." if start else ""
    return lead + _cut(before[start:]), lead + _cut(after[start:])


def tail(item: str) -> str:
    """What an item is called in few columns: of a path its end tells more."""
    return item if len(item) <= MOST_ITEM else f"...{item[3 - MOST_ITEM :]}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."
