"""checks/cluster/interface.py: interfaces of nodes -> status, words, blame."""

import pytest

from gpudoctor import (
    Devices,
    Environment,
    EnvSet,
    Names,
    NcclFile,
    NcclSettings,
    Nodes,
    Status,
)
from gpudoctor.registry import get
from gpudoctor.snapshot import Snapshot
from tests.cluster_machines import card, network, node, nodes, system

CHECK = get("cluster-interface")
NO_GPUS = Devices()


def told(**values: str) -> Environment:
    return Environment(values=values)


def bridge(ip: str = "172.17.0.1"):
    return card("br-1a2b", ip, kind="bridge", speed_mbps=None)


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_one_network(count):
    finding = CHECK(nodes(count))

    assert finding.status is Status.PASS
    assert finding.summary == f"NCCL takes eth0 on {'n[1-' + str(count) + ']'}"


@pytest.mark.parametrize(
    ("found", "status", "says", "blamed"),
    [
        pytest.param(
            nodes(
                8,
                {
                    n: (
                        told(NCCL_SOCKET_IFNAME="eth0"),
                        network(card("ens3" if n == 7 else "eth0", f"10.0.0.{n}")),
                    )
                    for n in range(1, 9)
                },
            ),
            Status.FAIL,
            "NCCL finds no interface on n7: Bootstrap : no socket interface found",
            ("n7",),
            id="one word, two names",
        ),
        pytest.param(
            nodes(
                8,
                {
                    n: (
                        NcclSettings(
                            files=(
                                NcclFile(
                                    path="/etc/nccl.conf", values={"NCCL_SOCKET_IFNAME": "eth0"}
                                ),
                            )
                        ),
                        network(card("ens3" if n == 7 else "eth0", f"10.0.0.{n}")),
                    )
                    for n in range(1, 9)
                },
            ),
            Status.FAIL,
            "NCCL finds no interface on n7",
            ("n7",),
            id="said in NCCL's own file",
        ),
        pytest.param(
            nodes(
                8,
                {
                    n: (
                        NO_GPUS,
                        told(GLOO_SOCKET_IFNAME="eth0"),
                        network(card("ens3" if n == 7 else "eth0", f"10.0.0.{n}")),
                    )
                    for n in range(1, 9)
                },
            ),
            Status.FAIL,
            "gloo finds no interface on n7: Unable to find address for: eth0",
            ("n7",),
            id="gloo",
        ),
        pytest.param(
            nodes(
                4,
                {
                    n: (
                        NO_GPUS,
                        system(f"n{n}"),
                        Names(hostname=f"n{n}", addresses=("127.0.1.1",)),
                    )
                    for n in range(1, 5)
                },
            ),
            Status.FAIL,
            "gloo takes the loopback on n[1-4]",
            (),
            id="Debian's hosts file everywhere",
        ),
        pytest.param(
            nodes(
                4,
                {
                    n: (
                        NO_GPUS,
                        Names(
                            hostname=f"n{n}", addresses=("127.0.1.1" if n == 3 else f"10.0.0.{n}",)
                        ),
                    )
                    for n in range(1, 5)
                },
            ),
            Status.FAIL,
            "gloo takes the loopback on n3",
            ("n3",),
            id="Debian's hosts file on one",
        ),
        pytest.param(
            nodes(
                4,
                {
                    n: (network(bridge(), card("eth0", f"10.0.0.{n}"), leads="eth0"),)
                    for n in range(1, 5)
                },
            ),
            Status.FAIL,
            "NCCL takes 172.17.0.1 on n[1-4]: each its own",
            (),
            id="the same bridge everywhere",
        ),
        pytest.param(
            nodes(
                8,
                {3: (network(bridge("192.168.5.3"), card("eth0", "10.0.0.3"), leads="eth0"),)},
            ),
            Status.WARN,
            "NCCL takes br-1a2b (192.168.5.3) on n3, others one in 10.0.0.0/24",
            ("n3",),
            id="one takes another network",
        ),
        pytest.param(
            nodes(8, {7: (network(card("ens3", "10.0.0.7")),)}),
            Status.PASS,
            "NCCL takes eth0 on n[1-6,8]; ens3 on n7",
            (),
            id="healthy: another name, and nobody says one",
        ),
        pytest.param(
            nodes(
                8,
                {
                    n: (
                        told(NCCL_SOCKET_IFNAME="ens3" if n == 7 else "eth0"),
                        network(card("ens3" if n == 7 else "eth0", f"10.0.0.{n}")),
                    )
                    for n in range(1, 9)
                },
            ),
            Status.PASS,
            "eth0 on n[1-6,8]; ens3 on n7",
            (),
            id="healthy: each node is told its own",
        ),
        pytest.param(
            nodes(4, {n: (network(card(ip=f"10.0.{n}.1")),) for n in range(1, 5)}),
            Status.PASS,
            "NCCL takes eth0 on n[1-4]",
            (),
            id="healthy: each rack its own network",
        ),
        pytest.param(
            nodes(
                2,
                {n: (network(card(ip="10.0.0.1")), system("build-host")) for n in (1, 2)},
            ),
            Status.PASS,
            "NCCL takes eth0 on n[1-2]",
            (),
            id="healthy: two agents on one machine",
        ),
        pytest.param(
            nodes(
                2,
                {
                    n: (
                        NO_GPUS,
                        system("build-host"),
                        Names(hostname="build-host", addresses=("127.0.0.1",)),
                    )
                    for n in (1, 2)
                },
            ),
            Status.PASS,
            "gloo takes lo on n[1-2]",
            (),
            id="healthy: two agents on one machine, by the loopback",
        ),
        pytest.param(
            nodes(8, {7: (network(card(ip="10.0.0.7", speed_mbps=10_000)),)}),
            Status.WARN,
            "link speed 10 Gb/s on n7, 100 Gb/s on 7 others",
            ("n7",),
            id="a slower link",
        ),
        pytest.param(nodes(1), Status.SKIP, "on every node", (), id="one node"),
        pytest.param(
            Nodes(snapshots=(node(1), Snapshot("n2"))),
            Status.SKIP,
            "fewer than two nodes",
            (),
            id="not known",
        ),
    ],
)
def test_choice(found, status, says, blamed):
    finding = CHECK(found)

    assert finding.status is status, finding.summary
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80
    assert finding.nodes == blamed


def test_the_fix_names_what_every_node_has():
    """NCCL takes a list of exact names, of which each node has one."""
    found = nodes(
        4,
        {
            n: (
                told(NCCL_SOCKET_IFNAME="eth0"),
                network(card("ens3" if n == 3 else "eth0", f"10.0.0.{n}")),
            )
            for n in range(1, 5)
        },
    )

    assert CHECK(found).fix.settings == (EnvSet("NCCL_SOCKET_IFNAME", "=ens3,eth0"),)


def test_gloo_is_told_on_each_node():
    """gloo wants every name in its list to be there."""
    found = nodes(
        4,
        {
            n: (
                NO_GPUS,
                told(GLOO_SOCKET_IFNAME="eth0"),
                network(card("ens3" if n == 3 else "eth0", f"10.0.0.{n}")),
            )
            for n in range(1, 5)
        },
    )

    assert "export GLOO_SOCKET_IFNAME=ens3  # on n3" in CHECK(found).fix.commands
