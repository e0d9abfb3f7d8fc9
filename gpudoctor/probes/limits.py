"""Look at limits."""

from gpudoctor.facts.limits import Limits
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def limits(machine: Machine) -> Limits | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
