"""What the environment says of the GPUs of this process: how many, and which."""

import re
from collections.abc import Callable, Mapping

CHOOSE = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "AMD_VISIBLE_DEVICES",
)
_LOCAL_RANK = (
    "LOCAL_RANK",  # torchrun
    "OMPI_COMM_WORLD_LOCAL_RANK",  # Open MPI
    "MPI_LOCALRANKID",  # Intel MPI, MPICH
    "SLURM_LOCALID",
)


def local_rank(env: Mapping[str, str]) -> int | None:
    """The rank on this node; the innermost launcher knows best."""
    ranks = [int(env[name]) for name in _LOCAL_RANK if env.get(name, "").isdigit()]
    return ranks[0] if ranks else None


def promised(env: Mapping[str, str]) -> tuple[int | None, str]:
    """How many GPUs this process was given, and the variable that says it."""
    for name, read in _PROMISES.items():
        if name.startswith("SLURM_") and "SLURMD_NODENAME" not in env:
            continue  # a shell of salloc, which need not run on the node
        if name in _OF_NODE and _bound(env):
            continue  # how many of the node's GPUs are this task's is not told
        try:
            count = read(env[name]) if env.get(name) else 0
        except ValueError:
            continue
        if count > 0:
            return count, name
    return None, ""


def _bound(env: Mapping[str, str]) -> bool:
    """Whether Slurm gives each task some of the node's GPUs."""
    return any(env.get(f"SLURM_{kind}_BIND", "none") != "none" for kind in ("GPU", "TRES"))


def _listed(text: str) -> int:
    """How many devices a list names: "0,1", "0-3", "GPU-8932f937,MIG-41b2", "0:1"."""
    count = 0
    for part in text.split(","):
        span = re.fullmatch(r"(\d+)-(\d+)", part)
        if not span and not re.fullmatch(r"\d+(:\d+)?|(GPU|MIG)-[\w/-]+|0x[0-9a-fA-F]+", part):
            raise ValueError(part)
        count += int(span[2]) - int(span[1]) + 1 if span else 1
    return count


def _typed(text: str) -> int:
    """A count as Slurm takes it: "4", "h100:4", "a100:2,v100:1", "gres/gpu:h100:4"."""
    return sum(int(re.split("[:=]", part)[-1]) for part in text.split(","))


def _of_task(text: str) -> int:
    """The GPUs in SLURM_TRES_PER_TASK: "cpu:8,gres/gpu:1"."""
    return sum(_typed(part) for part in text.split(",") if part.startswith("gres/gpu"))


# The first that is set and makes sense wins. A task that has GPUs of its own sees only those.
_PROMISES: Mapping[str, Callable[[str], int]] = {
    "SLURM_GPUS_PER_TASK": _typed,
    "SLURM_TRES_PER_TASK": _of_task,
    "SLURM_GPUS_ON_NODE": _typed,
    "SLURM_STEP_GPUS": _listed,
    "SLURM_JOB_GPUS": _listed,
    "SLURM_GPUS_PER_NODE": _typed,
    "NVIDIA_VISIBLE_DEVICES": _listed,  # of the container; "all", "none", "void" promise nothing
    "AMD_VISIBLE_DEVICES": _listed,
}
_OF_NODE = ("SLURM_GPUS_ON_NODE", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_PER_NODE")
