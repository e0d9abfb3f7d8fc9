"""What holds a GPU's clocks down, and how bad that is."""

from typing import NamedTuple

from gpudoctor.data import table
from gpudoctor.facts.gpus import Gpu

LAPTOP = ("Laptop", "Max-Q", "Mobile")  # these slow down on battery, by design
HALVED = ("hw slowdown", "hw thermal")  # besides all that the table calls a brake


class Slowed(NamedTuple):
    """Reasons that hold now, by name: clocks halved or less, and clocks lowered for heat."""

    braked: list[str]
    heated: list[str]


def slowed(gpu: Gpu) -> Slowed:
    """What slows a GPU down beyond what a power limit or a setting does."""
    kinds = {row["name"]: row["kind"] for row in table("gpu_throttle")["reasons"]}
    active = gpu.throttle or ()
    braked = [name for name in active if name in HALVED or kinds.get(name) == "brake"]
    heated = [name for name in active if name not in HALVED and kinds.get(name) == "heat"]
    return Slowed(braked, heated)


def is_laptop(gpu: Gpu) -> bool:
    """Whether a GPU is of a laptop, by its name."""
    return any(word in gpu.name for word in LAPTOP)
