"""Look at environment."""

from gpudoctor.facts.environment import Environment
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def environment(machine: Machine) -> Environment | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
