"""The way to the master, broken in every way that it breaks; the fix that is shown mends it."""

import json
import os
import sys

import pytest

from gpudoctor import Status

FAIL, WARN, PASS, SKIP = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP
PORT = 29500
OURS = ("net-hostname", "net-job", "net-master", "net-port")
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
ASKING = ("--nnodes=2", "--node-rank=1", "--master-addr=10.77.0.1")

# An answer to every question for an address, after some seconds; or none at all.
RESOLVER = """
import socket, sys, threading, time
delay, ip = float(sys.argv[1]), socket.inet_aton(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)

def answer(asked, peer):
    time.sleep(delay)
    end = asked.index(b"\\0", 12) + 5
    found = asked[end - 4 : end - 2] == b"\\0\\1"
    head = asked[:2] + b"\\x81\\x80\\0\\1" + (b"\\0\\1" if found else b"\\0\\0") + bytes(4)
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + ip if found else b""
    server.sendto(head + asked[12:end] + record, peer)

while True:
    asked, peer = server.recvfrom(512)
    if delay >= 0:
        threading.Thread(target=answer, args=(asked, peer), daemon=True).start()
"""


@pytest.fixture
def judge(examine):
    """`judge(host, *options, **variables)`: the results of our checks, by id."""

    def judge(host, *options, gpudoctor=None, become=(), **variables):
        more = {"gpudoctor": gpudoctor} if gpudoctor else {}
        report = examine(
            *(f"--only={check}" for check in OURS),
            *options,
            under=[*host.words(), *become],
            env={**CLEAN, **variables},
            **more,
        )
        return {result.id: result for result in report.results}

    return judge


@pytest.fixture
def pair(zoo):
    """The master, on which the port is open, and the node that looks."""
    node0, node1 = zoo.pair()
    node0.listen("10.77.0.1", PORT)
    return node0, node1


def commands(result):
    """Those of its fix, for somebody who is root already."""
    lines = [line for fix in result.fixes if fix.launcher == "any" for line in fix.commands]
    return [line.replace("sudo ", "") for line in lines]


def guard(host, *rules):
    """Rules where distributions have theirs."""
    chain = "type filter hook input priority filter; policy accept;"
    lines = "\n".join(rules)
    host.nft(f"table inet filter {{ chain input {{\n{chain}\n{lines}\n}}\n}}\n")


def test_healthy_pair(zoo, judge):
    node0, node1 = zoo.pair()
    listener = node0.listen("10.77.0.1", PORT)
    told = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2"}
    by_worker = judge(node1, **told, RANK="1", LOCAL_WORLD_SIZE="1")
    asked = judge(node1, *ASKING)
    by_name = judge(node1, "--master-addr=node0")
    listener.kill()
    listener.wait()
    by_master = judge(node0, **told, RANK="0", LOCAL_WORLD_SIZE="1")

    statuses = {c: [found[c].status for found in (by_worker, asked, by_name)] for c in OURS}
    assert statuses["net-master"] == [PASS] * 3
    assert statuses["net-hostname"] == [PASS] * 3
    assert statuses["net-job"] == [PASS] * 3
    assert statuses["net-port"] == [SKIP] * 3
    assert [by_master[check].status for check in OURS] == [PASS] * 4


@pytest.mark.parametrize(
    ("rule", "status", "says"),
    [
        pytest.param("tcp dport 29500 drop", FAIL, "no answer in 2 s", id="dropped"),
        pytest.param(
            "tcp dport 29500 reject with tcp reset", WARN, "or a firewall resets it", id="reset"
        ),
        pytest.param(
            "tcp dport 29500 reject with icmpx type admin-prohibited",
            FAIL,
            "rejected by a firewall (EHOSTUNREACH)",
            id="admin-prohibited",
        ),
        pytest.param(
            "tcp dport 29500 reject with icmp type net-prohibited",
            FAIL,
            "ENETUNREACH",
            id="net-prohibited",
        ),
    ],
)
def test_firewall_of_the_master(rule, status, says, pair, judge):
    node0, node1 = pair
    guard(node0, rule)
    found = judge(node1, *ASKING)["net-master"]

    assert found.status is status
    assert says in found.summary

    if status is FAIL:
        (cure,) = [line for line in commands(found) if line.startswith("nft")]
        assert "10.77.0.0/24" in cure
        node0.run("sh", "-c", cure, check=True)
        assert judge(node1, *ASKING)["net-master"].status is PASS


