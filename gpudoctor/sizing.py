"""How much of /dev/shm a job needs: data loaders, NCCL, and what nobody counts.

The loader term was measured with torch 2.13 (workers x prefetch + 1 batches are in flight,
whatever the sharing strategy); the NCCL terms follow its source and logged sizes, see
data/nccl_shm.json.
"""

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.workload import Workload
from gpudoctor.units import GIB, MIB, power_of_two, size

BASE = 64 * MIB  # semaphores, Open MPI, UCX, other users of the same /dev/shm
HELD_BATCHES = 2  # one that the training loop holds, one that the pinning thread holds
TREE_EDGES = 1.75  # directed edges per rank: the ring, and most of a tree in both directions


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
    assumed = [f for f in ("local_ranks", "workers", "batch_bytes") if not job.knows(f)]
    if assumed:
        lines.append(f"assumed, not told: {', '.join(assumed).replace('_', ' ')}")
    floor = 8 * GIB if job.local_ranks > 1 else GIB
    return ShmNeed(need, max(floor, power_of_two(2 * need)), tuple(lines))


def proxy_pool(nccl: tuple[int, int] | None) -> int:
    """Bytes of NCCL's proxy pool in one process."""
    rows = table("nccl_shm")["proxy_pool_bytes"]
    known = [row["value"] for row in rows if nccl is None or tuple(row["since"]) <= nccl]
    return int(known[-1] if known else rows[0]["value"])
