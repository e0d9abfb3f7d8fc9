"""Ways between real hosts, whole and broken: each node is a process with our own functions."""

import json
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from gpudoctor.facts.links import PortTry, Way

NODE = """
import os, select, sys, threading, time
from pathlib import Path

# Python 3.11 sleeps by clock_nanosleep(2) to a moment, which libfaketime 0.9.10 gets wrong.
time.sleep = lambda seconds: select.select((), (), (), seconds)

from gpudoctor.cluster.links import card, port, tour
from gpudoctor.cluster.links.address import own_addresses
from gpudoctor.cluster.links.peer import Peer
from gpudoctor.cluster.links.rounds import tournament
from gpudoctor.probes import Machine
from gpudoctor.probes.environment import environment
from gpudoctor.probes.network import network
from gpudoctor.snapshot import Snapshot, encode

folder, me, count, seconds, late, signal = sys.argv[1:]
folder, count = Path(folder), int(count)

def share(name, raw):
    (folder / f"{name}.new").write_bytes(raw)
    (folder / f"{name}.new").rename(folder / name)

def await_all(names):
    end = time.monotonic() + 60
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < end, os.listdir(folder)
        time.sleep(0.01)
    return {name: (folder / name).read_bytes() for name in names}

def progress(number):
    if me == "node1" and signal != "0" and number == 2:
        threading.Timer(0.3, os.kill, (os.getpid(), int(signal))).start()

seen = network(Machine())
nodes = [f"node{number}" for number in range(count)]
node = Snapshot(me).replace(seen, environment(Machine()))
with Peer(me, own_addresses(node), hostname=me) as peer:
    share(me, peer.card())
    cards = {name: card.read(raw) for name, raw in await_all(nodes).items()}
    await_all(["start"])
    if me == "node1":
        time.sleep(float(late))
    found = tour.run_rounds(
        peer, me, cards, tournament(count), deadline=time.monotonic() + 60,
        network=seen, seconds=float(seconds),
        progress=progress,
    )
    share(f"{me}-done", encode(found))
    await_all(["end"])
"""

MASTER = """
import sys, time
from gpudoctor.cluster.links import card, port
from gpudoctor.cluster.links.card import Own
from gpudoctor.cluster.links.peer import Peer

peer = Peer("node0", [Own(ip="10.77.0.1")])
print(peer.card().decode(), flush=True)
with port.held(29500, card.read(peer.card())) as error:
    print(error or "ready", flush=True)
    sys.stdin.read()
"""

TRY = """
import sys
from gpudoctor.cluster.links import card, port
from gpudoctor.snapshot import encode
print(encode(port.tried("node1", sys.argv[1], 29500, card.read(sys.argv[2].encode()))).decode())
"""

GREET = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
kept = []
while True:
    kept.append(server.accept()[0])
    kept[-1].sendall(b"SSH-2.0-OpenSSH_9.2p1\\r\\n" * 9)
