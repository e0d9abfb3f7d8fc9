"""NVIDIA's management library: whether it is worth loading, and what its codes are called."""

import functools

from gpudoctor.data import table
from gpudoctor.probes import Machine, linker, signs

FILE = "libnvidia-ml.so.1"


def load(machine: Machine) -> linker.Library | None:
    """The loaded library; None where neither it nor any NVIDIA GPU is in sight.

    It may hang or crash: only for isolated probes.
    """
    return None if signs.no_nvidia(machine) else linker.load(FILE)


def name_of(code: int) -> str:
    """NVML's name of a return code."""
    return _names().get(code, f"NVML error {code}")


@functools.cache
def _names() -> dict[int, str]:
    return {row["code"]: row["name"] for row in table("nvml_codes")["codes"]}
