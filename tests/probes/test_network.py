"""probes/netlink.py on what a kernel answered, and probes/network.py on this machine."""

import json
import os
import struct
from pathlib import Path

import pytest

from gpudoctor import Absent, Machine, Network, NetworkSettings
from gpudoctor.probes import netlink
from gpudoctor.probes.network import network, network_settings

RECORDED = Path(__file__).parent / "recorded/network/netlink.json"


@pytest.fixture(scope="module")
def answers() -> dict[str, list[bytes]]:
    """What Linux 6.18 said in a namespace of the lab."""
    recorded = json.loads(RECORDED.read_text())
    return {what: [bytes.fromhex(line) for line in lines] for what, lines in recorded.items()}


@pytest.fixture(scope="module")
def links(answers):
    return {found.name: found for found in map(netlink.link, answers["links"])}


def test_links(links):
    shown = {name: (link.kind, link.mtu) for name, link in links.items()}

    assert shown == {
        "lo": ("", 65536),
        "eth0": ("veth", 9000),
        "docker0": ("bridge", 1500),
        "veth0": ("veth", 1500),
        "tun0": ("tun", 1500),
        "vx0": ("vxlan", 1450),
        "mv0": ("macvlan", 9000),
    }


def test_a_part_and_what_it_is_part_of(links):
    assert links["veth0"].master == links["docker0"].ifindex
    assert links["mv0"].parent == links["eth0"].ifindex


def test_the_other_end_of_a_veth_is_elsewhere(links):
    assert links["eth0"].parent == 0


def test_counters(links):
    assert links["eth0"].errors == 0
    assert links["eth0"].packets > 0
    assert links["lo"].carrier_changes == 0


def test_addresses(answers, links):
    names = {link.ifindex: link.name for link in links.values()}
    found = filter(None, (netlink.address(body, names) for body in answers["addresses"]))
    shown = [(names[index], a.ip, a.prefix, a.scope, a.label) for index, a in found]

    assert ("lo", "127.0.0.1", 8, "host", "") in shown
    assert ("eth0", "10.77.0.1", 24, "global", "") in shown
    assert ("eth0", "10.77.0.9", 24, "global", "eth0:1") in shown
    assert ("eth0", "fd00::1", 64, "global", "") in shown
    assert [scope for name, ip, _, scope, _ in shown if name == "tun0" and ":" in ip] == ["link"]


@pytest.mark.parametrize(
    ("destination", "gateway", "kind", "metric"),
    [
        pytest.param("0.0.0.0/0", "10.77.0.254", "unicast", 100, id="default"),
        pytest.param("::/0", "fd00::ff", "unicast", 1024, id="default of IPv6"),
        pytest.param("10.77.0.0/24", "", "unicast", 0, id="the link itself"),
        pytest.param("10.50.0.0/16", "10.77.0.2", "unicast", 0, id="several ways"),
        pytest.param("10.60.0.0/16", "fd00::2", "unicast", 0, id="by a gateway of IPv6"),
        pytest.param("10.99.0.0/24", "", "blackhole", 0, id="blackhole"),
        pytest.param("10.98.0.0/24", "", "prohibit", 0, id="prohibit"),
    ],
)
def test_routes(answers, links, destination, gateway, kind, metric):
    found = [route for route in map(netlink.route, answers["routes"]) if route]
    (route, *more) = [route for route in found if route.destination == destination]

    assert (route.gateway, route.kind, route.metric) == (gateway, kind, metric)
    assert (route.interface == links["eth0"].ifindex) == (kind == "unicast")
    assert not more, "routes of other tables are not those of everybody"


def test_rules_that_somebody_added(answers):
    assert [netlink.is_own_rule(body) for body in answers["rules"]].count(True) == 1


def test_limits_of_traffic_control(answers):
    found = dict(filter(None, map(netlink.limit, answers["queues"])))

    assert found == {2: 10.0, 3: 40_000.0}, "the third has a queue without a limit"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x10\0\0", id="half a header"),
        pytest.param(b"\x40" + bytes(15), id="longer than there is"),
        pytest.param(bytes(16), id="shorter than its header"),
    ],
)
def test_what_are_no_messages(data):
    with pytest.raises(OSError, match="cut short"):
        list(netlink.messages(data))


def test_attributes_that_make_no_sense_end_the_list():
    assert netlink.attributes(b"\x05\0\x03\0x\0\0\0" + b"\x01\0\x04\0") == {3: b"x"}


def test_this_machine():
    found = network(Machine())

    assert isinstance(found, Network)
    loopback = found.interface("lo")
    assert loopback.kind == "loopback"
    assert found.holder_of("127.0.0.1") in (loopback, None)
    assert {i.name for i in found.interfaces} >= set(os.listdir("/sys/class/net")) - {
        "bonding_masters"
    }


def test_a_tree_seen_from_elsewhere_has_no_interfaces(tmp_path):
    assert isinstance(network(Machine(str(tmp_path))), Absent)


def test_settings(tmp_path):
    files = {
        "net/ipv4/ip_local_port_range": "50000\t51000\n",
        "net/ipv4/conf/all/rp_filter": "2\n",
        "net/netfilter/nf_conntrack_max": "262144\n",
    }
    for path, text in files.items():
        file = tmp_path / "proc/sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    found = network_settings(Machine(str(tmp_path)))

    assert isinstance(found, NetworkSettings)
    assert (found.port_low, found.port_high) == (50000, 51000)
    assert found.rp_filter_all == 2
    assert found.conntrack_max == 262144
    assert found.somaxconn is None


@pytest.mark.parametrize(
    ("state", "found"),
    [
        pytest.param(0x01, (3, "10.77.0.9"), id="asked just now"),
        pytest.param(0x20, (3, "10.77.0.9"), id="failed"),
        pytest.param(0x02, None, id="reachable"),
        pytest.param(0x04, None, id="was reachable"),
    ],
)
def test_neighbours_that_are_silent(state, found):
    address = struct.pack("=HH4B", 8, 1, 10, 77, 0, 9)

    assert netlink.silent(struct.pack("=BxHiHBB", 2, 0, 3, state, 0, 1) + address) == found


def test_settings_of_a_mounted_machine_are_our_own_namespace(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/self").symlink_to("1")

    assert isinstance(network_settings(Machine(str(tmp_path))), Absent)
