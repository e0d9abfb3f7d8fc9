"""NVIDIA's management library: whether it is worth loading, and what its codes are called."""

import functools

from gpudoctor.data import table
from gpudoctor.probes import Machine, linker, pci

FILE = "libnvidia-ml.so.1"
NOTHING_HERE = "no NVIDIA GPU and no NVIDIA driver is here"


def load(machine: Machine) -> linker.Library | None:
    """The loaded library; None where neither it nor any NVIDIA GPU is in sight.

    It may hang or crash: only for isolated probes.
    """
    if not (is_expected(machine) or linker.in_sight(machine, [FILE])):
        return None
    return linker.load(FILE)


def is_expected(machine: Machine) -> bool:
    """Whether anything speaks of an NVIDIA GPU: a device node, or the PCI bus."""
    return any(name.startswith("nvidia") for name in machine.list("/dev")) or (
        "nvidia" in pci.vendors(machine)
    )


def name_of(code: int) -> str:
    """NVML's name of a return code."""
    return _names().get(code, f"NVML error {code}")


@functools.cache
def _names() -> dict[int, str]:
    return {row["code"]: row["name"] for row in table("nvml_codes")["codes"]}
