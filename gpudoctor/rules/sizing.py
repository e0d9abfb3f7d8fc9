"""What a job needs: of /dev/shm, of threads, of open files.

The loader term was measured with torch 2.13 (workers x prefetch batches are in flight, whatever
the sharing strategy, and those that the loop holds); the NCCL terms follow its source and
logged sizes, see data/nccl_shm.json.
"""

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.system import System
from gpudoctor.facts.workload import Workload
from gpudoctor.units import GIB, MIB, count_of, power_of_two, size

BASE = 64 * MIB  # semaphores, Open MPI, UCX, other users of the same /dev/shm
HELD_BATCHES = 2  # the loop's own and, until it is replaced, the one before; measured
TREE_EDGES = 1.75  # directed edges per rank: the ring, and most of a tree in both directions

RANK_THREADS = 24  # of torch, autograd, CUDA and NCCL in one rank; rule of thumb
WORKER_THREADS = 4  # three in a DataLoader worker, one in its rank; measured, torch 2.13
OTHER_THREADS = 16  # launcher, shells
POOL_LIMIT = 64  # OpenBLAS in NumPy's wheels starts no more

RANK_FILES = 256  # Python, torch, CUDA's device nodes, the data set's own; rule of thumb
WORKER_FILES = 4  # pipes of a DataLoader worker in its rank; measured, torch 2.13
BATCH_FILES = 8  # tensors of a batch: each is a descriptor until it is freed
PEER_FILES = 32  # NCCL's sockets and handles for each rank of the job; rule of thumb


class ShmNeed(Struct, frozen=True):
    """Bytes of /dev/shm that a job needs, and the size to ask for."""

    bytes: int
    recommended: int
    arithmetic: tuple[str, ...]


def shm_need(
    job: Workload,
    nccl: tuple[int, int] | None = None,
    *,
    p2p: bool | None = None,
    held: int = HELD_BATCHES,
    jobs: int = 1,
) -> ShmNeed:
    """What the job needs on one node; what is not known counts as it needs the most.

    Args:
        job: ranks, nodes and loaders.
        nccl: NCCL's version; None counts with the newest, which needs the most.
        p2p: its GPUs reach each other's memory; None: not known.
        held: batches that the training loop holds at the same time.
        jobs: how many like it run side by side.
    """
    ranks = jobs * job.local_ranks
    in_flight = job.workers * job.prefetch + held if job.workers else 0
    loaders = ranks * job.loaders * in_flight * job.batch_bytes
    need = BASE + loaders
    lines = [
        f"loaders: {count_of(ranks, 'rank')} x {job.loaders} x ({job.workers} workers x"
        f" {job.prefetch} + {held}) batches x {size(job.batch_bytes)} = {size(loaders)}"
    ]
    if _uses_network(job):
        pools = ranks * proxy_pool(nccl)
        version = "newest" if nccl is None else f"{nccl[0]}.{nccl[1]}"
        unless = "" if job.knows("nodes") else ", unless all ranks are on this node"
        lines.append(
            f"NCCL {version} proxy: {ranks} x {size(proxy_pool(nccl))} = {size(pools)}{unless}"
        )
        need += pools
    if job.local_ranks > 1 and not p2p:
        numbers = table("nccl_shm")
        channels, segment = numbers["channels"]["value"], numbers["segment_bytes"]["value"]
        # Two ranks are one pair; the tree adds nothing to a ring of two.
        edges = jobs * (2 if job.local_ranks == 2 else int(job.local_ranks * TREE_EDGES))
        need += edges * channels * segment
        lines.append(
            f"NCCL without P2P: {edges} edges x {channels} channels x {size(segment)}"
            f" = {size(edges * channels * segment)}"
        )
    lines.append(f"other: {size(BASE)}")
    lines += _assumed(job, "local_ranks", "workers", "batch_bytes")
    floor = 8 * GIB if ranks > 1 else GIB
    return ShmNeed(need, max(floor, power_of_two(2 * need)), tuple(lines))


def _uses_network(job: Workload) -> bool:
    """Whether NCCL's network transport, which has the proxy pool, may come to be used."""
    return job.nodes > 1 or (job.local_ranks > 1 and not job.knows("nodes"))


def proxy_pool(nccl: tuple[int, int] | None) -> int:
    """Bytes of NCCL's proxy pool in one process."""
    rows = table("nccl_shm")["proxy_pool_bytes"]
    known = [row["value"] for row in rows if nccl is None or tuple(row["since"]) <= nccl]
    return int(known[-1] if known else rows[0]["value"])


class ThreadNeed(Struct, frozen=True):
    """Threads of a job on one node, as the limits of processes count them."""

    least: int  # with fewer it cannot run
    most: int  # when every process starts a pool with a thread for each CPU
    arithmetic: tuple[str, ...]


def thread_need(
    job: Workload, system: System | None = None, environment: Environment | None = None
) -> ThreadNeed:
    """How many threads the job's processes have on one node.

    Args:
        job: ranks and loaders.
        system: its CPUs set the size of thread pools; None counts with the largest pool.
        environment: an OMP_NUM_THREADS in it sets their size instead.
    """
    workers = job.loaders * job.workers
    processes = job.local_ranks * (1 + workers)
    least = job.local_ranks * (RANK_THREADS + workers * WORKER_THREADS) + OTHER_THREADS
    told = environment.values.get("OMP_NUM_THREADS", "") if environment else ""
    cpus = system.cpus_usable if system else POOL_LIMIT
    pool = int(told) if told.isdigit() else min(POOL_LIMIT, cpus)
    most = least + processes * max(0, pool - 1)
    size_of_pool = "OMP_NUM_THREADS" if told.isdigit() else "one for each CPU"
    lines = [
        f"least: {job.local_ranks} ranks x ({RANK_THREADS} + {workers} workers x"
        f" {WORKER_THREADS}) + {OTHER_THREADS} others = {least}",
        f"most: + {processes} processes x {max(0, pool - 1)} of a thread pool"
        f" ({size_of_pool}) = {most}",
    ]
    return ThreadNeed(least, most, (*lines, *_assumed(job, "local_ranks", "workers")))


class FileNeed(Struct, frozen=True):
    """Descriptors that one rank has open at the same time."""

    count: int
    arithmetic: tuple[str, ...]


def file_need(job: Workload) -> FileNeed:
    """How many files, pipes and sockets one rank opens."""
    workers = job.loaders * job.workers
    loaders = workers * (WORKER_FILES + job.prefetch * BATCH_FILES)
    world = job.local_ranks * job.nodes
    peers = world * PEER_FILES if world > 1 else 0
    lines = [
        f"one rank: {RANK_FILES} of its own",
        f"loaders: {workers} workers x ({WORKER_FILES} + {job.prefetch} batches x"
        f" {BATCH_FILES} tensors) = {loaders}",
        f"NCCL: {world} ranks x {PEER_FILES} = {peers}" if peers else "NCCL: one rank, none",
    ]
    need = RANK_FILES + loaders + peers
    return FileNeed(need, (*lines, *_assumed(job, "local_ranks", "nodes", "workers")))


def _assumed(job: Workload, *fields: str) -> list[str]:
    names = [field.replace("_", " ") for field in fields if not job.knows(field)]
    return [f"assumed, not told: {', '.join(names)}"] if names else []
