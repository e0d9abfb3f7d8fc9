"""Which address the others measure: the one that the job's data takes."""

import pytest

from gpudoctor import (
    Address,
    Attempt,
    Devices,
    Environment,
    Interface,
    Master,
    Names,
    Network,
    Route,
    Snapshot,
)
from gpudoctor.cluster.links.address import own_addresses


def interface(index, name, ip, kind="physical", **more):
    addresses = (Address(ip=ip, prefix=64 if ":" in ip else 24),)
    given = {"up": True, "running": True, "addresses": addresses, **more}
    return Interface(index=index, name=name, kind=kind, **given)


LO = interface(1, "lo", "127.0.0.1", "loopback", mtu=65536)
DOCKER = interface(2, "docker0", "172.17.0.1", "bridge")
ETH0 = interface(3, "eth0", "10.0.0.1", speed_mbps=1000)
ETH1 = interface(4, "eth1", "10.1.0.1", speed_mbps=100_000, mtu=9000, limit_mbps=500.0)
SIX = interface(5, "eth2", "fd00::1")
OFF = interface(6, "eth3", "10.3.0.1", up=False, running=False)
LOCAL = interface(
    7, "eth4", "10.4.0.1", addresses=(Address(ip="fe80::1", prefix=64, scope="link"),)
)
OUT = (Route(destination="0.0.0.0/0", interface="eth0", gateway="10.0.0.254"),)
GPUS = Devices(nvidia=(0,))
TO_ETH1 = Master(
    name="m",
    port=1,
    addresses=("10.1.0.9",),
    attempts=(Attempt(ip="10.1.0.9", interface="eth1", source="10.1.0.1"),),
)


def first(*facts, interfaces=(LO, DOCKER, ETH0, ETH1), routes=OUT):
    network = Network(interfaces=interfaces, routes=routes)
    return own_addresses(Snapshot("a").replace(network, *facts))


@pytest.mark.parametrize(
    ("facts", "ip"),
    [
        pytest.param((), "10.0.0.1", id="nothing known: the way out"),
        pytest.param((TO_ETH1,), "10.1.0.1", id="the way to the master"),
        pytest.param(
            (Names(hostname="a", addresses=("10.1.0.1",)),), "10.1.0.1", id="gloo: the hostname's"
        ),
        pytest.param(
            (Names(hostname="a", addresses=("127.0.1.1",)),),
            "10.0.0.1",
            id="gloo on the loopback: nobody reaches that",
        ),
        pytest.param(
            (Environment(values={"GLOO_SOCKET_IFNAME": "eth1"}),), "10.1.0.1", id="gloo: its name"
        ),
        pytest.param(
            (Environment(values={"NCCL_SOCKET_IFNAME": "eth1"}),), "10.1.0.1", id="NCCL: its name"
        ),
        pytest.param(
            (Environment(values={"NCCL_SOCKET_IFNAME": "docker"}), TO_ETH1),
            "172.17.0.1",
            id="NCCL: a bad choice is measured",
        ),
        pytest.param(
            (Environment(values={"NCCL_SOCKET_IFNAME": "ib0"}), TO_ETH1),
            "10.1.0.1",
            id="NCCL: no such interface",
        ),
        pytest.param((GPUS,), "10.0.0.1", id="NCCL: its own choice"),
    ],
)
def test_first_address(facts, ip):
    found = first(*facts)

    assert found[0].ip == ip
    assert {own.ip for own in found} == {"172.17.0.1", "10.0.0.1", "10.1.0.1"}


def test_what_others_cannot_reach_is_left_out():
    found = first(interfaces=(LO, OFF, LOCAL, ETH1, SIX), routes=())

    assert [(own.ip, own.interface) for own in found] == [("10.1.0.1", "eth1"), ("fd00::1", "eth2")]
    assert (found[0].mtu, found[0].speed_mbps) == (9000, 500)


def test_nodes_of_one_machine_without_a_network():
    assert [own.ip for own in first(interfaces=(LO,), routes=())] == ["127.0.0.1"]


def test_network_not_known():
    assert own_addresses(Snapshot("a")) == ()
