"""What NVML's numbers, bits and names mean in the words of our facts."""

from collections.abc import Iterable, Mapping
from typing import Any

from gpudoctor.data import table

COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
RECOVERY_ACTIONS = {  # nvml.h, NVML_GPU_RECOVERY_ACTION_*
    0: "none",
    1: "reset",
    2: "reboot",
    3: "drain p2p",
    4: "drain and reset",
    5: "recover imex domain",
    6: "bus reset",
    7: "system reboot",
}
FABRIC_STATES = {1: "not started", 2: "in progress", 3: "completed"}
# nvml.h, NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_*: two bits each, of which 1 is true and 2 false.
FABRIC_FLAGS = {
    0: "degraded bandwidth",
    2: "route recovery",
    4: "route unhealthy",
    6: "access timeout recovery",
}
FABRIC_CONFIGURATIONS = {  # bits 8 to 11
    2: "incorrect system GUID",
    3: "incorrect chassis serial number",
    4: "no partition",
    5: "insufficient NVLinks",
    6: "incompatible GPU firmware",
    7: "invalid location",
    8: "invalid GPU state",
}
FABRIC_SUMMARIES = {2: "unhealthy", 3: "limited capacity"}
P2P = {
    0: "ok",
    1: "chipset not supported",
    2: "GPU not supported",
    3: "topology not supported",
    4: "disabled by regkey",
    5: "not supported",
}
PATHS = {  # NVML_TOPOLOGY_*: the nearest thing that both are behind
    0: "PCIe switch",
    10: "PCIe switch",
    20: "PCIe switch",
    30: "host bridge",
    40: "NUMA node",
    50: "system",
}


def text(raw: Any) -> str:
    """A string, which some versions of the binding leave as bytes."""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def bus_id(raw: Any) -> str:
    """ "00000000:1B:00.0" as the kernel writes it: "0000:1b:00.0"."""
    domain, _, rest = text(raw).lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}" if rest else ""


def named(names: Mapping[int, str], number: int) -> str:
    """A number's name, or the number where a newer driver has more of them."""
    return names.get(number, str(number))


def remapped(rows: Iterable[int]) -> tuple[int, bool, bool]:
    """Of rows remapped for correctable and uncorrectable errors, pending, failed: the last 3."""
    _, uncorrectable, pending, failed = rows
    return uncorrectable, bool(pending), bool(failed)


def reasons(bits: int) -> tuple[str, ...]:
    """Why clocks are held down, by name."""
    rows = table("gpu_throttle")["reasons"]
    names = {row["nvidia_bit"]: row["name"] for row in rows if "nvidia_bit" in row}
    single = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(names.get(bit, f"bit {bit:#x}") for bit in single)


def only_bit(words: Iterable[int]) -> int | None:
    """The place of the only bit in words of 64; None if there is not exactly one."""
    bits = sum(word << 64 * place for place, word in enumerate(words))
    return bits.bit_length() - 1 if bits.bit_count() == 1 else None


def unhealthy(mask: int, summary: int = 0) -> tuple[str, ...]:
    """What the fabric's health mask complains of."""
    found = [name for shift, name in FABRIC_FLAGS.items() if mask >> shift & 3 == 1]
    if configuration := FABRIC_CONFIGURATIONS.get(mask >> 8 & 15):
        found.append(configuration)
    if not found and summary in FABRIC_SUMMARIES:
        found.append(FABRIC_SUMMARIES[summary])
    return tuple(found)


def cuda(version: int) -> tuple[int, int]:
    """13000 is CUDA 13.0."""
    return version // 1000, version % 1000 // 10
