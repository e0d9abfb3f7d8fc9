"""What a job needs: of /dev/shm, of threads, of open files.

The loader term was measured with torch 2.13 (workers x prefetch + 1 batches are in flight,
whatever the sharing strategy); the NCCL terms follow its source and logged sizes, see
data/nccl_shm.json.
"""

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.system import System
from gpudoctor.facts.workload import Workload
from gpudoctor.units import GIB, MIB, power_of_two, size

BASE = 64 * MIB  # semaphores, Open MPI, UCX, other users of the same /dev/shm
HELD_BATCHES = 2  # one that the training loop holds, one that the pinning thread holds
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


def shm_need(job: Workload, nccl: tuple[int, int] | None = None) -> ShmNeed:
    """What the job needs on one node, when its GPUs have no P2P among them.

    Args:
        job: ranks, nodes and loaders.
        nccl: NCCL's version; None counts with the newest, which needs the most.
    """
    in_flight = job.workers * job.prefetch + HELD_BATCHES if job.workers else 0
    loaders = job.local_ranks * job.loaders * in_flight * job.batch_bytes
    lines = [
        f"loaders: {job.local_ranks} ranks x {job.loaders} x ({job.workers} workers x"
        f" {job.prefetch} + {HELD_BATCHES}) batches x {size(job.batch_bytes)} = {size(loaders)}"
    ]
    need = BASE + loaders
    if job.local_ranks > 1 or job.nodes > 1:
        pools = job.local_ranks * proxy_pool(nccl)
        version = "newest" if nccl is None else f"{nccl[0]}.{nccl[1]}"
        lines.append(f"NCCL {version} proxy: {job.local_ranks} x {size(proxy_pool(nccl))}")
        need += pools
    if job.local_ranks > 1:
        numbers = table("nccl_shm")
        channels, segment = numbers["channels"]["value"], numbers["segment_bytes"]["value"]
        # Two ranks are one pair; the tree adds nothing to a ring of two.
        edges = 2 if job.local_ranks == 2 else int(job.local_ranks * TREE_EDGES)
        need += edges * channels * segment
        lines.append(
            f"NCCL without P2P: {edges} edges x {channels} channels x {size(segment)}"
            f" = {size(edges * channels * segment)}"
        )
    lines.append(f"other: {size(BASE)}")
    lines += _assumed(job, "local_ranks", "workers", "batch_bytes")
    floor = 8 * GIB if job.local_ranks > 1 else GIB
    return ShmNeed(need, max(floor, power_of_two(2 * need)), tuple(lines))


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
