"""checks/net/links.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Address,
    Attempt,
    EnvSet,
    Interface,
    Master,
    Network,
    NetworkSettings,
    Rdma,
    RdmaDevice,
    RdmaPort,
    Route,
    Status,
    Workload,
)
from gpudoctor.registry import get

ONE = Workload()
TWO = Workload().told({"nodes": 2}, "--nnodes")


def card(name: str = "eth0", ip: str = "10.0.0.1", **more) -> Interface:
    addresses = (Address(ip=ip, prefix=24),) if ip else ()
    usual = {"index": 2, "kind": "physical", "up": True, "running": True, "addresses": addresses}
    return Interface(**{**usual, "name": name, **more})


LOOPBACK = card("lo", kind="loopback", mtu=65536, addresses=())


def network(*interfaces: Interface, leads: str = "", **more) -> Network:
    """Interfaces, the first of which leads outside, if not another is named."""
    leads = leads or interfaces[0].name
    default = Route(destination="0.0.0.0/0", interface=leads, gateway="10.0.0.254")
    numbered = {"interfaces": (LOOPBACK, *interfaces), "routes": (default,)}
    return Network(**{**numbered, **more})


def master(interface: str = "eth0", **more) -> Master:
    attempt = Attempt(ip="10.0.0.2", interface=interface, path_mtu=None, **more)
    return Master(name="10.0.0.2", port=29500, addresses=("10.0.0.2",), attempts=(attempt,))


RDMA = Rdma(
    devices=(
        RdmaDevice(
            name="mlx5_0", ports=(RdmaPort(number=1, state="ACTIVE", link_layer="InfiniBand"),)
        ),
    )
)
RDMA_DOWN = Rdma(
    devices=(
        RdmaDevice(
            name="mlx5_0", ports=(RdmaPort(number=1, state="DOWN", link_layer="InfiniBand"),)
        ),
    )
)
FAST = card(speed_mbps=100_000, duplex="full", driver="mlx5_core", packets=10**9, errors=3)
GIGABIT = card(speed_mbps=1000, duplex="full", driver="tg3")
HUNDRED = card(speed_mbps=100, duplex="full")
VIRTUAL = card(driver="virtio_net")


@pytest.mark.parametrize(
    ("found", "job", "rdma", "status", "says"),
    [
        pytest.param(network(FAST), TWO, None, Status.PASS, "eth0: 100 Gb/s", id="healthy"),
        pytest.param(
            network(GIGABIT), ONE, None, Status.SKIP, "--nnodes 2", id="healthy: one node"
        ),
        pytest.param(network(VIRTUAL), TWO, None, Status.SKIP, "virtio_net", id="healthy: a VM"),
        pytest.param(network(GIGABIT), TWO, None, Status.WARN, "eth0: 1 Gb/s", id="1 Gb/s"),
        pytest.param(
            network(GIGABIT), TWO, RDMA, Status.PASS, "RDMA", id="healthy: 1 Gb/s beside RDMA"
        ),
        pytest.param(
            network(GIGABIT), TWO, RDMA_DOWN, Status.WARN, "1 Gb/s", id="1 Gb/s, RDMA is down"
        ),
        pytest.param(
            network(card(speed_mbps=10_000)), TWO, None, Status.PASS, "10 Gb/s", id="just enough"
        ),
        pytest.param(network(HUNDRED), TWO, None, Status.FAIL, "100 Mb/s", id="100 Mb/s"),
        pytest.param(
            network(card(speed_mbps=10, duplex="half")),
            TWO,
            RDMA,
            Status.FAIL,
            "10 Mb/s, half duplex",
            id="10 Mb/s, even beside RDMA",
        ),
        pytest.param(
            network(card(speed_mbps=1000, duplex="half")),
            TWO,
            None,
            Status.FAIL,
            "half duplex",
            id="half duplex",
        ),
        pytest.param(
            network(card(speed_mbps=25_000, errors=50_000, packets=10**8)),
            TWO,
            None,
            Status.WARN,
            "50000 of 100000000 frames",
            id="a bad cable",
        ),
        pytest.param(
            network(card(speed_mbps=25_000, errors=50, packets=100)),
            TWO,
            None,
            Status.PASS,
            "25 Gb/s",
            id="healthy: a few errors when it came up",
        ),
        pytest.param(
            network(
                card("bond0", kind="bond", speed_mbps=25_000, below=("eth0", "eth1")),
                card("eth0", ip="", above=("bond0",)),
                card("eth1", ip="", above=("bond0",), running=False),
            ),
            TWO,
            None,
            Status.WARN,
            "bond0 runs without eth1",
            id="a bond that lost a link",
        ),
        pytest.param(
            network(
                card("bond0", kind="bond", speed_mbps=50_000, below=("eth0", "eth1")),
                card("eth0", ip="", above=("bond0",)),
                card("eth1", ip="", above=("bond0",)),
            ),
            TWO,
            None,
            Status.PASS,
            "bond0: 50 Gb/s",
            id="healthy: a bond",
        ),
        pytest.param(
            network(
                card("br0", kind="bridge", below=("eth0", "tap0")),
                card("tap0", ip="", kind="tun"),
                card("eth0", ip="", speed_mbps=100),
            ),
            TWO,
            None,
            Status.FAIL,
            "eth0: 100 Mb/s",
            id="the card of a bridge",
        ),
        pytest.param(
            network(
                card("eth0.7", kind="vlan", below=("eth0",)), card("eth0", ip="", speed_mbps=25_000)
            ),
            TWO,
            None,
            Status.PASS,
            "eth0: 25 Gb/s",
            id="healthy: a VLAN",
        ),
        pytest.param(
            network(card(kind="veth")), TWO, None, Status.SKIP, "veth", id="healthy: a pod"
        ),
        pytest.param(
            network(card(kind="veth", limit_mbps=10.0)),
            TWO,
            None,
            Status.FAIL,
            "eth0 is limited to 10 Mb/s by traffic control",
            id="10 Mb/s by traffic control",
        ),
        pytest.param(
            network(card(limit_mbps=2500.0)),
            TWO,
            None,
            Status.WARN,
            "limited to 2.5 Gb/s",
            id="2.5 Gb/s by traffic control",
        ),
        pytest.param(
            network(card(speed_mbps=25_000, limit_mbps=10.0)),
            TWO,
            RDMA,
            Status.PASS,
            "RDMA",
            id="healthy: traffic control does not see RDMA",
        ),
        pytest.param(
            network(card(speed_mbps=100_000, limit_mbps=40_000.0)),
            TWO,
            None,
            Status.PASS,
            "100 Gb/s",
            id="healthy: a limit that is wide enough",
        ),
        pytest.param(Network(interfaces=(LOOPBACK,)), TWO, None, Status.SKIP, "", id="no network"),
    ],
)
def test_link(found, job, rdma, status, says):
    finding = get("net-link")(found, job, None, rdma, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_link_is_that_to_the_master():
    both = network(FAST, card("eth1", "10.1.0.1", speed_mbps=100))

    assert get("net-link")(both, TWO, None, None, None).status is Status.PASS
    assert get("net-link")(both, TWO, master("eth1"), None, None).status is Status.FAIL


def test_link_names_the_fast_one_beside_it():
    both = network(GIGABIT, card("eth1", "10.1.0.1", speed_mbps=100_000))

    fix = get("net-link")(both, TWO, None, None, None).fix

    assert "eth1 (100 Gb/s)" in fix.text
    assert EnvSet("NCCL_SOCKET_IFNAME", "=eth1") in fix.settings


WIRELESS = card("wlan0", kind="wireless", driver="iwlwifi")


@pytest.mark.parametrize(
    ("found", "job", "status", "says"),
    [
        pytest.param(network(WIRELESS), TWO, Status.WARN, "wlan0 leads", id="wireless alone"),
        pytest.param(
            network(WIRELESS, card("eth0", "10.1.0.1")),
            TWO,
            Status.WARN,
            "wlan0 leads",
            id="wireless leads, a cable is there",
        ),
        pytest.param(network(WIRELESS), ONE, Status.SKIP, "one node", id="healthy: a laptop"),
        pytest.param(
            network(card(), WIRELESS), TWO, Status.PASS, "eth0 leads", id="healthy: cable leads"
        ),
        pytest.param(
            network(
                card("br0", kind="bridge", below=("wlan0",)), card("wlan0", "", kind="wireless")
            ),
            TWO,
            Status.WARN,
            "br0 leads",
            id="wireless under a bridge",
        ),
        pytest.param(Network(interfaces=(LOOPBACK,)), TWO, Status.SKIP, "", id="no network"),
    ],
)
def test_wireless(found, job, status, says):
    finding = get("net-wireless")(found, job, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_wireless_points_to_the_cable():
    fix = get("net-wireless")(network(WIRELESS, card("eth0", "10.1.0.1")), TWO, None).fix

    assert fix.settings == (
        EnvSet("NCCL_SOCKET_IFNAME", "=eth0"),
        EnvSet("GLOO_SOCKET_IFNAME", "eth0"),
    )


@pytest.mark.parametrize(
    ("found", "meets", "status", "says"),
    [
        pytest.param(network(card()), None, Status.PASS, "MTU 1500", id="healthy"),
        pytest.param(network(card(mtu=1400)), None, Status.PASS, "1400", id="healthy: a cloud"),
        pytest.param(
            network(card(mtu=9000)), master(peer_mtu=9000), Status.PASS, "9000", id="both jumbo"
        ),
        pytest.param(
            network(card(mtu=9000)),
            master(peer_mtu=1500),
            Status.WARN,
            "eth0 has MTU 9000, 10.0.0.2 has 1500",
            id="the other end has less",
        ),
        pytest.param(
            network(card()), master(peer_mtu=1400), Status.WARN, "10.0.0.2 has 1400", id="VPN there"
        ),
        pytest.param(
            network(card(mtu=9000)),
            master(peer_mtu=1500, gateway="10.0.0.254"),
            Status.PASS,
            "",
            id="healthy: a router in between tells",
        ),
        pytest.param(
            network(card(mtu=65520, kind="infiniband")),
            master(peer_mtu=32800),
            Status.PASS,
            "",
            id="healthy: larger than TCP's first window",
        ),
        pytest.param(
            network(card("eth0.7", kind="vlan", mtu=9000, below=("eth0",)), card(ip="")),
            None,
            Status.WARN,
            "eth0.7 sends 9000 bytes, eth0 takes 1500",
            id="a VLAN wider than its card",
        ),
        pytest.param(
            network(card("vxlan7", kind="tunnel", below=("eth0",)), card(ip=""), leads="vxlan7"),
            master("vxlan7"),
            Status.WARN,
            "vxlan7 sends 1500 bytes, eth0 takes 1480",
            id="no room for a tunnel's header",
        ),
        pytest.param(
            network(card("vxlan7", kind="tunnel", mtu=1450, below=("eth0",)), card(ip="")),
            master("vxlan7"),
            Status.PASS,
            "1450",
            id="healthy: room for VXLAN's header",
        ),
        pytest.param(
            network(
                card("br0", kind="bridge", mtu=9000, below=("eth0", "tap0")),
                card(ip="", mtu=9000),
                card("tap0", ip="", kind="tun"),
            ),
            None,
            Status.PASS,
            "br0 has MTU 9000",
            id="healthy: a virtual machine on the bridge takes less",
        ),
        pytest.param(network(card(mtu=576)), None, Status.WARN, "576 bytes", id="tiny"),
        pytest.param(Network(interfaces=(LOOPBACK,)), None, Status.SKIP, "", id="no network"),
    ],
)
def test_mtu(found, meets, status, says):
    finding = get("net-mtu")(found, TWO, meets)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_mtu_of_one_node_does_not_matter():
    assert get("net-mtu")(network(card(mtu=576)), ONE, None).status is Status.SKIP


def test_mtu_to_set_is_the_smaller_one():
    finding = get("net-mtu")(network(card(mtu=9000)), TWO, master(peer_mtu=1500))

    assert finding.fix.commands == ("sudo ip link set eth0 mtu 1500",)


STRICT = NetworkSettings(rp_filter_all=1)
LOOSE = NetworkSettings(rp_filter_all=2)
OFF = NetworkSettings(rp_filter_all=0)


def rails(*filters: int | None, **more) -> Network:
    cards = [card(f"eth{n}", f"10.0.0.{n + 1}", rp_filter=f) for n, f in enumerate(filters)]
    return network(*cards, **more)


@pytest.mark.parametrize(
    ("found", "settings", "job", "status", "says"),
    [
        pytest.param(
            rails(0, 0), STRICT, TWO, Status.WARN, "eth0 and eth1 are in 10.0.0.0/24", id="strict"
        ),
        pytest.param(rails(0, 1), OFF, TWO, Status.WARN, "strict", id="strict on one of them"),
        pytest.param(rails(1, 1), LOOSE, TWO, Status.PASS, "not strict", id="loose for all"),
        pytest.param(rails(2, 2), STRICT, TWO, Status.PASS, "not strict", id="loose on each"),
        pytest.param(rails(0, 0), OFF, TWO, Status.PASS, "not strict", id="off"),
        pytest.param(rails(1, 1), STRICT, ONE, Status.SKIP, "one node", id="healthy: one node"),
        pytest.param(rails(1), STRICT, TWO, Status.PASS, "no two", id="healthy: one interface"),
        pytest.param(
            rails(1, 1, own_rules=2), STRICT, TWO, Status.PASS, "2 rules", id="healthy: own routing"
        ),
        pytest.param(
            network(card(rp_filter=1), card("eth1", "10.1.0.1", rp_filter=1)),
            STRICT,
            TWO,
            Status.PASS,
            "no two",
            id="healthy: a subnet each",
        ),
        pytest.param(
            network(card(rp_filter=1), card("docker0", "10.0.0.9", kind="bridge", rp_filter=1)),
            STRICT,
            TWO,
            Status.PASS,
            "no two",
            id="healthy: a bridge is no rail",
        ),
        pytest.param(
            rails(None, None), OFF, TWO, Status.SKIP, "cannot be read", id="/proc/sys is not there"
        ),
    ],
)
def test_rp_filter(found, settings, job, status, says):
    finding = get("net-rp-filter")(found, settings, job)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_rp_filter_counts_two_addresses_of_one_interface_once():
    two = card(addresses=(Address(ip="10.0.0.1", prefix=24), Address(ip="10.0.0.9", prefix=24)))

    assert get("net-rp-filter")(network(two), STRICT, TWO).status is Status.PASS
