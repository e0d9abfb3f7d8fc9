"""addresses.py: which of a machine's addresses a fix names."""

import pytest

from gpudoctor import Network
from gpudoctor.facts.network import Address, Interface, Route
from gpudoctor.rules.addresses import is_loopback, outward, subnet, within


def interface(index, name, kind, ip, *, running=True, scope="global"):
    address = Address(ip=ip, prefix=64 if ":" in ip else 24, scope=scope)
    return Interface(
        index=index, name=name, kind=kind, up=True, running=running, addresses=(address,)
    )


LO = interface(1, "lo", "loopback", "127.0.0.1", scope="host")
DOCKER0 = interface(2, "docker0", "bridge", "172.17.0.1")
ETH0 = interface(3, "eth0", "physical", "10.0.0.7")
ETH1 = interface(4, "eth1", "physical", "10.1.0.7")
DOWN = interface(5, "eth2", "physical", "10.2.0.7", running=False)
VPN = interface(6, "tun0", "tun", "10.8.0.1")
SIX = interface(7, "eth3", "physical", "fd00::7")


def default(name, metric=0):
    return Route(destination="0.0.0.0/0", interface=name, metric=metric)


@pytest.mark.parametrize(
    ("interfaces", "routes", "towards", "name"),
    [
        pytest.param([LO], [], "", None, id="loopback alone"),
        pytest.param([LO, DOCKER0, ETH0], [], "", "eth0", id="no default route"),
        pytest.param([LO, ETH0, ETH1], [default("eth1")], "", "eth1", id="default route"),
        pytest.param(
            [LO, ETH0, ETH1], [default("eth0", 600), default("eth1", 100)], "", "eth1", id="metric"
        ),
        pytest.param([LO, ETH0, ETH1], [default("eth0")], "eth1", "eth1", id="way known"),
        pytest.param([LO, VPN, ETH0], [default("tun0")], "", "eth0", id="by the VPN"),
        pytest.param([LO, DOWN, ETH0], [], "", "eth0", id="one without carrier"),
        pytest.param([LO, DOWN], [], "", "eth2", id="none has carrier yet"),
        pytest.param([LO, SIX], [], "", "eth3", id="IPv6 only"),
    ],
)
def test_outward(interfaces, routes, towards, name):
    found = outward(Network(interfaces=tuple(interfaces), routes=tuple(routes)), towards)

    assert (found[0].name if found else None) == name


def test_outward_of_an_unknown_network():
    assert outward(None) is None


@pytest.mark.parametrize(
    ("ip", "found"),
    [("10.0.0.7", "10.0.0.0/24"), ("fd00::7", "fd00::/64"), ("192.0.2.1", "192.0.2.1")],
)
def test_subnet(ip, found):
    assert subnet(Network(interfaces=(ETH0, SIX)), ip) == found


@pytest.mark.parametrize(
    ("ip", "yes"),
    [
        ("127.0.1.1", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("fd00::1", False),
    ],
)
def test_is_loopback(ip, yes):
    assert is_loopback(ip) is yes


@pytest.mark.parametrize(
    ("ip", "network", "yes"),
    [
        ("10.0.0.7", "10.0.0.0/8", True),
        ("10.0.0.7", "0.0.0.0/0", True),
        ("10.0.0.7", "10.1.0.0/16", False),
        ("10.0.0.7", "::/0", False),
        ("fe80::1%eth0", "fe80::/64", True),
    ],
)
def test_within(ip, network, yes):
    assert within(ip, network) is yes
