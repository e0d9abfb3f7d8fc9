"""Look at clock."""

from gpudoctor.facts.clock import Clock
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def clock(machine: Machine) -> Clock | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
