"""checks/net/barriers.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Address,
    Attempt,
    Chain,
    Container,
    Environment,
    EnvSet,
    Firewall,
    HostNetwork,
    Interface,
    JobPython,
    Master,
    Network,
    NetworkSettings,
    Route,
    Rule,
    Status,
    Workload,
)
from gpudoctor.facts.network import Kind
from gpudoctor.registry import get

ONE = Workload()
TWO = Workload().told({"nodes": 2}, "--nnodes")


def network(kind: Kind = "physical", ip: str = "10.0.0.1", gateway: str = "10.0.0.254") -> Network:
    eth0 = Interface(
        index=2,
        name="eth0",
        kind=kind,
        up=True,
        running=True,
        addresses=(Address(ip=ip, prefix=24),),
    )
    routes = [Route(destination="0.0.0.0/0", interface="eth0", gateway=gateway)] if gateway else []
    return Network(interfaces=(eth0,), routes=tuple(routes))


HOST = network()


def meets(ip: str = "10.0.0.2", gateway: str = "") -> Master:
    attempt = Attempt(ip=ip, interface="eth0", gateway=gateway)
    return Master(name=ip, port=29500, addresses=(ip,), attempts=(attempt,))


def own(ip: str = "10.0.0.1") -> Master:
    return Master(name=ip, port=29500, addresses=(ip,), here=True)


def drops(*rules: Rule, tool: str = "nftables") -> Firewall:
    chain = Chain(name="input", table="inet filter", rules=rules, first=True, otherwise="drop")
    return Firewall(tool=tool, chains=(chain,))


MASTER_PORT = Rule(action="accept", ports=((29500, 29500),))
DATA = Rule(action="accept", sources=("10.0.0.0/24",), ports=((32768, 60999),))
HALF = Rule(action="accept", ports=((32768, 45000),))
ONE_PORT = Chain(
    name="input",
    table="inet filter",
    rules=(Rule(action="drop", ports=((33060, 33060),)),),
    first=True,
    otherwise="accept",
)


@pytest.mark.parametrize(
    ("firewall", "job", "status", "says"),
    [
        pytest.param(Firewall(), TWO, Status.PASS, "no rule", id="healthy: none"),
        pytest.param(drops(), ONE, Status.SKIP, "one node", id="healthy: one node"),
        pytest.param(drops(MASTER_PORT, DATA), TWO, Status.PASS, "open to", id="healthy: opened"),
        pytest.param(
            drops(MASTER_PORT),
            TWO,
            Status.FAIL,
            "ports 32768-60999 are closed to 10.0.0.0/24 (drop)",
            id="only the master's port",
        ),
        pytest.param(drops(HALF), TWO, Status.FAIL, "45001-60999", id="half of them"),
        pytest.param(
            Firewall(tool="nftables", chains=(ONE_PORT,)),
            TWO,
            Status.PASS,
            "",
            id="healthy: one of them is closed",
        ),
        pytest.param(
            drops(Rule(action="accept", unclear=True, text="-m set")),
            TWO,
            Status.SKIP,
            "nftables's rules do not tell",
            id="a condition that is not understood",
        ),
        pytest.param(
            drops(Rule(action="accept", sources=("10.0.0.2/32",))),
            TWO,
            Status.SKIP,
            "do not tell",
            id="one host is let in, which may be the other node",
        ),
    ],
)
def test_data_ports(firewall, job, status, says):
    finding = get("net-data-ports")(firewall, HOST, job, None, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_data_ports_are_those_of_the_kernel():
    narrow = NetworkSettings(port_low=50000, port_high=51000)

    finding = get("net-data-ports")(drops(HALF), HOST, TWO, narrow, own())

    assert finding.summary == "ports 50000-51000 are closed to 10.0.0.0/24 (drop)"
    assert finding.fix.commands == (
        "sudo nft 'insert rule inet filter input ip saddr 10.0.0.0/24"
        " tcp dport { 29500, 50000-51000 } accept'",
    )
    assert finding.fix.needs_root


def test_data_ports_are_asked_for_the_master_in_another_subnet():
    far = meets("10.9.0.7", gateway="10.0.0.254")

    finding = get("net-data-ports")(drops(DATA), HOST, TWO, None, far)

    assert finding.status is Status.FAIL
    assert "closed to 10.9.0.7" in finding.summary


def docker(**more) -> Container:
    return Container(**{"runtime": "docker", "launcher": "docker", "net_private": True, **more})


BRIDGED = network("veth", "172.17.0.2", "172.17.0.1")


@pytest.mark.parametrize(
    ("container", "found", "master", "status", "says"),
    [
        pytest.param(docker(), BRIDGED, None, Status.WARN, "bridge", id="nobody knows the master"),
        pytest.param(
            docker(), BRIDGED, meets(gateway="172.17.0.1"), Status.FAIL, "bridge", id="bridge"
        ),
        pytest.param(docker(), BRIDGED, own("172.17.0.2"), Status.WARN, "bridge", id="master here"),
        pytest.param(
            docker(),
            BRIDGED,
            meets("172.17.0.3"),
            Status.PASS,
            "same network",
            id="healthy: all on one bridge, or an overlay",
        ),
        pytest.param(
            docker(net_private=False), HOST, meets(), Status.PASS, "host's own", id="--network host"
        ),
        pytest.param(
            Container(net_private=True), BRIDGED, None, Status.PASS, "host's own", id="no container"
        ),
        pytest.param(
            docker(launcher="kubernetes", kubernetes=True),
            BRIDGED,
            meets(gateway="172.17.0.1"),
            Status.PASS,
            "kubernetes",
            id="healthy: a pod",
        ),
        pytest.param(
            docker(),
            network("macvlan", "10.0.0.5"),
            meets(gateway="10.0.0.254"),
            Status.PASS,
            "macvlan",
            id="healthy: macvlan",
        ),
        pytest.param(
            docker(runtime="podman", launcher="podman"),
            network("tun", "10.0.2.100", "10.0.2.2"),
            meets(gateway="10.0.2.2"),
            Status.FAIL,
            "bridge",
            id="podman without root",
        ),
        pytest.param(docker(), Network(), None, Status.FAIL, "no interface", id="--network none"),
        pytest.param(
            docker(net_private=None),
            BRIDGED,
            meets(gateway="172.17.0.1"),
            Status.FAIL,
            "bridge",
            id="a veth leads out: it is a network of its own",
        ),
        pytest.param(
            docker(net_private=None), HOST, None, Status.SKIP, "cannot be told", id="not known"
        ),
    ],
)
def test_bridge(container, found, master, status, says):
    finding = get("net-bridge")(container, found, TWO, master)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    if finding.fix:
        assert finding.fix.settings == (HostNetwork(),)


def test_bridge_is_fine_on_one_node():
    assert get("net-bridge")(docker(), BRIDGED, ONE, None).status is Status.SKIP


PROXY = "http://proxy.example:3128"
RAY = JobPython(path="p", chosen_by="PATH", packages={"torch": "2.9.0", "ray": "2.50.0"})
TORCH = JobPython(path="p", chosen_by="PATH", packages={"torch": "2.9.0"})


def proxied(no_proxy: str = "", name: str = "http_proxy") -> Environment:
    values = {name: PROXY} | ({"no_proxy": no_proxy} if no_proxy else {})
    return Environment(values=values)


@pytest.mark.parametrize(
    ("environment", "python", "job", "status"),
    [
        pytest.param(proxied(), RAY, TWO, Status.WARN, id="Ray asks it"),
        pytest.param(proxied(name="HTTPS_PROXY"), RAY, TWO, Status.WARN, id="in capitals"),
        pytest.param(proxied("localhost,127.0.0.1"), RAY, TWO, Status.WARN, id="others are spared"),
        pytest.param(proxied("10.0.0.2"), RAY, TWO, Status.PASS, id="healthy: spared"),
        pytest.param(proxied(".lan, 10.0.0.0/8"), RAY, TWO, Status.PASS, id="healthy: a network"),
        pytest.param(proxied("*"), RAY, TWO, Status.PASS, id="healthy: all are spared"),
        pytest.param(proxied(), TORCH, TWO, Status.PASS, id="healthy: torch asks none"),
        pytest.param(proxied(), None, TWO, Status.PASS, id="what the job has is not known"),
        pytest.param(proxied(), RAY, ONE, Status.SKIP, id="healthy: one node"),
        pytest.param(Environment(), RAY, TWO, Status.PASS, id="healthy: no proxy"),
    ],
)
def test_proxy(environment, python, job, status):
    assert get("net-proxy")(environment, job, meets(), HOST, python).status is status


def test_proxy_by_the_masters_domain():
    named = Master(name="node0.gpu.lan", port=29500, addresses=("10.0.0.2",))

    assert get("net-proxy")(proxied(".lan"), TWO, named, HOST, RAY).status is Status.PASS
    assert get("net-proxy")(proxied("lan.example"), TWO, named, HOST, RAY).status is Status.WARN


def test_proxy_without_a_master_is_not_judged():
    assert get("net-proxy")(proxied(), TWO, None, HOST, RAY).status is Status.SKIP


def test_proxy_keeps_what_is_spared_already():
    finding = get("net-proxy")(proxied("files.lan"), TWO, meets(), HOST, RAY)

    assert finding.fix.settings[0] == EnvSet(
        "no_proxy", "files.lan,localhost,127.0.0.1,10.0.0.2,10.0.0.0/24"
    )