"""


class Cluster:
    """Nodes that meet through files. They wait for `go` before their first round."""

    def __init__(self, hosts, folder, *, seconds=0.0, late=0.0, signal=0, before=None):
        self.hosts, self.folder = hosts, folder
        before = before or {}
        self.processes = {
            host.name: host.start(
                *before.get(host.name, ()),
                *(sys.executable, "-c", NODE, folder, host.name, len(hosts)),
                *(seconds, late, int(signal)),
            )
            for host in hosts
        }
        self.wait(*self.processes)

    def wait(self, *names):
        end = time.monotonic() + 60
        while missing := [name for name in names if not (self.folder / name).exists()]:
            ended = [n for n, p in self.processes.items() if p.poll() not in (None, -9)]
            said = [self.processes[name].stdout.read() for name in ended]
            assert not ended, f"{missing} is not there: {said}"
            assert time.monotonic() < end, f"{missing} is not there"
            time.sleep(0.01)

    def ways(self, *without):
        """Let them go, and wait for all but some; ways by source and target."""
        (self.folder / "start").touch()
        there = [name for name in self.processes if name not in without]
        self.wait(*(f"{name}-done" for name in there))
        (self.folder / "end").touch()
        found = [json.loads((self.folder / f"{name}-done").read_bytes()) for name in there]
        assert [tour["unfinished"] for tour in found] == [""] * len(there)
        ways = [msgspec.convert(way, Way) for tour in found for way in tour["ways"]]
        return {(way.source, way.target): way for way in ways}


@pytest.fixture
def cluster(tmp_path):
    return lambda hosts, **options: Cluster(hosts, tmp_path, **options)


def broken(ways):
    """What is not well, by source and target."""
    return {pair: (way.error, way.step) for pair, way in ways.items() if way.error}


@pytest.mark.parametrize("count", [2, 4])
def test_healthy(count, zoo, cluster):
    began = time.monotonic()
    ways = cluster(zoo.lan(count), seconds=0.3).ways()

    assert len(ways) == count * (count - 1)
    assert broken(ways) == {}
    for way in ways.values():
        assert way.resolved == (f"10.77.0.{int(way.target[4:]) + 1}",)
        assert way.address == way.resolved[0] == way.own[0]
        assert (way.interface, way.mtu, way.path_mtu, way.mss) == ("eth0", 1500, 1500, 1448)
        assert abs(way.clock_offset_seconds) <= way.clock_uncertainty_seconds
        assert way.bytes_per_second > 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        pytest.param("tcp flags & (syn|ack) == syn drop", "ETIMEDOUT", id="dropped"),
        pytest.param("tcp dport 1024-65535 ct state new drop", "ETIMEDOUT", id="ephemeral ports"),
        pytest.param(
            "tcp flags & (syn|ack) == syn reject with tcp reset", "ECONNREFUSED", id="reset"
        ),
        pytest.param(
            "tcp flags & (syn|ack) == syn reject with icmpx type admin-prohibited",
            "EHOSTUNREACH",
            id="prohibited",
        ),
    ],
)
def test_firewall_one_way(rule, error, zoo, cluster):
    hosts = zoo.lan(3)
    hosts[1].filter(rule)
    ways = cluster(hosts, seconds=0.1).ways()

    assert len(ways) == 6
    assert broken(ways) == {(f"node{n}", "node1"): (error, "connect") for n in (0, 2)}
    assert all(way.bytes_per_second for pair, way in ways.items() if "node1" not in pair)


def test_firewall_of_what_leaves(zoo, cluster):
    hosts = zoo.lan(3)
    hosts[1].filter("ip daddr 10.77.0.3 tcp flags & (syn|ack) == syn drop", hook="output")
    ways = cluster(hosts, seconds=0.1).ways()

    assert set(broken(ways)) == {("node1", "node2")}
    assert all(way.bytes_per_second for way in ways.values() if not way.error)


@pytest.mark.parametrize(
    ("variable", "error"), [("NCCL_SOCKET_IFNAME=eth1", "ETIMEDOUT"), ("A=", "")], ids=str
)
def test_the_interface_that_data_takes_is_tried(variable, error, zoo, cluster):
    hosts = zoo.lan(2)
    zoo.join(*hosts, ("10.88.0.1/24", "10.88.0.2/24"), name="eth1")
    hosts[1].filter('iifname "eth1" drop')
    ways = cluster(hosts, before={host.name: ["env", variable] for host in hosts}).ways()

    assert {way.error for way in ways.values()} == {error}
    interface, net = ("eth1", "10.88.0.") if error else ("eth0", "10.77.0.")
    for way in ways.values():
        assert way.interface == interface
        assert way.address.startswith(net)
        assert {ip.rpartition(".")[0] for ip in way.own} == {"10.77.0", "10.88.0"}


def test_no_ipv4(zoo, cluster):
    a, b = zoo.host("node0"), zoo.host("node1")
    zoo.join(a, b, ("fd77::1/64", "fd77::2/64"))
    for host in (a, b):
        host.hosts("::1 localhost\nfd77::1 node0\nfd77::2 node1\n")
    ways = cluster([a, b], seconds=0.3).ways()

    assert broken(ways) == {}
    way = ways["node0", "node1"]
    assert (way.address, way.resolved, way.interface) == ("fd77::2", ("fd77::2",), "eth0")
    assert (way.path_mtu, way.mss) == (1500, 1428)
    assert way.bytes_per_second


def test_no_way_at_all(zoo, cluster):
    hosts = zoo.lan(2)
    nodes = cluster(hosts)
    hosts[0].ip("link set eth0 down")
    ways = nodes.ways()

    assert broken(ways)["node0", "node1"] == ("ENETUNREACH", "connect")
    assert broken(ways)["node1", "node0"][1] == "connect"


def test_wrong_line_in_hosts(zoo, cluster):
    hosts = zoo.lan(3)
    known = hosts[2].file("/etc/hosts").read_text()
    hosts[2].hosts(known.replace("10.77.0.1 ", "10.9.9.9 ").replace("10.77.0.2 node1\n", ""))
    hosts[2].write("/etc/nsswitch.conf", "hosts: files\n")
    ways = cluster(hosts).ways()

    assert broken(ways) == {}, "ways go by what the target says of itself"
    wrong, unknown = ways["node2", "node0"], ways["node2", "node1"]
    assert (wrong.resolved, wrong.own) == (("10.9.9.9",), ("10.77.0.1",))
    assert (unknown.resolved, unknown.resolve_error) == (
        (),
        "EAI_NONAME: Name or service not known",
    )
    assert ways["node1", "node0"].resolved == ("10.77.0.1",)


def test_resolver_that_hangs_costs_no_way(zoo, cluster):
    hosts = zoo.lan(2)
    hosts[1].hosts("127.0.0.1 localhost\n")
    hosts[1].write("/etc/nsswitch.conf", "hosts: files dns\n")
    hosts[1].write("/etc/resolv.conf", "nameserver 10.77.0.1\n")
    hosts[0].filter("udp dport 53 drop")
    ways = cluster(hosts).ways()

    assert broken(ways) == {}
    assert ways["node1", "node0"].resolve_error == "no answer in 3 s"


def test_another_machine_has_the_address(zoo, cluster):
    hosts = zoo.lan(2)
    nodes = cluster(hosts)
    port = json.loads((nodes.folder / "node1").read_bytes())["port"]
    stranger = zoo.host("stranger")
    stranger.add("eth0", "10.77.0.2/24")
    greets = stranger.start(sys.executable, "-S", "-c", GREET, port)
    assert greets.stdout.readline() == "ready\n"
    zoo.outside.ip("link set port1 down")
    # The stranger's cable is the last that was laid.
    cable = zoo.outside.run("sh", "-c", "ls /sys/class/net | grep veth | tail -1").stdout.strip()
    zoo.outside.ip(f"link set {cable} master lan up")
    hosts[0].ip("neigh flush all")
    ways = nodes.ways()

    assert (ways["node0", "node1"].error, ways["node0", "node1"].step) == ("STRANGER", "hello")


@pytest.mark.parametrize("length", [1400, 600])
def test_mtu_black_hole(length, zoo, cluster):
    """Large packets vanish on the way to one node, and no word comes of it."""
    hosts = zoo.lan(3)
    zoo.outside.nft(
        "table bridge lab { chain forward { type filter hook forward priority 0;\n"
        f'oifname "port1" ether type ip meta length > {length} drop\n}}\n}}\n'
    )
    ways = cluster(hosts, seconds=0.1).ways()

    assert broken(ways) == {(f"node{n}", "node1"): ("ETIMEDOUT", "large") for n in (0, 2)}
    way = ways["node0", "node1"]
    assert way.rtt_seconds is not None
    assert (way.mss, way.mtu) == (1448, 1500)
    assert way.retransmits > 0
    assert all(way.bytes_per_second for way in ways.values() if not way.error)


def test_smaller_mtu_that_is_told(zoo, cluster):
    """A jumbo frame at one end only: the sender goes by what the other end takes."""
    hosts = zoo.lan(2)
    hosts[0].ip("link set eth0 mtu 9000")
    ways = cluster(hosts).ways()

    assert broken(ways) == {}
    assert (ways["node0", "node1"].mtu, ways["node0", "node1"].mss) == (9000, 1448)
    assert ways["node1", "node0"].mtu == 1500


def test_clock_that_is_off(zoo, cluster, require):
    require(shutil.which("faketime"), "faketime is not installed")
    before = {
        "node1": ["faketime", "--exclude-monotonic", "-f", "+30s"],
    }
    ways = cluster(zoo.lan(3), before=before).ways()

    assert broken(ways) == {}
    for (source, target), way in ways.items():
        expected = 30 * ((target == "node1") - (source == "node1"))
        assert way.clock_offset_seconds == pytest.approx(expected, abs=0.5)
        assert abs(way.clock_offset_seconds - expected) <= way.clock_uncertainty_seconds + 0.01


def test_frozen_from_the_start(zoo, cluster):
    nodes = cluster(zoo.lan(4), seconds=0.1)
    nodes.processes["node1"].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    ways = nodes.ways("node1")

    assert time.monotonic() - began < 30
    assert broken(ways) == {(f"node{n}", "node1"): ("SILENT", "hello") for n in (0, 2, 3)}
    assert len(ways) == 9


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_gone_in_the_middle(number, zoo, cluster):
    ways = cluster(zoo.lan(4), seconds=0.5, signal=number).ways("node1")

    assert len(ways) == 9
    found = broken(ways)
    assert {target for _, target in found} == {"node1"}
    assert 1 <= len(found) <= 2, "the first round was over"
    gone = (
        {"SILENT", "ETIMEDOUT"}
        if number == signal.SIGSTOP
        else {"ECONNREFUSED", "ECONNRESET", "EPIPE"}
    )
    assert {error for error, _ in found.values()} <= gone


def test_late(zoo, cluster):
    ways = cluster(zoo.lan(3), seconds=0.1, late=6.0).ways()

    assert broken(ways) == {}
    assert all(way.bytes_per_second for way in ways.values())


@pytest.mark.parametrize(("limit", "burst"), [(100, "32kb"), (100, "1mb"), (1000, "1mb")], ids=str)
def test_throughput_of_a_limited_cable(limit, burst, zoo, tmp_path):
    """The kernel's limit decides; where others keep it from being reached it is tried again."""
    hosts = zoo.lan(2)
    for host in hosts:
        words = f"tc qdisc add dev eth0 root tbf rate {limit}mbit burst {burst} latency 50ms"
        assert host.run(*words.split()).returncode == 0
    payload = limit * 1e6 / 8 * 1448 / 1514  # of a frame as it is counted
    best: dict[tuple[str, str], float] = {}
    for attempt in range(5):
        (tmp_path / str(attempt)).mkdir()
        ways = Cluster(hosts, tmp_path / str(attempt), seconds=1.0).ways()
        assert broken(ways) == {}
        for pair, way in ways.items():
            assert way.speed_mbps == limit
            assert way.bytes_per_second < 1.05 * payload
            best[pair] = max(best.get(pair, 0), way.bytes_per_second)
        if all(rate > 0.95 * payload for rate in best.values()):
            return
    raise AssertionError(f"{best}, not {payload}")


