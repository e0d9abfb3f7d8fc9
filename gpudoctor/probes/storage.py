"""Look at storage."""

from gpudoctor.facts.storage import Storage
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def storage(machine: Machine) -> Storage | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
