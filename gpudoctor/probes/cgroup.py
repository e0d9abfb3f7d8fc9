"""Look at cgroup."""

from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def cgroup(machine: Machine) -> Cgroup | Absent:
    """Not written yet."""
    return Absent("not looked at yet")
