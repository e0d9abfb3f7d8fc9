"""checks/cluster/path.py: what the ways carry -> status, words, blame."""

import pytest

from gpudoctor import Links, Status
from gpudoctor.registry import get
from tests.cluster_machines import card, failing, links, network, nodes, way

MTU, THROUGHPUT = get("cluster-mtu"), get("cluster-throughput")
GIGABIT = 1.17e8  # bytes a second


def sending(count: int, mtu: int, *numbers: int) -> Links:
    """Links where some nodes send packets of another size."""
    odd = [
        way(n, other, mtu=mtu, path_mtu=mtu)
        for n in numbers
        for other in range(1, count + 1)
        if other != n
    ]
    return links(count, *odd)


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_full_packets_pass(count):
    finding = MTU(links(count), None)

    assert finding.status is Status.PASS
    assert "full packets of 9000 bytes pass" in finding.summary


@pytest.mark.parametrize(
    ("found", "status", "owner", "says", "blamed"),
    [
        pytest.param(
            links(4, *(failing(*e, step="large") for e in ((1, 4), (2, 4), (3, 4)))),
            Status.FAIL,
            "network",
            "n4 takes no full packets from 3 nodes: dropped on the way",
            ("n4",),
            id="its switch port is too narrow",
        ),
        pytest.param(
            links(2, failing(1, 2, step="large"), failing(2, 1, step="large")),
            Status.FAIL,
            "network",
            "full packets fail on 2 of 2 ways between nodes",
            (),
            id="two nodes",
        ),
        pytest.param(
            links(4, *(failing(4, n, step="large") for n in (1, 2, 3))),
            Status.FAIL,
            "network",
            "n4 gets no full packets through to 3 nodes",
            ("n4",),
            id="one way only",
        ),
        pytest.param(
            sending(64, 1500, 7),
            Status.WARN,
            "node",
            "MTU 1500 on n7, 9000 on 63 others",
            ("n7",),
            id="one of 64 has another",
        ),
        pytest.param(
            sending(2, 1500, 2), Status.WARN, "node", "MTU 1500 on n2, 9000 on n1", (), id="a tie"
        ),
        pytest.param(
            links(4, way(1, 2, path_mtu=1450)),
            Status.PASS,
            None,
            "full packets of 9000 bytes pass",
            (),
            id="healthy: a router told its size",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "SILENT", "large") for n in (1, 2, 3))),
            Status.PASS,
            None,
            "full packets",
            (),
            id="frozen, which is no matter of packets",
        ),
        pytest.param(
            links(4, *(failing(n, 4, "ECONNREFUSED") for n in (1, 2, 3))),
            Status.PASS,
            None,
            "pass on 9 ways",
            (),
            id="not reached, which is said elsewhere",
        ),
        pytest.param(
            links(2, failing(1, 2), failing(2, 1)),
            Status.SKIP,
            None,
            "no way between two nodes carried data",
            (),
            id="nobody was reached",
        ),
        pytest.param(Links(), Status.SKIP, None, "--cluster", (), id="nothing tried"),
    ],
)
def test_mtu(found, status, owner, says, blamed):
    finding = MTU(found, None)

    assert (finding.status, finding.owner) == (status, owner)
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80
    assert finding.nodes == blamed


def test_mtu_is_set_like_the_others():
    fix = MTU(sending(4, 1500, 3), None).fix

    assert fix.commands == ("sudo ip link set dev eth0 mtu 9000  # on n3",)
    assert fix.needs_root


def test_a_narrow_switch_is_proved_by_ping():
    finding = MTU(links(4, *(failing(n, 4, step="large") for n in (1, 2, 3))), None)

    assert finding.fix.commands[0].startswith("ping -M do -c 3 -s 8972 10.0.0.4")


def rates(count: int, *slow: tuple[int, int], rate: float = GIGABIT, **more) -> Links:
    return links(count, *(way(*ends, bytes_per_second=rate, **more) for ends in slow))


def around(number: int, count: int) -> list[tuple[int, int]]:
    others = [n for n in range(1, count + 1) if n != number]
    return [ends for other in others for ends in ((number, other), (other, number))]


def machines(count: int, speed: int = 10_000, **more):
    """Nodes whose interface tells this speed."""
    return nodes(
        count,
        {
            n: (network(card(ip=f"10.0.0.{n}", speed_mbps=speed, **more)),)
            for n in range(1, count + 1)
        },
    )


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_equally_fast(count):
    finding = THROUGHPUT(links(count), machines(count), None)

    assert finding.status is Status.PASS
    assert finding.summary == "9.36 Gb/s to 9.36 Gb/s between two nodes over TCP"