@pytest.mark.parametrize(
    ("kind", "says"),
    [("blackhole", "black hole"), ("prohibit", "prohibits"), ("unreachable", "unreachable")],
)
def test_route_that_stops_it(kind, says, pair, judge):
    _, node1 = pair
    node1.ip(f"route add {kind} 10.77.0.1/32")
    found = judge(node1, *ASKING)["net-master"]

    assert found.status is FAIL
    assert says in found.summary

    node1.run("sh", "-c", commands(found)[0], check=True)
    assert judge(node1, *ASKING)["net-master"].status is PASS


@pytest.mark.parametrize(
    ("address", "says"),
    [
        pytest.param("10.99.0.1", "no route leads there", id="no route"),
        pytest.param("10.77.0.9", "10.77.0.9: no machine with this address", id="nobody"),
    ],
)
def test_wrong_address(address, says, pair, judge):
    found = judge(pair[1], "--nnodes=2", f"--master-addr={address}")["net-master"]

    assert found.status is FAIL
    assert says in found.summary


def test_gateway_that_is_not_there(pair, judge):
    pair[1].ip("route add default via 10.77.0.254")
    found = judge(pair[1], "--nnodes=2", "--master-addr=10.99.0.1")["net-master"]

    assert found.status is FAIL
    assert "10.77.0.254: the gateway to it does not answer" in found.summary


def test_nothing_listens(zoo, judge):
    """A person is warned; a job, all of whose nodes start at this moment, is not."""
    _, node1 = zoo.pair()
    asked = judge(node1, *ASKING)["net-master"]
    starting = judge(node1, MASTER_ADDR="10.77.0.1", WORLD_SIZE="2", RANK="1")["net-master"]

    assert asked.status is WARN
    assert "nothing listens on 10.77.0.1 port 29500" in asked.summary
    assert starting.status is PASS
    assert "nothing listens yet" in starting.summary


def test_unresolvable_name(pair, judge):
    _, node1 = pair
    node1.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    node1.hosts("127.0.0.1 localhost\n10.77.0.2 node1\n")
    found = judge(node1, "--nnodes=2", "--master-addr=node0.lab")["net-master"]

    assert found.status is FAIL
    assert "node0.lab does not resolve: EAI_" in found.summary

    node1.hosts("127.0.0.1 localhost\n10.77.0.2 node1\n10.77.0.1 node0.lab\n")
    assert judge(node1, "--nnodes=2", "--master-addr=node0.lab")["net-master"].status is PASS


@pytest.mark.parametrize(
    ("delay", "status", "says"),
    [
        pytest.param(0, PASS, "10.77.0.1 port 29500 answers", id="quick"),
        pytest.param(1.5, WARN, "resolves in", id="slow"),
        pytest.param(-1, FAIL, "no answer in 4 s", id="silent"),
    ],
)
def test_resolver(delay, status, says, pair, judge):
    _, node1 = pair
    node1.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    node1.hosts("127.0.0.1 localhost\n10.77.0.2 node1\n")
    server = node1.start(sys.executable, "-c", RESOLVER, delay, "10.77.0.1")
    assert server.stdout.readline() == "ready\n"
    found = judge(node1, "--nnodes=2", "--master-addr=node0.lab")["net-master"]

    assert found.status is status
    assert says in found.summary

    if status is WARN:
        node1.run("sh", "-c", commands(found)[0], check=True)
        assert judge(node1, "--nnodes=2", "--master-addr=node0.lab")["net-master"].status is PASS


def test_dead_ipv6_beside_ipv4(pair, judge):
    _, node1 = pair
    node1.ip("address add fd77::2/64 dev eth0 nodad")
    node1.hosts("127.0.0.1 localhost\n10.77.0.2 node1\nfd77::1 node0\n10.77.0.1 node0\n")
    found = judge(node1, "--nnodes=2", "--master-addr=node0")["net-master"]

    assert found.status is WARN
    assert "fd77::1 does not answer, 10.77.0.1 does" in found.summary
    assert found.settings[0].value == "10.77.0.1"


