"""A batch script of Slurm."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch import _node as node
from gpudoctor.launch._inherits import groups_of, notes_on, unprivileged
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import exact, prelude, spelling
from gpudoctor.launch.settings import (
    Cpus,
    GpuDevices,
    Memory,
    Mount,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
)

IN_SCRIPT = "In the job script:"
ON_NODES = "On every node, as root:"


def spell(settings: Sequence[Setting]) -> Spelling:
    settings = unprivileged(settings)
    shell = [line for setting in settings for line in [*inherited(setting), *prelude(setting)]]
    of_host = [s for s in settings if isinstance(s, ShmSize | Mount | RdmaDevices)]
    return spelling(
        IN_SCRIPT,
        requested(settings) + shell,
        [note for setting in settings for note in notes(setting)],
        ON_NODES,
        on_nodes(settings, of_host),
    )


def requested(settings: Sequence[Setting]) -> list[str]:
    """What sbatch is asked for."""
    found = []
    for setting in settings:
        match setting:
            case Memory(value=value):
                # 0 is all that the node has; sbatch counts in KiB and more.
                found.append(f"--mem={exact(-(-(value or 0) // 1024), ('K', 'M', 'G', 'T'))}")
            case Cpus(count=count):
                found.append(f"--cpus-per-task={count}")
            case GpuDevices(count=None):
                found.append("--exclusive")  # all of the node's, and nobody else
            case GpuDevices(count=count):
                found.append(f"--gres=gpu:{count}")
    return [f"#SBATCH {option}" for option in dict.fromkeys(found)]


def inherited(setting: Setting) -> list[str]:
    """What srun does not take over from sbatch by itself (Slurm 22.05 and later)."""
    again = 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
    return [again] if isinstance(setting, Cpus) else []


def notes(setting: Setting) -> list[str]:
    if isinstance(setting, Cpus):
        return ["With several tasks per node, divide --cpus-per-task by their number."]
    return notes_on(setting, "A Slurm job")


def on_nodes(settings: Sequence[Setting], of_host: Sequence[Setting]) -> list[str]:
    """What slurmd hands on to its jobs, and other things of the host."""
    # A soft limit of the stack is within everybody's reach.
    limits = {s: limit for s in settings if (limit := rlimit(s)) and limit.name != "stack"}
    passed_on = [s for s in settings if s in limits or isinstance(s, Pids)]
    groups = [group for setting in settings for group in groups_of(setting)]
    found = node.lines([*of_host, *passed_on, *groups], "slurmd")
    if limits:
        names = ",".join(limit.name.upper() for limit in limits.values())
        found += [
            "# In slurm.conf on all nodes, so that a login's limits do not replace these:",
            f"# PropagateResourceLimitsExcept={names}",
        ]
    return found
