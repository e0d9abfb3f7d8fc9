"""checks/bandwidth.py: tables of facts -> status."""

import pytest

from gpudoctor import AllReduce, Gpu, Gpus, Nodes, PairFigure, PairReduce, Snapshot, Status
from gpudoctor.registry import get
from tests.gpu_machines import H100, HGX, RTX_4090, but, machine
from tests.rdma_machines import INFINIBAND
from tests.rules.test_all_reduce import OVER_TCP, nodes, point, reduced, wired

GB = 1e9
CPU = AllReduce(
    backend="gloo", device="cpu", torch="2.13.0+cpu", ranks=2, points=(point(1.5 * GB, ranks=2),)
)
TIMED_OUT = "rank 1 hangs; rank 0: RuntimeError: Timed out waiting 20000ms for recv operation"
NO_ADDRESS = "rank 0: RuntimeError: ifa != nullptr. Unable to find address for: nope0"


def fails(error: str, step: str = "all-reduce of 8 bytes", **more) -> AllReduce:
    return AllReduce(ranks=2, error=error, step=step, **{"backend": "gloo", **more})


@pytest.mark.parametrize(
    ("found", "gpus", "status", "says"),
    [
        pytest.param(CPU, None, Status.PASS, "1.5 GB/s at 1 GiB over 2 CPU ranks", id="gloo"),
        pytest.param(
            reduced(8, H100.name, 455 * GB),
            HGX,
            Status.PASS,
            "455 GB/s at 1 GiB over 8 GPUs, 460 GB/s expected",
            id="healthy: 8 H100",
        ),
        pytest.param(
            reduced(8, H100.name, 366 * GB), HGX, Status.PASS, "366 GB/s", id="H100 without NVLS"
        ),
        pytest.param(
            reduced(8, H100.name, 300 * GB), HGX, Status.WARN, "460 GB/s expected", id="low"
        ),
        pytest.param(reduced(8, H100.name, 40 * GB), HGX, Status.FAIL, "40 GB/s", id="very low"),
        pytest.param(
            reduced(8, H100.name, 40 * GB, again=(point(450 * GB),)),
            HGX,
            Status.PASS,
            "450 GB/s",
            id="low once, and well a moment later",
        ),
        pytest.param(
            reduced(8, H100.name, 40 * GB, busy=("pid 7 (python) took 100% of a CPU",)),
            HGX,
            Status.WARN,
            "40 GB/s",
            id="very low beside other work",
        ),
        pytest.param(
            reduced(8, H100.name, 40 * GB),
            but(HGX, 3, busy_percent=90),
            Status.WARN,
            "40 GB/s",
            id="very low on a GPU that is busy",
        ),
        pytest.param(
            reduced(2, RTX_4090.name, 1 * GB),
            machine(RTX_4090, 2),
            Status.WARN,
            "13.9 GB/s expected",
            id="PCIe is only ever warned of",
        ),
        pytest.param(
            reduced(2, "Z9000", 1 * GB), None, Status.PASS, "1 GB/s at 1 GiB", id="unknown GPU"
        ),
        pytest.param(
            reduced(2, "NVIDIA A40-48Q", 1 * GB),
            Gpus(devices=(Gpu(vendor="nvidia", index=0, name="NVIDIA A40-48Q"),)),
            Status.PASS,
            "1 GB/s",
            id="vGPU",
        ),
        pytest.param(
            reduced(8, H100.name, 455 * GB, wrong="rank 3, 8 bytes, number 1: 2 instead of 3"),
            HGX,
            Status.FAIL,
            "wrong sum: rank 3, 8 bytes",
            id="wrong, and fast",
        ),
        pytest.param(fails("rank 1: SIGSEGV"), None, Status.FAIL, "rank 1: SIGSEGV", id="a crash"),
        pytest.param(fails(TIMED_OUT), None, Status.FAIL, "rank 1 hangs", id="a hang"),
        pytest.param(
            fails(NO_ADDRESS, "connect"), None, Status.FAIL, "Unable to find", id="no address"
        ),
        pytest.param(
            fails("no answer in 5 s", "import torch"), None, Status.ERROR, "5 s", id="no time"
        ),
        pytest.param(
            fails("no answer in 5 s", "start torchrun"), None, Status.ERROR, "5 s", id="none at all"
        ),
        pytest.param(AllReduce(ranks=2), None, Status.ERROR, "nothing was", id="no figure"),
    ],
)
def test_local(found, gpus, status, says):
    finding = get("bandwidth-allreduce")(found, gpus, None, None)

    assert finding.status is status, finding.summary
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("busbw", "more", "around", "status", "evidence"),
    [
        pytest.param(300, {}, nodes(rdma=INFINIBAND, gpus=HGX), Status.PASS, "", id="healthy"),
        pytest.param(
            5,
            OVER_TCP,
            nodes(rdma=INFINIBAND, gpus=HGX, network=wired(25_000)),
            Status.FAIL,
            "TCP was used, though 16 InfiniBand ports are active",
            id="TCP beside InfiniBand",
        ),
        pytest.param(
            2.5,
            OVER_TCP,
            nodes(gpus=HGX, network=wired(25_000)),
            Status.PASS,
            "NET/Socket over eth0",
            id="healthy: 25 Gbit/s",
        ),
        pytest.param(
            0.05,
            OVER_TCP,
            nodes(gpus=HGX, network=wired(1_000)),
            Status.WARN,
            "TCP over eth0, 1000 Mbit/s",
            id="half of 1 Gbit/s",
        ),
        pytest.param(0.1, {}, Nodes(snapshots=(Snapshot("a"),)), Status.PASS, "", id="unknown"),
    ],
)
def test_global(busbw, more, around, status, evidence):
    found = reduced(16, H100.name, busbw * GB, scope="global", **{"nodes": 2, **more})

    finding = get("bandwidth-allreduce")(found, None, None, around)

    assert finding.status is status, finding.summary
    assert "16 GPUs of 2 nodes" in finding.summary
    assert evidence in "\n".join(finding.evidence)


