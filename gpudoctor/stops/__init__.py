"""Where the way to a GPU can end, and the way out from there.

The ladder of gpu-visible and the check of a single layer end at the same places: both take
their words and fixes from here.
"""

from gpudoctor.stops.driver import foreign_driver, mismatch, not_loaded, wrong_flavour
from gpudoctor.stops.ladder import NVML_NO_LIBRARY, Seen, climb
from gpudoctor.stops.nodes import Nodes, closed, nodes_of
from gpudoctor.stops.runtime import cuda_fails, hidden, hip_fails
from gpudoctor.stops.stop import Stop, ask_kernel, is_inside

NOT_MEANT = "no GPU is expected here"

__all__ = [
    "NOT_MEANT",
    "NVML_NO_LIBRARY",
    "Nodes",
    "Seen",
    "Stop",
    "ask_kernel",
    "climb",
    "closed",
    "cuda_fails",
    "foreign_driver",
    "hidden",
    "hip_fails",
    "is_inside",
    "mismatch",
    "nodes_of",
    "not_loaded",
    "wrong_flavour",
]
