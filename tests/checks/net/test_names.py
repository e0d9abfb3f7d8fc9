"""checks/net/names.py: what the hostname resolves to -> status."""

import subprocess

import pytest

from gpudoctor import Environment, EnvSet, Names, Network, Status, Workload
from gpudoctor.facts.network import Address, Interface, Route
from gpudoctor.registry import get

LO = Interface(
    index=1,
    name="lo",
    kind="loopback",
    up=True,
    running=True,
    addresses=(Address(ip="127.0.0.1", prefix=8, scope="host"),),
)
ETH0 = Interface(
    index=2,
    name="eth0",
    kind="physical",
    up=True,
    running=True,
    addresses=(Address(ip="10.0.0.7", prefix=24),),
)
DOCKER0 = Interface(
    index=3,
    name="docker0",
    kind="bridge",
    up=True,
    running=True,
    addresses=(Address(ip="172.17.0.1", prefix=16),),
)
DEFAULT = Route(destination="0.0.0.0/0", interface="eth0", gateway="10.0.0.254")
HOST = Network(interfaces=(LO, DOCKER0, ETH0), routes=(DEFAULT,))
TWO = Workload(nodes=2)
TOLD = Environment(values={"GLOO_SOCKET_IFNAME": "eth0"})


def names(*addresses: str, **more) -> Names:
    return Names(hostname="node7", addresses=addresses, **more)


@pytest.mark.parametrize(
    ("found", "environment", "status", "says"),
    [
        pytest.param(names("10.0.0.7"), None, Status.PASS, "10.0.0.7", id="healthy"),
        pytest.param(names("10.0.0.7", "127.0.1.1"), None, Status.PASS, "10.0.0.7", id="both"),
        pytest.param(
            names("10.9.9.9", "10.0.0.7"), None, Status.PASS, "10.0.0.7", id="the second is ours"
        ),
        pytest.param(names("127.0.1.1"), None, Status.WARN, "each node's own", id="Debian"),
        pytest.param(names("::1"), None, Status.WARN, "each node's own", id="IPv6 loopback"),
        pytest.param(names("127.0.1.1"), TOLD, Status.PASS, "GLOO_SOCKET_IFNAME", id="gloo told"),
        pytest.param(names("10.9.9.9"), None, Status.WARN, "no interface", id="somebody else's"),
        pytest.param(
            names(error="EAI_NONAME: Name or service not known"),
            None,
            Status.WARN,
            "does not resolve",
            id="unknown",
        ),
        pytest.param(names("10.0.0.7", seconds=2.5), None, Status.WARN, "in 2.5 s", id="slow"),
        pytest.param(names("10.0.0.7", seconds=0.9), None, Status.PASS, "", id="quick enough"),
    ],
)
def test_hostname(found, environment, status, says):
    finding = get("net-hostname")(found, TWO, HOST, None, environment)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


def test_without_interfaces_an_address_is_believed():
    assert get("net-hostname")(names("10.0.0.7"), TWO, None, None, None).status is Status.PASS


def test_one_node():
    finding = get("net-hostname")(names("127.0.1.1"), Workload(), HOST, None, None)

    assert finding.status is Status.SKIP


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "10.0.0.7 node7\n", id="nothing"),
        pytest.param("127.0.1.1\tnode7\n", "10.0.0.7\tnode7\n", id="Debian"),
        pytest.param(
            "127.0.1.1 node7.lab node7\n", "10.0.0.7 node7.lab node7\n", id="with its domain"
        ),
        pytest.param(
            "127.0.0.1  localhost node7 loghost\n",
            "127.0.0.1  localhost loghost\n10.0.0.7 node7\n",
            id="beside localhost",
        ),
        pytest.param(
            "127.0.0.1 localhost\n127.0.1.1 node71\n127.0.1.1 node7 # me\n",
            "127.0.0.1 localhost\n127.0.1.1 node71\n10.0.0.7 node7 # me\n",
            id="another's line stays",
        ),
    ],
)
def test_fix_names_the_address_that_others_reach(before, after, tmp_path):
    rows = [line.partition("#")[0].split() for line in before.splitlines()]
    lines = tuple(" ".join(words) for words in rows if "node7" in words[1:])
    found = names("127.0.1.1", hosts_lines=lines)
    fix = get("net-hostname")(found, TWO, HOST, None, None).fix

    assert fix.settings == (EnvSet("GLOO_SOCKET_IFNAME", "eth0"),)
    assert fix.needs_root

    hosts = tmp_path / "hosts"
    hosts.write_text(before)
    script = "\n".join(fix.commands).replace("sudo ", "").replace("/etc/hosts", str(hosts))
    subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)
    assert hosts.read_text() == after


def test_no_name_helps_where_there_is_no_other_address():
    alone = Network(interfaces=(LO,))

    finding = get("net-hostname")(names("127.0.1.1"), TWO, alone, None, None)

    assert finding.status is Status.SKIP
    assert "see gloo-interface" in finding.reason


def test_fix_where_addresses_are_not_known():
    fix = get("net-hostname")(names("127.0.1.1"), TWO, None, None, None).fix

    assert fix.settings == ()
    assert "Give node7 a line with its address" in fix.text
