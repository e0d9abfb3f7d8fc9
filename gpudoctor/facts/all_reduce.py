"""All-reduce, as torch.distributed of the job's own Python does it: right, and how fast."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Measured(Struct, frozen=True, kw_only=True):
    """All-reduces of one size.

    Attributes:
        bytes: in the buffer of one rank.
        iterations: that were timed, after the warm-up.
        seconds: of one all-reduce: the median over samples, of the slowest rank in each. Where
            an all-reduce is short, a sample is several that follow each other at once.
        low_seconds: the 10th percentile of the same.
        high_seconds: the 90th.
        algbw: bytes a second: `bytes / seconds`.
        busbw: bytes a second on each link: `algbw * 2 * (ranks - 1) / ranks`.
    """

    bytes: int
    iterations: int
    seconds: float
    low_seconds: float
    high_seconds: float
    algbw: float
    busbw: float


class AllReduce(Fact, frozen=True, kw_only=True):
    """A sweep from small to large over all ranks.

    Attributes:
        scope: "local": the ranks of one node; "global": those of all nodes of the job.
        backend: "nccl" (RCCL too), "gloo".
        device: "cuda" or "cpu".
        nodes: that the ranks are on.
        gpus: the name of each rank's GPU, by rank; empty: on CPUs.
        bus_ids: of those, by rank; "" where torch does not tell.
        points: by size.
        again: the largest size, measured a second time a moment later.
        wrong: what was wrong with a sum; empty: all were right.
        transports: that NCCL says it used: "P2P", "SHM", "NET/IB", "NET/Socket", "NVLS", "GDRDMA".
        library: "NCCL 2.29.7", "RCCL 2.22.3"; empty for gloo.
        interface: by which NCCL or gloo went between nodes.
        busy: what else was running at the time.
        warnings: what NCCL warned of.
        ranks_busbw: of the largest size, by each rank's own clock; to name a slow rank.
        error: why it did not come to its end; empty: it did.
        step: the last thing that it began.
        unfinished: which sizes no time or memory was left for; empty: none.
    """

    scope: str = "local"
    backend: str = ""
    device: str = ""
    torch: str = ""
    ranks: int = 0
    nodes: int = 1
    gpus: tuple[str, ...] = ()
    bus_ids: tuple[str, ...] = ()
    points: tuple[Measured, ...] = ()
    again: tuple[Measured, ...] = ()
    wrong: str = ""
    transports: tuple[str, ...] = ()
    library: str = ""
    interface: str = ""
    busy: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    ranks_busbw: tuple[float, ...] = ()
    error: str = ""
    step: str = ""
    unfinished: str = ""
    seconds: float = 0.0


class PairFigure(Struct, frozen=True, kw_only=True):
    """All-reduce between two nodes alone. `error` empty: it worked."""

    nodes: tuple[str, str]
    round: int = 0
    busbw: float | None = None
    wrong: str = ""
    error: str = ""


class PairReduce(Fact, frozen=True, kw_only=True):
    """Pairs of nodes by themselves: first all in disjoint pairs, then suspects with good nodes."""

    bytes: int = 0
    figures: tuple[PairFigure, ...] = ()
    unfinished: str = ""