def test_the_fix_of_a_wrong_sum_leaves_p2p_out():
    found = reduced(8, H100.name, wrong="rank 3, 8 bytes, number 1: 2 instead of 3")

    (fix,) = [get("bandwidth-allreduce")(found, HGX, None, None).fix]

    assert fix.commands[0].startswith("NCCL_P2P_DISABLE=1 gpudoctor check")


def test_every_size_is_shown():
    said = get("bandwidth-allreduce")(CPU, None, None, None).evidence

    assert said[0] == "gloo (torch 2.13.0+cpu)"
    assert said[1].startswith("1 GiB: 716 ms (716 ms to 716 ms, 20 times), 1.5 GB/s")


def test_one_node_over_the_network_is_told():
    found = reduced(2, "Z9000", transports=("NET/Socket",), interface="eth0")

    said = get("bandwidth-allreduce")(found, None, None, None).evidence

    assert any("P2P and SHM are off" in line for line in said)


GOOD = 10 * GB


def pairs(**figures: float | None) -> PairReduce:
    """`pairs(ab=1.0)`: what node a and node b reach together, of what is usual."""
    return PairReduce(
        bytes=1 << 26,
        figures=tuple(
            PairFigure(
                nodes=(name[0], name[1]),
                busbw=None if share is None else share * GOOD,
                error="" if share is not None else "no answer in 60 s",
            )
            for name, share in figures.items()
        ),
    )


@pytest.mark.parametrize(
    ("found", "status", "named", "says"),
    [
        pytest.param(pairs(ab=1.0, cd=0.97), Status.PASS, (), "2 pairs", id="healthy"),
        pytest.param(
            pairs(ab=1.0, cd=0.6, ca=1.0, db=0.6, da=0.6, cb=1.0),
            Status.WARN,
            ("d",),
            "d: 6 GB/s, 10 GB/s usual",
            id="one slow node",
        ),
        pytest.param(
            pairs(ab=1.0, cd=0.1, ca=1.0, db=0.1, da=0.1, cb=1.0),
            Status.FAIL,
            ("d",),
            "d: 1 GB/s",
            id="one very slow node",
        ),
        pytest.param(
            pairs(ab=1.0, cd=None, ca=1.0, db=None, da=None, cb=1.0),
            Status.FAIL,
            ("d",),
            "d: 0 B/s",
            id="one with which nothing works",
        ),
        pytest.param(
            pairs(ab=1.0, cd=0.3, ac=1.0, bd=1.0, ad=1.0, bc=1.0),
            Status.FAIL,
            (),
            "the link c - d: 3 GB/s",
            id="one slow link, of which neither end is to blame",
        ),
        pytest.param(pairs(ab=0.3, cd=1.0), Status.WARN, (), "a - b", id="a tie blames nobody"),
        pytest.param(
            pairs(ab=0.3, cd=1.0, ac=0.3, bd=0.3),
            Status.WARN,
            (),
            "not clear: a - b",
            id="half of the nodes",
        ),
        pytest.param(pairs(ab=0.8, cd=1.0), Status.PASS, (), "2 pairs", id="healthy: two racks"),
        pytest.param(PairReduce(), Status.SKIP, (), "no pairs", id="a single node"),
        pytest.param(
            PairReduce(unfinished="no time was left"), Status.SKIP, (), "no time", id="no time"
        ),
    ],
)
def test_straggler(found, status, named, says):
    finding = get("bandwidth-straggler")(found)

    assert finding.status is status, finding.summary
    assert set(finding.nodes) == set(named)
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("wrong", "blamed"),
    [
        pytest.param(("ab",), (), id="one pair: nobody knows which"),
        pytest.param(("cd", "db", "da"), ("d",), id="the node that all of them have"),
    ],
)
def test_a_wrong_sum_of_a_pair(wrong, blamed):
    tried = wrong if len(wrong) == 1 else ("ab", "cd", "ca", "db", "da", "cb")
    figures = [
        PairFigure(
            nodes=(name[0], name[1]),
            busbw=GOOD,
            wrong="rank 1, 8 bytes, number 0: 1, not 2" if name in wrong else "",
        )
        for name in tried
    ]

    finding = get("bandwidth-straggler")(PairReduce(figures=tuple(figures)))

    assert finding.status is Status.FAIL
    assert finding.nodes == blamed
    assert finding.fix.commands