@pytest.mark.parametrize(
    ("found", "there", "status", "owner", "says", "blamed"),
    [
        pytest.param(
            rates(8, *around(7, 8)),
            machines(8),
            Status.FAIL,
            "node",
            "n7 reaches 936 Mb/s, others 9.36 Gb/s",
            ("n7",),
            id="a tenth",
        ),
        pytest.param(
            rates(8, *around(7, 8), rate=6e8),
            machines(8),
            Status.WARN,
            "node",
            "n7 reaches 4.8 Gb/s, others 9.36 Gb/s",
            ("n7",),
            id="half",
        ),
        pytest.param(
            rates(8, *((n, 7) for n in range(1, 9) if n != 7), rate=6e8),
            machines(8),
            Status.WARN,
            "node",
            "n7 reaches 4.8 Gb/s",
            ("n7",),
            id="only towards it",
        ),
        pytest.param(
            rates(8, (2, 5), (5, 2), rate=3e8),
            machines(8),
            Status.WARN,
            "network",
            "between n2 and n5 26% of what other pairs reach, 9.36 Gb/s",
            (),
            id="one link",
        ),
        pytest.param(
            rates(2, (1, 2), (2, 1)),
            machines(2),
            Status.WARN,
            None,
            "n1 -> n2: 936 Mb/s, 9% of eth0's 10 Gb/s",
            (),
            id="two nodes, far below their cards",
        ),
        pytest.param(
            rates(2, (1, 2), (2, 1), rate=1.1e7),
            machines(2, kind="veth", limit_mbps=100.0),
            Status.PASS,
            None,
            "88 Mb/s",
            (),
            id="healthy: as much as traffic control leaves",
        ),
        pytest.param(
            rates(2, (1, 2), (2, 1)),
            machines(2, kind="veth"),
            Status.PASS,
            None,
            "936 Mb/s",
            (),
            id="healthy: a container's cable tells nothing",
        ),
        pytest.param(
            rates(2, (1, 2), (2, 1)),
            machines(2, driver="vmxnet3"),
            Status.PASS,
            None,
            "936 Mb/s",
            (),
            id="healthy: nor does a virtual card",
        ),
        pytest.param(
            links(2, way(1, 2), way(2, 1)),
            machines(2, speed=100_000),
            Status.PASS,
            None,
            "9.36 Gb/s",
            (),
            id="healthy: one CPU does not fill 100 Gb/s",
        ),
        pytest.param(
            rates(8, *around(7, 8), rate=3e8),
            machines(8, kind="veth"),
            Status.PASS,
            None,
            "2.4 Gb/s to 9.36",
            (),
            id="healthy: virtual wires, and busy CPUs",
        ),
        pytest.param(
            rates(8, *around(7, 8), rate=6e8),
            machines(8, speed=100_000),
            Status.PASS,
            None,
            "4.8 Gb/s to 9.36",
            (),
            id="healthy: CPUs that do not fill 100 Gb/s",
        ),
        pytest.param(
            rates(8, *around(7, 8), rate=1.1e7),
            machines(8, kind="veth"),
            Status.FAIL,
            "node",
            "n7 reaches 88 Mb/s, others 9.36 Gb/s",
            ("n7",),
            id="a virtual wire of 100 Mb/s",
        ),
        pytest.param(
            rates(8, *around(7, 8), rate=9e8),
            machines(8),
            Status.PASS,
            None,
            "7.2 Gb/s to 9.36",
            (),
            id="healthy: a little slower",
        ),
        pytest.param(
            links(4, *(failing(4, n, "ECONNRESET", "throughput") for n in (1, 2, 3))),
            machines(4),
            Status.FAIL,
            "node",
            "n4 gets no stream through to 3 nodes: reset",
            ("n4",),
            id="it breaks under load",
        ),
        pytest.param(
            links(2, *(way(a, b, bytes_per_second=None) for a, b in ((1, 2), (2, 1)))),
            machines(2),
            Status.SKIP,
            None,
            "throughput was not measured",
            (),
            id="not measured",
        ),
        pytest.param(Links(), None, Status.SKIP, None, "--cluster", (), id="nothing tried"),
    ],
)
def test_throughput(found, there, status, owner, says, blamed):
    finding = THROUGHPUT(found, there, None)

    assert (finding.status, finding.owner) == (status, owner), finding.summary
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80
    assert finding.nodes == blamed


def test_segments_that_were_sent_again_are_told():
    finding = THROUGHPUT(rates(8, *around(7, 8), retransmits=4711), machines(8), None)

    assert "0.936" not in finding.evidence[0]
    assert "4711 segments sent again" in finding.evidence[0]
