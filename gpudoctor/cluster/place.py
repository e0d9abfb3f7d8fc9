"""Where this process stands among the nodes of a job, and where they meet: pure."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.facts.job import Job
from gpudoctor.hostlist import BadHostlist, unfold
from gpudoctor.rules.job_variables import TORCHRUN_PORT, malformed

_NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
# Of jobs that share a node, so that they do not meet: the ports below the kernel's own.
_PORTS = range(20_000, 30_000)
# What tells one start of a job from another; the innermost launcher first.
_KEYS = (
    ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"),
    ("PMIX_NAMESPACE",),
    ("PMI_JOBID",),
    ("SLURM_JOB_ID", "SLURM_STEP_ID"),
    ("PBS_JOBID",),
    ("LSB_JOBID",),
)
# Of a pod's node: the downward API has no name of its own, these are what people write.
_NODE_NAMES = ("NODE_NAME", "K8S_NODE_NAME", "MY_NODE_NAME")
_GIVE = "give --nnodes N --node-rank R, and --master-addr HOST or --share DIR"


class NoPlace(ValueError):
    """The launcher and the options do not say enough; the message says what to give."""


class Place(Struct, frozen=True, kw_only=True):
    """One process among those of a job.

    Attributes:
        rank: of this process; where it leads, the lowest of its node.
        ranks: of the job on this node; None: they are counted as they come.
        leads: it works for its node; None: whoever of its host comes first does.
        nodes: that the job has; None: nobody says.
        world: ranks of the whole job; None: nobody says.
        told_by: who says how many nodes, or else how many ranks, there are.
        names: of all nodes, where the launcher lists them.
        name: by which the launcher calls this node; empty: by none.
        key: tells this start of the job from others; the same on all nodes.
        host: where the nodes meet; empty: nobody says.
        port: where they meet there.
    """

    rank: int = 0
    ranks: int | None = 1
    leads: bool | None = True
    nodes: int | None = None
    world: int | None = None
    told_by: str = ""
    names: tuple[str, ...] = ()
    name: str = ""
    key: str = "job"
    host: str = ""
    port: int = TORCHRUN_PORT + 1

    @property
    def judges(self) -> bool:
        """Whether it gathers what all others found."""
        return self.rank == 0


def place(job: Job | None, env: Mapping[str, str], meet_port: int | None = None) -> Place:
    """Where we are.

    Raises:
        NoPlace: that is not known, or contradicts itself.
    """
    if job is None or (job.rank is None and job.node_rank is None):
        said = f"{job.told_by['nodes']} says {job.nodes} nodes" if job and job.nodes else ""
        which = said or "no launcher (torchrun, srun, mpirun) has started this"
        raise NoPlace(f"{which}, and nothing says which node this is: {_GIVE}")
    if _is_batch_script(job, env):
        raise NoPlace(
            "this is the batch script, which runs on one node only: "
            "srun --ntasks-per-node=1 gpudoctor check --cluster"
        )
    nodes, by = _nodes(job)
    names = _names(env, nodes)
    wrong = malformed(job.master_addr)
    if wrong:
        raise NoPlace(f"{job.told_by['master_addr']}={job.master_addr} {wrong}")
    rank, leads, ranks = _part(job, nodes)
    return Place(
        rank=rank,
        ranks=ranks,
        leads=leads,
        nodes=nodes,
        world=job.world_size,
        told_by=by,
        names=names,
        name=_name(env),
        key=_key(job, env),
        host=job.master_addr or (names[0] if names else ""),
        port=meet_port or _port(job, env),
    )


def _part(job: Job, nodes: int | None) -> tuple[int, bool | None, int | None]:
    """The rank, whether it leads its node, and how many ranks are there."""
    if job.rank is None:  # one process a node
        return job.node_rank or 0, True, job.local_world_size or 1
    counted = nodes is None and job.local_world_size is None and job.world_size is not None
    if job.local_rank is None or counted:
        return job.rank, True if job.rank == 0 else None, None
    return job.rank, job.local_rank == 0, job.local_world_size or 1


def _nodes(job: Job) -> tuple[int | None, str]:
    """How many nodes there are and who says so; else who says how many ranks there are."""
    if job.nodes is not None:
        return job.nodes, job.told_by["nodes"]
    return (1 if job.world_size == 1 else None), job.told_by.get("world_size", "")


def _is_batch_script(job: Job, env: Mapping[str, str]) -> bool:
    rank_by = job.told_by.get("rank") or job.told_by.get("node_rank", "")
    in_step = any(env.get(name) for name in ("SLURM_STEP_ID", "SLURM_STEPID"))
    return rank_by.startswith("SLURM_") and not in_step and (job.nodes or 1) > 1


def _names(env: Mapping[str, str], nodes: int | None) -> tuple[str, ...]:
    for variable in _NODE_LISTS:
        try:
            names = unfold(env.get(variable, ""))
        except BadHostlist:
            continue
        if names and nodes in (None, len(names)):
            return tuple(names)
    return ()


def _name(env: Mapping[str, str]) -> str:
    variables = ("SLURMD_NODENAME", *(_NODE_NAMES if "KUBERNETES_SERVICE_HOST" in env else ()))
    return next(filter(None, (env.get(variable, "") for variable in variables)), "")


def excludes(place: Place, job: Job, env: Mapping[str, str]) -> str:
    """The launcher that can be told which nodes to go without; empty: none that knows them."""
    if env.get("SLURM_JOB_ID"):
        return "slurm"
    if "KUBERNETES_SERVICE_HOST" in env:
        return "kubernetes" if place.name else ""
    return "" if job.launcher == "kubernetes" else job.launcher


def _key(job: Job, env: Mapping[str, str]) -> str:
    for variables in _KEYS:
        if env.get(variables[0]):
            return "-".join(filter(None, (env.get(name, "") for name in variables)))
    return f"port-{job.master_port or TORCHRUN_PORT}"


def _port(job: Job, env: Mapping[str, str]) -> int:
    """Never MASTER_PORT, which is the job's own."""
    number = env.get("SLURM_JOB_ID", "")
    if job.master_port is None and number.isdecimal() and not job.master_addr:
        return _PORTS[int(number) % len(_PORTS)]
    master = job.master_port or TORCHRUN_PORT
    return master + 1 if master < 65535 else master - 1
