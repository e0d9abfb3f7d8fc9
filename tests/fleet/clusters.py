"""A report of eight nodes looked at together: one link is dead, one slow, one clock off."""

from msgspec.structs import replace

from gpudoctor import AllReduce, Links, Measured, Member, Members, PairFigure, PairReduce, Way
from gpudoctor.finding import Status
from gpudoctor.report import Cluster, Node, Report, Result, SpelledFix, counts, exit_code, verdict
from tests.fleet import synthetic

NAMES = tuple(f"gpu-a-{number:02d}" for number in range(1, 9))
DEAD, SLOW, LATE = "gpu-a-03", "gpu-a-06", "gpu-a-05"


def _way(source: str, target: str) -> Way:
    one, other = NAMES.index(source), NAMES.index(target)
    dead = DEAD in (source, target) and (one + other) % 2 == 1
    slow = SLOW in (source, target)
    late = {LATE: 0.42}
    return Way(
        source=source,
        target=target,
        resolved=(f"10.1.0.{other + 1}",),
        address=f"10.1.0.{other + 1}",
        interface="ens1f0np0",
        speed_mbps=100_000.0,
        port=40_000 + other,
        error="ETIMEDOUT" if dead else "",
        step="connect" if dead else "",
        rtt_seconds=None if dead else 0.00004 + 0.000001 * other,
        clock_offset_seconds=None
        if dead
        else late.get(target, 0.0003 * other) - late.get(source, 0.0003 * one),
        clock_uncertainty_seconds=None if dead else 0.00002,
        mtu=9000,
        bytes_per_second=None if dead else (1.1e9 if slow else 11.2e9 + 1e7 * one),
    )


def _point(power: int) -> Measured:
    size = 1 << power
    seconds = 0.00006 + size / 3.4e11
    return Measured(
        bytes=size,
        iterations=20,
        seconds=seconds,
        low_seconds=seconds * 0.97,
        high_seconds=seconds * 1.06,
        algbw=size / seconds,
        busbw=size / seconds * 126 / 64,
    )


LINKS = Links(
    ways=tuple(_way(one, other) for one in NAMES for other in NAMES if one != other),
    rounds=7,
    pairs=28,
    pairs_all=28,
    master=NAMES[0],
    master_port=29500,
)
FACTS = {
    "members": Members(
        expected=9,
        told_by="SLURM_NNODES",
        names=(*NAMES, "gpu-a-09"),
        ranks=72,
        members=tuple(
            Member(name=name, rank=8 * place, ranks=8, step="done")
            for place, name in enumerate(NAMES)
        ),
        meeting="gpu-a-01:29501",
    ),
    "links": LINKS,
    "all_reduce": AllReduce(
        scope="global",
        backend="nccl",
        device="cuda",
        ranks=64,
        nodes=8,
        points=tuple(_point(power) for power in range(10, 34, 2)),
        transports=("NET/IB", "GDRDMA"),
        library="NCCL 2.27.5",
    ),
    "pair_reduce": PairReduce(
        bytes=1 << 30,
        figures=tuple(
            PairFigure(nodes=(one, other), busbw=4.1e9 if SLOW in (one, other) else 41e9)
            for place, one in enumerate(NAMES)
            for other in NAMES[place + 1 :]
        ),
    ),
}


def _result(name: str, status: Status, said: str, *nodes: str, fix: str = "") -> Result:
    fixes = (SpelledFix(launcher="any", text=fix),) if fix else ()
    return Result(
        id=name,
        topic="cluster",
        title="All nodes of the job reach each other",
        status=status,
        owner="network",
        summary=said,
        why="The first collective hangs until its timeout: Watchdog caught collective operation.",
        fixes=fixes,
        nodes=nodes,
    )


RESULTS = (
    _result(
        "cluster-links",
        Status.FAIL,
        f"{DEAD} cannot be reached by 4 of 7 nodes: ETIMEDOUT",
        DEAD,
        fix="Have the cable and the switch's port of the node looked at",
    ),
    _result(
        "cluster-speed", Status.WARN, f"{SLOW}: 8.8 Gb/s, others 90", SLOW, fix="Look at the port"
    ),
    _result("cluster-clocks", Status.WARN, f"{LATE} is 420 ms ahead", LATE, fix="Start chronyd"),
    _result("cluster-alike", Status.PASS, "8 nodes are alike in 31 things"),
)


def report() -> Report:
    """The whole report."""
    kinds = synthetic.Kinds()
    healthy = kinds.report("H100", synthetic.HEALTHY)
    narrow = kinds.report("H100", synthetic.NARROW)
    nodes = []
    for name in NAMES:
        of = narrow if name == "gpu-a-07" else healthy
        facts = synthetic.base("H100") | {
            "clock": replace(of.nodes[0].facts["clock"], max_error_seconds=0.004)
        }
        nodes.append(Node(name=name, view=("host",), facts=facts, results=of.nodes[0].results))
    cluster = Cluster(
        facts=FACTS,
        results=RESULTS,
        missing=("gpu-a-09",),
        exclude=(DEAD,),
        exclude_lines={"slurm": f"sbatch --exclude={DEAD}"},
    )
    results = tuple(result for node in nodes for result in node.results) + RESULTS
    status = verdict(results)
    return replace(
        healthy,
        nodes=tuple(nodes),
        cluster=cluster,
        counts=counts(results),
        status=status,
        exit_code=exit_code(status),
    )