def test_ipv6(pair, judge):
    node0, node1 = pair
    for number, host in enumerate((node0, node1), 1):
        host.ip(f"address add fd77::{number}/64 dev eth0 nodad")
    node0.listen("fd77::1", PORT)

    assert judge(node1, "--nnodes=2", "--master-addr=fd77::1")["net-master"].status is PASS

    nobody = judge(node1, "--nnodes=2", "--master-addr=fd77::9")["net-master"]
    assert nobody.summary == "fd77::9: no machine with this address answers"

    guard(node0, "tcp dport 29500 reject with icmpx type admin-prohibited")
    found = judge(node1, "--nnodes=2", "--master-addr=fd77::1")["net-master"]
    assert found.status is FAIL
    assert "rejected by a firewall (EACCES)" in found.summary


@pytest.mark.parametrize("told", ["localhost", "127.0.0.1"])
def test_master_is_everybody_himself(told, pair, judge):
    _, node1 = pair
    found = judge(node1, MASTER_ADDR=told, NNODES="2", NODE_RANK="1")["net-master"]

    assert found.status is FAIL
    assert "is each node itself" in found.summary


def test_port_is_held(pair, judge):
    node0, _ = pair
    told = {"MASTER_ADDR": "10.77.0.1", "NNODES": "2", "NODE_RANK": "0"}
    found = judge(node0, **told)["net-port"]

    assert found.status is FAIL
    assert found.summary.startswith("port 29500 is taken, by python")
    (kill,) = commands(found)
    assert judge(node0, **told, MASTER_PORT=found.settings[0].value)["net-port"].status is PASS

    node0.run("sh", "-c", kill, check=True)
    assert judge(node0, **told)["net-port"].status is PASS


def test_port_is_held_by_the_jobs_own_agent(zoo, gpudoctor):
    agent = """
import socket, subprocess, sys
store = socket.create_server(("10.77.0.1", 29500))
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
    node0, _ = zoo.pair()
    told = {"MASTER_ADDR": "10.77.0.1", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    command = [gpudoctor, "check", "net-port", "-f", "json"]
    ended = node0.run(sys.executable, "-c", agent, *command, env={**CLEAN, **told})
    (result,) = json.loads(ended.stdout)["nodes"][0]["results"]

    assert result["status"] == "pass"
    assert "held by this job's own" in result["summary"]


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        pytest.param("127.0.1.1 node1\n", "node1 resolves to 127.0.1.1", id="as Debian has it"),
        pytest.param("127.0.1.1 node1.lab node1\n", "127.0.1.1", id="with its domain"),
        pytest.param("127.0.0.1 localhost node1\n", "127.0.0.1", id="beside localhost"),
        pytest.param("10.99.0.7 node1\n", "on no interface here", id="somebody else's"),
        pytest.param("", "node1 does not resolve", id="not at all"),
    ],
)
def test_hostname(hosts, says, pair, judge):
    _, node1 = pair
    node1.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    node1.hosts(f"127.0.0.1 localhost\n{hosts}10.77.0.1 node0\n")
    found = judge(node1, *ASKING)["net-hostname"]

    assert found.status is WARN
    assert says in found.summary

    (setting,) = found.settings
    assert (setting.name, setting.value) == ("GLOO_SOCKET_IFNAME", "eth0")
    mended = judge(node1, *ASKING, GLOO_SOCKET_IFNAME="eth0")["net-hostname"]
    assert mended.status is PASS

    node1.run("sh", "-c", "\n".join(commands(found)), check=True)
    assert judge(node1, *ASKING)["net-hostname"].status is PASS
    kept = node1.run("getent", "hosts", "localhost", "node0", check=True).stdout
    assert "localhost" in kept
    assert "node0" in kept


def test_wrong_world_size(pair, judge):
    _, node1 = pair
    options = (*ASKING, "--nproc-per-node=1")
    found = judge(node1, *options, RANK="1", WORLD_SIZE="4")["net-job"]

    assert found.status is FAIL
    assert found.summary == "WORLD_SIZE=4, but 2 nodes x 1 = 2"

    (setting,) = found.settings
    mended = judge(node1, *options, RANK="1", **{setting.name: setting.value})["net-job"]
    assert mended.status is PASS


def test_without_root(pair, judge, installed):
    become = ["setpriv", "--reuid=4712", "--regid=4712", "--clear-groups"]
    options = {"become": become, "gpudoctor": str(installed / "bin/gpudoctor")}
    asked = judge(pair[1], *ASKING, **options)
    held = judge(pair[0], "--nnodes=2", "--node-rank=0", "--master-addr=10.77.0.1", **options)

    assert [asked[check].status for check in OURS] == [PASS, PASS, PASS, SKIP]
    assert (
        held["net-port"].summary
        == "port 29500 is taken, by a process of uid 0 that is not seen from here"
    )


def count_others(host, allowed):
    """Count what leaves the host but for what is allowed; the kernel's own ICMPv6 left out."""
    host.nft(
        "table inet counted { counter others {} ; counter wanted {}\n"
        "chain output { type filter hook output priority filter; policy accept;\n"
        "oifname lo accept\nmeta l4proto ipv6-icmp accept\n"
        f"{allowed} counter name wanted accept\ncounter name others\n}}\n}}\n"
    )


