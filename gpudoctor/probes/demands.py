"""Demands are told, not seen."""

from gpudoctor.facts.demands import Demands
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

NONE = "no profile asks for it: --profile NAME (`gpudoctor list --profiles`)"


@probe()
def demands(machine: Machine) -> Demands | Absent:
    """What profile and options ask for."""
    return machine.demands or Absent(NONE)
