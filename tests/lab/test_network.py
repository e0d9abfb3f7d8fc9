"""The network of real hosts: probes beside `ip`, faults beside what they really break."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gpudoctor import Status
from gpudoctor.report import Report, Result

from .net import Host

ROOT = Path(__file__).parent.parent.parent
OURS = ("data-ports", "mtu", "link", "wireless", "bridge", "rp-filter", "proxy")
NODES = ("--nnodes", "2", "--master-addr")
LOOK = """
from gpudoctor.probes import Machine
from gpudoctor.probes.network import network
from gpudoctor.snapshot import encode
print(encode(network(Machine())).decode())
"""
CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).close()
"""


@pytest.fixture
def look(examine) -> Callable[..., Report]:
    """`look(host, *options)`: the report of what this file's checks say on a host."""

    def check(host: Host, *options: str, become: Sequence[str] = ()) -> Report:
        only = [f"--only=net-{name}" for name in OURS]
        clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return examine(*only, *options, under=[*host.words(), *become], env=clean)

    return check


def result(report: Report, name: str) -> Result:
    (found,) = [r for r in report.results if r.id == name]
    return found


def commands(found: Result) -> list[str]:
    return [command for fix in found.fixes for command in fix.commands]


def apply(host: Host, found: Result) -> None:
    """Do what the fix says, as its reader would with a shell of root."""
    for command in commands(found):
        ended = host.run("sh", "-c", command.replace("sudo ", ""))

        assert ended.returncode == 0, f"{command}: {ended.stderr}"


def connects(host: Host, ip: str, port: int) -> bool:
    return host.run(sys.executable, "-S", "-c", CONNECT, ip, port).returncode == 0


def test_interfaces_are_those_that_ip_shows(zoo):
    host = zoo.host()
    host.add("docker0", "172.17.0.1/16", kind="bridge")
    host.add("eth0", "10.77.0.1/24", "fd00::1/64", mtu=9000)
    host.add("tun0", "10.8.0.2/24", kind="tun")
    host.add("eth1", "10.9.0.1/24", carrier=False)
    host.add("eth2", "10.10.0.1/24", up=False)
    host.ip("route add default via 10.77.0.254")
    host.ip("route add prohibit 10.98.0.0/24")

    found = json.loads(host.run(sys.executable, "-c", LOOK).stdout)

    shown = json.loads(host.ip("-j -d addr"))
    assert [i["name"] for i in found["interfaces"]] == [i["ifname"] for i in shown]
    for ours, theirs in zip(found["interfaces"], shown, strict=True):
        kind = theirs.get("linkinfo", {}).get("info_kind", "loopback")

        assert (ours["kind"], ours["mtu"]) == (kind, theirs["mtu"])
        assert ours["up"] == ("UP" in theirs["flags"])
        assert ours["running"] == ("LOWER_UP" in theirs["flags"])
        assert [(a["ip"], a["prefix"], a["scope"]) for a in ours["addresses"]] == [
            (a["local"], a["prefixlen"], a["scope"]) for a in theirs["addr_info"]
        ]
    routes = {(r["destination"], r["interface"], r["gateway"]) for r in found["routes"]}
    assert ("0.0.0.0/0", "eth0", "10.77.0.254") in routes
    assert ("10.98.0.0/24", "", "") in routes
    assert all(route["interface"] != "eth2" for route in found["routes"])


def test_of_very_many_routes_those_that_count_are_told(zoo):
    host = zoo.host()
    host.add("eth0", "10.77.0.1/24", "fd00::1/64")
    many = "".join(f"route add 172.16.{i // 250}.{i % 250}/32 dev eth0\n" for i in range(1100))
    assert host.run("ip", "-batch", "-", input=many).returncode == 0
    host.ip("-6 route add default via fd00::fe")
    host.ip("route add prohibit 203.0.113.0/24")

    found = json.loads(host.run(sys.executable, "-c", LOOK).stdout)

    assert len(found["routes"]) == 1000
    assert {"::/0", "203.0.113.0/24"} <= {route["destination"] for route in found["routes"]}


def test_healthy_pair_is_silent(zoo, look):
    a, b = zoo.pair()
    b.listen("10.77.0.2", 29500)

    worker, master = (look(h, *NODES, "10.77.0.2") for h in (a, b))

    for report in (worker, master):
        assert report.exit_code == 0
        assert {r.status for r in report.results} <= {Status.PASS, Status.SKIP}


