"""What is known of a GPU model, by the name that its driver gives it."""

import functools
import re

import msgspec
from msgspec import Struct

from gpudoctor.data import table


class GpuModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of data/gpu_models.json.

    Attributes:
        name: pattern (re) of the whole name, without the vendor's.
        arch: "sm_90", "gfx942".
        data_centre: a server part, whose ECC is on as it is delivered.
        links: NVLink or XGMI links of the GPU, or of its side of the bridges.
        wiring: "board": all links lead to other GPUs of its board; "machine": where they lead
            depends on the machine; "bridge": on a bridge that one may buy; "hive": from each
            GPU to every other.
        fabric: "node": NVSwitches in the machine; "rack": in the rack.
        p2p: direct access over PCIe or links. False: the vendor does not offer it; None: it
            depends on the machine.
        pcie_gen: of the GPU itself, whatever the slot allows.
        pcie_width: likewise.
        source: where the row comes from.
    """

    name: str
    arch: str
    data_centre: bool
    links: int = 0
    wiring: str = ""
    fabric: str = ""
    p2p: bool | None = None
    pcie_gen: int | None = None
    pcie_width: int | None = None
    source: str


def gpu_model(name: str) -> GpuModel | None:
    """What is known of the model; None: nothing, so it must not be judged by its model."""
    bare = re.sub(r"^(NVIDIA|AMD) ", "", name.strip(), flags=re.IGNORECASE)
    return next((model for pattern, model in _models() if pattern.fullmatch(bare)), None)


@functools.cache
def _models() -> tuple[tuple[re.Pattern[str], GpuModel], ...]:
    models = msgspec.convert(table("gpu_models")["models"], list[GpuModel])
    return tuple((re.compile(model.name, re.IGNORECASE), model) for model in models)
