"""Read the job's place in the world off its launcher's variables and the options."""

from gpudoctor.facts.job import Job
from gpudoctor.probes import Machine, probe
from gpudoctor.rules import job_variables
from gpudoctor.snapshot import Absent


@probe()
def job(machine: Machine) -> Job | Absent:
    """What launchers, job scripts and the person at the keyboard say."""
    found = job_variables.read(machine.env, machine.told, machine.shape)
    if not found.claims:
        return Absent("no launcher told anything: no RANK, WORLD_SIZE, MASTER_ADDR, --master-addr")
    return found
