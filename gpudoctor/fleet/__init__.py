"""Many node reports summed up: what is wrong where, and what it has in common.

`gather` reads reports one after another and keeps of each only what the page needs.
"""

from gpudoctor.fleet.expected import BadInventory, Expected, expected_nodes, inventory
from gpudoctor.fleet.gathering import gather, of_report
from gpudoctor.fleet.model import SCHEMA, Fleet
from gpudoctor.fleet.reading import pieces

__all__ = [
    "SCHEMA",
    "BadInventory",
    "Expected",
    "Fleet",
    "expected_nodes",
    "gather",
    "inventory",
    "of_report",
    "pieces",
]
