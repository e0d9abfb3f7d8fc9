"""The variables by which a launcher tells a process its place in the job."""

import re
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gpudoctor.facts.job import Job
from gpudoctor.redact import value_of

_MORE = r"//|^[^:\[\]]+:\d+$|^\[.*\]"  # a URL, a port behind it, brackets around it
_LIST = r"[\[\],\s]"  # as Slurm writes nodes: "node[1-4]"
TORCHRUN_PORT, RDZV_PORT = 29500, 29400  # torchrun's defaults: --master-port, --rdzv-endpoint

Reading = Callable[[str], int | str]


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _tasks(text: str) -> int:
    """A count as Slurm writes it: "8", "8(x2)"; with several groups "8(x2),4" the largest."""
    return max(_count(part.partition("(")[0]) for part in text.split(","))


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 1 << 16:
        raise ValueError(text)
    return number


def host_and_port(endpoint: str) -> tuple[str, int | None]:
    """The parts of "node0:29400", "node0", "[fd00::1]:29400" or "fd00::1"."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = endpoint, ""
    return host.strip("[]"), int(port) if port else None


def malformed(address: str) -> str:
    """What keeps a MASTER_ADDR from being one host, in words; empty: nothing."""
    if re.search(_MORE, address):
        return "is not an address alone"
    return "is a list, not one node" if re.search(_LIST, address) else ""


def _endpoint_port(text: str) -> int:
    return host_and_port(text)[1] or RDZV_PORT


# The first that is set and makes sense wins: the innermost launcher knows best.
VARIABLES: Mapping[str, Mapping[str, Reading]] = {
    "rank": {
        "RANK": _whole,
        "OMPI_COMM_WORLD_RANK": _whole,
        "PMI_RANK": _whole,  # MPICH, Intel MPI; also of srun --mpi=pmi2
        "PMIX_RANK": _whole,
        "SLURM_PROCID": _whole,
    },
    "world_size": {
        "WORLD_SIZE": _count,
        "OMPI_COMM_WORLD_SIZE": _count,
        "PMI_SIZE": _count,
        "SLURM_STEP_NUM_TASKS": _count,
        "SLURM_NTASKS": _count,
    },
    "local_rank": {
        "LOCAL_RANK": _whole,
        "OMPI_COMM_WORLD_LOCAL_RANK": _whole,
        "MPI_LOCALRANKID": _whole,
        "MV2_COMM_WORLD_LOCAL_RANK": _whole,
        "PALS_LOCAL_RANKID": _whole,
        "SLURM_LOCALID": _whole,
    },
    "local_world_size": {
        "LOCAL_WORLD_SIZE": _count,  # torchrun
        "OMPI_COMM_WORLD_LOCAL_SIZE": _count,  # Open MPI
        "MPI_LOCALNRANKS": _count,  # Intel MPI, MPICH
        "MV2_COMM_WORLD_LOCAL_SIZE": _count,  # MVAPICH2
        "PET_NPROC_PER_NODE": _count,  # Kubeflow's name for torchrun's option; or "auto"
        "SLURM_STEP_TASKS_PER_NODE": _tasks,
        "SLURM_NTASKS_PER_NODE": _tasks,
    },
    "node_rank": {
        "GROUP_RANK": _whole,  # torchrun: one agent a node
        "NODE_RANK": _whole,
        "PET_NODE_RANK": _whole,
        "SLURM_NODEID": _whole,
        "JOB_COMPLETION_INDEX": _whole,  # a Kubernetes Job with completionMode: Indexed
    },
    "nodes": {
        "GROUP_WORLD_SIZE": _count,
        "SLURM_STEP_NUM_NODES": _count,
        "SLURM_JOB_NUM_NODES": _count,
        "SLURM_NNODES": _count,
        "PET_NNODES": _count,  # or "1:4"
        "NNODES": _count,
    },
    "master_addr": {
        "MASTER_ADDR": value_of,
        "PET_MASTER_ADDR": value_of,
        "PET_RDZV_ENDPOINT": lambda text: host_and_port(value_of(text))[0],
    },
    "master_port": {
        "MASTER_PORT": _port,
        "PET_MASTER_PORT": _port,
        "PET_RDZV_ENDPOINT": _endpoint_port,
    },
}
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_PORT")
"""Variables that must be numbers: PyTorch and job scripts read them as such."""
OPTIONS = {
    "nodes": ("nodes", "--nnodes"),
    "local_ranks": ("local_world_size", "--nproc-per-node"),
    "node_rank": ("node_rank", "--node-rank"),
    "master_addr": ("master_addr", "--master-addr"),
    "master_port": ("master_port", "--master-port"),
}
"""What a person may tell: the field that it is, and the option."""
PROFILE = "the profile"
_LAUNCHERS = {
    "torchrun": ("TORCHELASTIC_RUN_ID", "GROUP_RANK"),
    "openmpi": ("OMPI_COMM_WORLD_RANK",),
    "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_JOB_NUM_NODES"),
    "pmi": ("PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"),
    "kubernetes": ("PET_NNODES", "PET_NODE_RANK", "PET_RDZV_ENDPOINT", "JOB_COMPLETION_INDEX"),
}


def read(
    env: Mapping[str, str],
    told: Mapping[str, int | str] | None = None,
    shape: Mapping[str, int | str] | None = None,
) -> Job:
    """The job by its variables; what is told on the command line wins.

    Args:
        shape: what the profile says, which is no claim of anybody: it counts where all are silent.
    """
    found: dict[str, int | str] = {}
    by: dict[str, str] = {}
    claims: dict[str, dict[str, str]] = {}
    for name, (field, option) in OPTIONS.items():
        if told and name in told:
            found[field], by[field] = told[name], option
            claims[field] = {option: str(told[name])}
    for field, variables in VARIABLES.items():
        for name in _in_order(field, variables, env):
            text = env.get(name, "").strip()
            if not text:
                continue
            claims.setdefault(field, {})[name] = value_of(env[name])
            try:
                value = variables[name](text)
            except ValueError:
                continue
            if field not in found:
                found[field], by[field] = value, name
    for name, value in (shape or {}).items():
        if name in OPTIONS and OPTIONS[name][0] not in found:
            found[OPTIONS[name][0]], by[OPTIONS[name][0]] = value, PROFILE
    launcher = next((word for word, marks in _LAUNCHERS.items() if _any(marks, env)), "")
    fields: dict[str, object] = {**found, "told_by": by, "claims": claims}
    return Job(launcher=launcher or ("plain" if claims else ""), **fields)  # type: ignore[arg-type]


def _in_order(field: str, variables: Mapping[str, Reading], env: Mapping[str, str]) -> list[str]:
    # An agent of torchrun goes by its endpoint; a rank by what its agent has put there.
    if field.startswith("master_") and not _any(_LAUNCHERS["torchrun"], env):
        return ["PET_RDZV_ENDPOINT", *(n for n in variables if n != "PET_RDZV_ENDPOINT")]
    return list(variables)


def _any(names: tuple[str, ...], env: Mapping[str, str]) -> bool:
    return any(env.get(name) for name in names)


def unsaid(
    shape: Mapping[str, int | str],
    env: Mapping[str, str],
    told: Mapping[str, int | str] | None = None,
) -> dict[str, int | str]:
    """What of a profile's shape of the job neither the launcher's variables nor a person say."""
    job = read(env, told)
    said = {
        "local_ranks": job.local_world_size,
        "nodes": job.nodes or (job.world_size if job.local_world_size else None),
    }
    return {name: value for name, value in shape.items() if not said.get(name)}


def without_profile(job: Job) -> Job:
    """What is claimed of this very job: a profile speaks of all jobs of a kind."""
    return replace(job, **{field: None for field, by in job.told_by.items() if by == PROFILE})


def is_said(name: str, told_by: str) -> bool:
    """Whether a field of the workload is told by such a variable."""
    ways = {"local_ranks": ("local_world_size",), "nodes": ("nodes", "world_size")}
    return any(told_by in VARIABLES[way] for way in ways.get(name, ()))