def test_one_node_does_not_ask_its_filter(zoo, look):
    host = zoo.host()
    host.add("eth0", "10.77.0.1/24")
    host.filter(policy="drop")

    report = look(host)

    assert {r.status for r in report.results} == {Status.SKIP}
    assert "one node" in report.nodes[0].facts["firewall"]["absent"]


ONLY_THE_MASTER = "tcp dport 29500 accept"
ANSWERS = "ct state established,related accept"
ICMP = "meta l4proto tcp reject with icmpx admin-prohibited"


def nftables(host: Host) -> None:
    host.filter("iif lo accept", ANSWERS, ONLY_THE_MASTER, policy="drop")


def nftables_that_rejects(host: Host) -> None:
    host.filter("iif lo accept", ANSWERS, ONLY_THE_MASTER, ICMP)


def iptables(host: Host, program: str = "iptables") -> None:
    append = f"{program} -A INPUT"
    rules = f"""{append} -m conntrack --ctstate ESTABLISHED -j ACCEPT
        {append} -p tcp --dport 29500 -j ACCEPT
        {program} -P INPUT DROP"""
    assert host.run("sh", "-ec", rules).returncode == 0


def legacy(host: Host) -> None:
    iptables(host, "iptables-legacy")


def ufw(host: Host) -> None:
    script = "ufw allow 29500/tcp; ufw default deny incoming; ufw --force enable"
    ended = host.run("sh", "-ec", script)

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("shut", "tools", "words"),
    [
        pytest.param(nftables, ["nft"], "(drop)", id="nftables"),
        pytest.param(nftables_that_rejects, ["nft"], "(reject)", id="nftables that rejects"),
        pytest.param(iptables, ["iptables"], "(drop)", id="iptables"),
        pytest.param(ufw, ["ufw", "iptables"], "(drop)", id="ufw"),
    ],
)
def test_data_ports(zoo, look, require, shut, tools, words):
    require(all(map(shutil.which, tools)), f"not installed: {' or '.join(tools)}")
    a, b = zoo.pair()
    shut(b)
    b.listen("10.77.0.2", 29500)
    b.listen("10.77.0.2", 40000)

    before = result(look(b, *NODES, "10.77.0.2"), "net-data-ports")
    truth_before = connects(a, "10.77.0.2", 29500), connects(a, "10.77.0.2", 40000)
    apply(b, before)
    after = result(look(b, *NODES, "10.77.0.2"), "net-data-ports")
    truth_after = connects(a, "10.77.0.2", 40000)

    assert before.status is Status.FAIL
    assert before.summary == f"ports 32768-60999 are closed to 10.77.0.0/24 {words}"
    assert truth_before == (True, False)
    assert after.status is Status.PASS, after
    assert truth_after


def test_data_ports_shut_by_the_older_iptables(zoo, look, require):
    require(shutil.which("iptables-legacy"), "there is no iptables-legacy")
    _, b = zoo.pair()
    legacy(b)

    assert result(look(b, *NODES, "10.77.0.2"), "net-data-ports").status is Status.FAIL


def test_data_ports_of_a_narrow_range(zoo, look):
    _, b = zoo.pair()
    b.sysctl("net.ipv4.ip_local_port_range", "50000 51000")
    b.filter("tcp dport 50000-51000 accept", policy="drop")

    found = result(look(b, *NODES, "10.77.0.2"), "net-data-ports")

    assert found.status is Status.PASS
    assert found.summary == "ports 50000-51000 are open to 10.77.0.0/24"


def test_without_root_the_filter_is_not_readable_and_never_none(zoo, look, require):
    require(os.access(ROOT / "gpudoctor", os.R_OK | os.X_OK), "the tree is only root's")
    _, b = zoo.pair()
    nftables(b)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    tried = b.run(*nobody, sys.executable, "-c", "import gpudoctor")
    require(tried.returncode == 0, "nobody may not run this Python")

    found = result(look(b, *NODES, "10.77.0.2", become=nobody), "net-data-ports")

    assert found.status is Status.SKIP
    assert "need root to be read" in found.reason


def test_mtu_that_differs(zoo, look):
    a, b = zoo.pair()
    a.ip("link set eth0 mtu 9000")
    b.listen("10.77.0.2", 29500)

    before = result(look(a, *NODES, "10.77.0.2"), "net-mtu")
    apply(a, before)
    after = result(look(a, *NODES, "10.77.0.2"), "net-mtu")

    assert before.status is Status.WARN
    assert before.summary == "eth0 has MTU 9000, 10.77.0.2 has 1500"
    assert after.status is Status.PASS


