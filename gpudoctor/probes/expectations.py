"""Expectations are told, not seen."""

from gpudoctor.facts.expectations import Expectations
from gpudoctor.probes import Machine, probe


@probe()
def expectations(machine: Machine) -> Expectations:
    """None yet: what is told is put in place when the facts are judged."""
    return Expectations()
