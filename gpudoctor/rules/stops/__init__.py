"""Where the way to a GPU can end, and the way out from there.

The ladder of gpu-visible and the check of a single layer end at the same places: both take
their words and fixes from here.
"""

from gpudoctor.facts.gpus import NVML_NO_LIBRARY
from gpudoctor.rules.stops.driver import foreign_driver, mismatch, not_loaded, wrong_flavour
from gpudoctor.rules.stops.ladder import Seen, climb
from gpudoctor.rules.stops.nodes import Nodes, closed, left_out, nodes_of, without_node
from gpudoctor.rules.stops.runtime import cuda_fails, hidden, hip_fails, without_nvml
from gpudoctor.rules.stops.stop import Stop, ask_kernel, is_inside

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
    "left_out",
    "mismatch",
    "nodes_of",
    "not_loaded",
    "without_node",
    "without_nvml",
    "wrong_flavour",
]