def test_link_that_somebody_limited(zoo, look, require):
    require(shutil.which("tc"), "there is no tc")
    a, _ = zoo.pair()
    a.run("sh", "-c", "tc qdisc add dev eth0 root tbf rate 10mbit burst 32kb latency 400ms")

    before = result(look(a, *NODES, "10.77.0.2"), "net-link")
    apply(a, before)
    after = result(look(a, *NODES, "10.77.0.2"), "net-link")

    assert before.status is Status.FAIL
    assert before.summary == "eth0 is limited to 10 Mb/s by traffic control"
    assert after.status is Status.SKIP, "a veth tells no speed"


def test_two_rails_and_strict_reverse_path_filtering(zoo, look):
    a, b = zoo.host("node0"), zoo.host("node1")
    b.ip("link add br0 type bridge")
    for number, address in enumerate(("10.77.0.1/24", "10.77.0.3/24")):
        b.connect(f"port{number}", a, f"eth{number}")
        b.ip(f"link set port{number} master br0")
        a.ip(f"address add {address} dev eth{number}")
        a.ip(f"link set eth{number} up")
    b.ip("address add 10.77.0.2/24 dev br0")
    b.ip("link set br0 up")
    a.sysctl("net.ipv4.conf.all.arp_ignore", 1)  # each interface answers for itself
    a.sysctl("net.ipv4.conf.all.rp_filter", 1)
    a.listen("10.77.0.3", 40000)

    before = result(look(a, *NODES, "10.77.0.2"), "net-rp-filter")
    truth_before = connects(b, "10.77.0.3", 40000)
    a.run("mkdir", "-p", "/etc/sysctl.d")
    apply(a, before)
    after = result(look(a, *NODES, "10.77.0.2"), "net-rp-filter")
    truth_after = connects(b, "10.77.0.3", 40000)

    assert before.status is Status.WARN
    assert before.summary == "eth0 and eth1 are in 10.77.0.0/24, and rp_filter is strict"
    assert not truth_before
    assert after.status is Status.PASS
    assert truth_after


def test_hosts_go_with_the_tests_even_if_these_are_killed(zoo, tmp_path):
    script = tmp_path / "die.py"
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.lab.net import Zoo\n"
        "a, b = Zoo().pair()\n"
        "server = b.listen('10.77.0.2', 29500)\n"
        "print(a.pid, b.pid, server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = [Path(f"/proc/{pid}/ns/net") for pid in ended.stdout.split()]
    until = time.monotonic() + 30
    while any(map(os.path.lexists, left)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(os.path.lexists, left))


def test_what_a_host_changes_is_its_own(zoo):
    before = Path("/etc/hosts").read_text()
    host = zoo.host("elsewhere")
    host.write("/etc/gpudoctor-lab", "x")
    host.hosts("127.0.0.1 localhost elsewhere\n")

    assert host.run("cat", "/etc/gpudoctor-lab").stdout == "x"
    assert host.run("hostname").stdout == "elsewhere\n"
    assert Path("/etc/hosts").read_text() == before
    assert not Path("/etc/gpudoctor-lab").exists()
    assert os.uname().nodename != "elsewhere"


@pytest.fixture
def bridged(zoo) -> tuple[Host, Host]:
    """A machine at 10.77.0.1 and, behind a bridge as docker makes it, a network of containers."""
    machine, _ = zoo.pair()
    inside = zoo.host("inside")
    machine.add("docker0", "172.17.0.1/16", kind="bridge", carrier=False)
    machine.connect("veth7", inside, "eth0")
    machine.ip("link set veth7 master docker0")
    machine.sysctl("net.ipv4.ip_forward", 1)
    machine.nft(
        "table ip nat { chain postrouting { type nat hook postrouting priority srcnat;\n"
        "ip saddr 172.17.0.0/16 masquerade\n}\n}\n"
    )
    inside.ip("address add 172.17.0.2/16 dev eth0")
    inside.ip("link set eth0 up")
    inside.ip("route add default via 172.17.0.1")
    return machine, inside


def test_container_on_a_bridge(zoo, bridged, examine_in_podman):
    machine, inside = bridged
    options = ("--only", "net-bridge", *NODES, "10.77.0.2")

    def check(host: Host) -> Result:
        flags = [f"--network=ns:/proc/{host.pid}/ns/net"]
        return result(examine_in_podman(flags, *options), "net-bridge")

    on_bridge, on_machine = check(inside), check(machine)

    assert connects(machine, "172.17.0.2", 1) is False
    assert on_bridge.status is Status.FAIL, on_bridge
    assert "--network=host" in " ".join(commands(on_bridge))
    assert on_machine.status is not Status.FAIL
