"""Look at container."""

from gpudoctor.facts.container import Container
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def container(machine: Machine) -> Container | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
