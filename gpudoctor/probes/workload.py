"""Read the job's shape off its launcher's variables and the GPUs that are there."""

from collections.abc import Callable, Mapping

from gpudoctor.facts.workload import Workload
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.devices import devices


def _count(text: str) -> int:
    """A count as Slurm writes it: "8", "8(x2)"; with several groups "8(x2),4" the largest."""
    return max(int(part.partition("(")[0]) for part in text.split(","))


# The first that is set and makes sense wins: the innermost launcher knows best.
_LOCAL_RANKS: Mapping[str, Callable[[str], int]] = {
    "LOCAL_WORLD_SIZE": int,  # torchrun
    "OMPI_COMM_WORLD_LOCAL_SIZE": int,  # Open MPI
    "MPI_LOCALNRANKS": int,  # Intel MPI, MPICH
    "MV2_COMM_WORLD_LOCAL_SIZE": int,  # MVAPICH2
    "PET_NPROC_PER_NODE": int,  # Kubeflow's name for torchrun's --nproc-per-node; or "auto"
    "SLURM_STEP_TASKS_PER_NODE": _count,
    "SLURM_NTASKS_PER_NODE": _count,
}
_NODES: Mapping[str, Callable[[str], int]] = {
    "GROUP_WORLD_SIZE": int,  # torchrun: one agent a node
    "SLURM_STEP_NUM_NODES": int,
    "SLURM_JOB_NUM_NODES": int,
    "SLURM_NNODES": int,
    "PET_NNODES": int,  # Kubeflow's name for torchrun's --nnodes
}
_VISIBLE = (
    "CUDA_VISIBLE_DEVICES",  # the only one that NVIDIA knows
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
)
_NONE = ("", "none", "void", "nodevfiles")  # the last is Slurm's word for no GPU


@probe()
def workload(machine: Machine) -> Workload:
    """Ranks on this node and nodes of the job; everything else stays assumed."""
    job = Workload()
    for field, variables in (("local_ranks", _LOCAL_RANKS), ("nodes", _NODES)):
        for name, read in variables.items():
            try:
                count = read(machine.env.get(name, ""))
            except ValueError:
                continue
            if count > 0:
                job = job.told({field: count}, name)
                break
    gpus = _visible_gpus(machine)
    # One Slurm task on a node with several GPUs is how torchrun is started.
    if gpus and (not job.knows("local_ranks") or _slurm_says_one(job)):
        job = job.told({"local_ranks": gpus}, "GPU device nodes")
    return job


def _slurm_says_one(job: Workload) -> bool:
    return job.local_ranks == 1 and job.told_by["local_ranks"].startswith("SLURM_")


def _visible_gpus(machine: Machine) -> int:
    """GPUs that the runtimes count: from the list they are given, up to the first invalid one."""
    found = devices(machine)
    count = found.gpus
    for name in _VISIBLE[:1] if found.nvidia else _VISIBLE:
        if name in machine.env:
            listed = [part.strip().lower() for part in machine.env[name].split(",")]
            invalid = [i for i, part in enumerate(listed) if part.startswith("-") or part in _NONE]
            count = min(count, invalid[0] if invalid else len(listed))
    return count