def counted(host, name):
    ended = host.run("nft", "-j", "list", "counter", "inet", "counted", name, check=True)
    return json.loads(ended.stdout)["nftables"][1]["counter"]["packets"]


@pytest.mark.parametrize(
    ("options", "variables", "contacted"),
    [
        pytest.param([], {}, False, id="one node"),
        pytest.param(["--nnodes=2"], {}, False, id="two nodes, of which none is named"),
        pytest.param(["--only=net-*", *ASKING], {}, True, id="asked"),
        pytest.param([*ASKING], {}, True, id="asked, all checks"),
        pytest.param([], {"MASTER_ADDR": "10.77.0.1"}, True, id="the job's variable"),
        pytest.param(["--dry-run", *ASKING], {}, False, id="dry run"),
    ],
)
def test_nobody_else_is_contacted(options, variables, contacted, pair, gpudoctor):
    _, node1 = pair
    count_others(node1, "ip daddr 10.77.0.1 tcp dport 29500")
    ended = node1.run(gpudoctor, "check", *options, env={**CLEAN, **variables})

    assert ended.returncode in (0, 1), ended.stderr
    assert counted(node1, "others") == 0
    assert (counted(node1, "wanted") > 0) is contacted


def test_dry_run_tells_whom_it_would_contact(pair, gpudoctor):
    _, node1 = pair
    node1.write("/etc/resolv.conf", "nameserver 10.77.0.53\n")

    def dry(*options):
        command = [gpudoctor, "check", "--dry-run", "--only=net-*", *options]
        return node1.run(*command, check=True, env=CLEAN).stdout.splitlines()

    named = dry("--nnodes=2", "--master-addr=node0", "--master-port=29501")
    resolver = "/etc/hosts, then nameserver 10.77.0.53"

    assert dry() == ["nobody would be contacted"]
    assert f"names: resolves node1: {resolver}" in named
    assert f"master: resolves node0: {resolver}" in named
    connects = "connects to node0, TCP port 29501, and closes the connection"
    assert f"master: {connects}" in named


def test_ranks_of_a_real_torchrun_are_well(zoo, real_torch, gpudoctor, tmp_path):
    """Its variables agree, and its agents have the port by the time that the ranks look."""
    checks = " ".join(OURS)
    rank = f'exec "$0" check {checks} -o "json={tmp_path}/$RANK.json"'
    agents = []
    for number, host in enumerate(zoo.pair()):
        torchrun = [real_torch, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2"]
        torchrun += [f"--node-rank={number}", "--master-addr=10.77.0.1", "--no-python"]
        agents.append(
            host.start(
                *torchrun, "sh", "-c", rank, gpudoctor, env={**CLEAN, "TMPDIR": str(tmp_path)}
            )
        )
    said = [agent.communicate(timeout=60)[0] for agent in agents]

    assert [agent.returncode for agent in agents] == [0, 0], said
    for number in range(4):
        report = json.loads((tmp_path / f"{number}.json").read_text())
        found = {result["id"]: result["status"] for result in report["nodes"][0]["results"]}
        assert report["nodes"][0]["facts"]["workload"]["nodes"] == 2
        assert [found[check] for check in OURS] == [
            *("pass", "pass", "pass"),
            "pass" if number == 0 else "skip",
        ]