def port_tried(hosts, master, before=()):
    """What node1 says of node0's port 29500, while it is held there."""
    holder = hosts[0].start(sys.executable, "-c", MASTER, stdin=subprocess.PIPE)
    card, word = holder.stdout.readline().strip(), holder.stdout.readline().strip()
    ended = hosts[1].run(sys.executable, "-c", TRY, master, card)
    assert ended.returncode == 0, ended.stderr
    return word, msgspec.json.decode(ended.stdout, type=PortTry)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (None, ""),
        ("tcp dport 29500 drop", "ETIMEDOUT"),
        ("tcp dport 29500 reject with tcp reset", "ECONNREFUSED"),
    ],
    ids=["open", "dropped", "reset"],
)
@pytest.mark.parametrize("master", ["node0", "10.77.0.1"])
def test_master_port(rule, error, master, zoo):
    hosts = zoo.lan(2)
    if rule:
        hosts[0].filter(rule)

    assert port_tried(hosts, master) == ("ready", PortTry(source="node1", error=error))


def test_master_port_that_is_taken(zoo):
    hosts = zoo.lan(2)
    hosts[0].listen("0.0.0.0", 29500)

    word, found = port_tried(hosts, "node0")
    assert (word, found.error) == ("EADDRINUSE", "STRANGER")


def test_master_name_that_leads_elsewhere(zoo):
    hosts = zoo.lan(3)
    hosts[2].listen("10.77.0.3", 29500)
    hosts[1].hosts("10.77.0.3 node0\n")

    assert port_tried(hosts, "node0")[1].error == "STRANGER"
