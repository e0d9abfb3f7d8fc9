"""The job's place in the world, as launchers and scripts tell it."""

from collections.abc import Iterator

from gpudoctor import EnvSet, Finding, Fix, Job, check, fail, ok
from gpudoctor.rules import job_variables

BY_HAND = {  # what a task's own launcher knows better than a script
    "slurm": "export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID",
    "openmpi": (
        "export RANK=$OMPI_COMM_WORLD_RANK WORLD_SIZE=$OMPI_COMM_WORLD_SIZE"
        " LOCAL_RANK=$OMPI_COMM_WORLD_LOCAL_RANK"
    ),
    "pmi": "export RANK=$PMI_RANK WORLD_SIZE=$PMI_SIZE LOCAL_RANK=$MPI_LOCALRANKID",
}
STARTS = {  # where they tell it: each task's number, and how many there are
    "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    "openmpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "pmi": ("PMI_RANK", "PMI_SIZE"),
}
FIRST_HOST = 'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'


@check(
    owner="launch",
    symptoms=[
        r"Timed out after \d+ seconds waiting for clients",
        r"store_based_barrier_key.*worker_count=",
        r"environment variable (RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT) expected, but not set",
    ],
)
def net_job(job: Job) -> Finding:
    """RANK, WORLD_SIZE and what else the launcher tells agree with each other.

    All ranks wait for WORLD_SIZE of them to meet. Is one missing, or are two the same, they
    wait until the store gives up: "Timed out after 301 seconds waiting for clients. 1/2
    clients joined", or for ever.
    """
    job = job_variables.without_profile(job)
    found = [*_unreadable(job), *_too_large(job), *_miscounted(job), *_of_others(job)]
    told = [f"{n}={value}" for claims in job.claims.values() for n, value in claims.items()]
    if found:
        return fail(found[0], _fix(job), evidence=[*found[1:], " ".join(told)], basis="vendor")
    missing = [name for name in ("RANK", "WORLD_SIZE") if name not in _names(job)]
    by_hand = job.launcher == "plain" and len(missing) == 1
    evidence = [f"no {missing[0]}: right if torchrun is yet to start"] if by_hand else []
    parts = [
        f"rank {job.rank} of {job.world_size}" if None not in (job.rank, job.world_size) else "",
        f"node {job.node_rank} of {job.nodes}" if None not in (job.node_rank, job.nodes) else "",
        f"master {job.master_addr}" if job.master_addr else "",
    ]
    alone = f"{told[0]}, and nothing else is told" if len(told) == 1 else ""
    summary = ", ".join(filter(None, parts)) or alone or f"{len(told)} variables agree"
    return ok(summary, [*evidence, " ".join(told)])


def _names(job: Job) -> set[str]:
    return {name for claims in job.claims.values() for name in claims}


def _unreadable(job: Job) -> Iterator[str]:
    for field, claims in job.claims.items():
        for name, text in claims.items():
            if name == "MASTER_PORT" and text.strip() == "0" and job.world_size in (None, 1):
                continue  # any free port, to torch's store: only other ranks need know which
            if name in job_variables.NUMBERS and not _is_read(field, name, text):
                yield f'{name}="{text}" is not a number that it can be'
    if wrong := job_variables.malformed(job.master_addr):
        yield f"MASTER_ADDR={job.master_addr} {wrong}"
    elif _in_blanks(job):
        yield f'MASTER_ADDR={job.master_addr} has blanks around it, "\\r" perhaps'


def _in_blanks(job: Job) -> bool:
    """Which no resolver forgives, as from a file with the ends of lines of Windows."""
    stated = job.claims.get("master_addr", {}).get("MASTER_ADDR", "")
    return job.told_by.get("master_addr") == "MASTER_ADDR" and stated != stated.strip()


def _is_read(field: str, name: str, text: str) -> bool:
    try:
        job_variables.VARIABLES[field][name](text)
    except ValueError:
        return False
    return True


def _too_large(job: Job) -> Iterator[str]:
    pairs = (
        ("rank", "world_size"),
        ("local_rank", "local_world_size"),
        ("node_rank", "nodes"),
    )
    for number, count in pairs:
        here, of = getattr(job, number), getattr(job, count)
        if here is not None and of is not None and here >= of:
            yield f"{_said(job, number)}, but {_said(job, count)}: it counts from 0"
    ranks = ("world_size", "local_world_size")
    all_ranks, here = (getattr(job, field) or 0 for field in ranks)
    if 0 < all_ranks < here and not _counts_nodes(job):
        yield " is less than ".join(_said(job, field) for field in ranks)


def _miscounted(job: Job) -> Iterator[str]:
    """Uneven nodes are a launcher's right; who states both numbers means them to be even."""
    by = {job.told_by.get(field, "") for field in ("nodes", "local_world_size")}
    stated = by <= {"--nnodes", "--nproc-per-node", "NNODES", "LOCAL_WORLD_SIZE"}
    if not (stated and job.nodes and job.local_world_size and job.world_size):
        return
    if job.told_by["world_size"] != "WORLD_SIZE" or _counts_nodes(job):
        return
    ranks = job.nodes * job.local_world_size
    if ranks != job.world_size:
        shape = f"{job.nodes} nodes x {job.local_world_size}"
        yield f"WORLD_SIZE={job.world_size}, but {shape} = {ranks}"


def _of_others(job: Job) -> Iterator[str]:
    """Set by hand for all tasks alike, or with another job in mind."""
    number, count = STARTS.get(job.launcher, ("", ""))
    tasks = job.claims.get("world_size", {}).get(count, "")
    # One task a node is how torchrun is started, which sets its own.
    if not tasks.isdigit() or int(tasks) <= max(1, job.nodes or 1):
        return
    for field, ours, theirs in (("world_size", "WORLD_SIZE", count), ("rank", "RANK", number)):
        claims = job.claims.get(field, {})
        if ours in claims and theirs in claims and claims[ours].strip() != claims[theirs]:
            yield f"{ours}={claims[ours]}, but {theirs}={claims[theirs]}"


def _counts_nodes(job: Job) -> bool:
    """WORLD_SIZE and RANK before torchrun starts, where some platforms count pods by them."""
    return job.launcher != "torchrun" and job.world_size == job.nodes


def _said(job: Job, field: str) -> str:
    by = job.told_by.get(field, field)
    return f"{by}{' ' if by.startswith('--') else '='}{getattr(job, field)}"


def _fix(job: Job) -> Fix:
    host, port = job_variables.host_and_port(job.master_addr.rpartition("//")[2])
    is_list = bool(job_variables.malformed(host))
    if not is_list and (host != job.master_addr or _in_blanks(job)):
        ports = [EnvSet("MASTER_PORT", str(port))] if port else []
        return Fix(EnvSet("MASTER_ADDR", host), *ports)
    if is_list and job.launcher == "slurm":
        return Fix(text="Take the first node of the list", commands=[FIRST_HOST])
    if job.launcher in BY_HAND:
        text = "Take them from the launcher, in each task and not before"
        return Fix(text=text, commands=[BY_HAND[job.launcher]])
    even = job.nodes and job.local_world_size and job.nodes * job.local_world_size
    if even and job.rank is not None and job.rank < even and next(_miscounted(job), ""):
        return Fix(EnvSet("WORLD_SIZE", str(even)))
    return Fix(
        text="Let torchrun set them: it needs --nnodes, --nproc-per-node, --node-rank,"
        " --master-addr and --master-port",
        commands=["unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE"],
    )
