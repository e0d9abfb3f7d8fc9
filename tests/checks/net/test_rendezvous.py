"""checks/net/rendezvous.py: what became of the way to the master -> status."""

import pytest

from gpudoctor import Attempt, Container, EnvSet, Master, Network, NetworkSettings, Status, Workload
from gpudoctor.facts.network import Address, Interface, Route
from gpudoctor.registry import get
from gpudoctor.rules import job_variables

FAIL, WARN, PASS, SKIP = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP
ONE, TWO = Workload(), Workload().told({"nodes": 2}, "--nnodes")
ETH0 = Interface(
    index=2,
    name="eth0",
    kind="physical",
    up=True,
    running=True,
    addresses=(Address(ip="10.0.0.7", prefix=24),),
)
HOLE = Route(destination="10.0.0.1/32", kind="blackhole")
PODS = Route(destination="10.244.3.0/26", kind="blackhole")  # as Calico makes them
NODE = Network(interfaces=(ETH0,), routes=(HOLE, PODS))
POD = Container(runtime="containerd", kubernetes=True)
ASKED = job_variables.read({}, {"master_addr": "10.0.0.1", "node_rank": 1})
STARTING = job_variables.read({"MASTER_ADDR": "10.0.0.1", "RANK": "8", "WORLD_SIZE": "16"})


def tried(*attempts: Attempt, name: str = "10.0.0.1", **more) -> Master:
    addresses = tuple(attempt.ip for attempt in attempts)
    return Master(name=name, port=29500, addresses=addresses, attempts=attempts, **more)


def attempt(error: str = "", ip: str = "10.0.0.1", seconds: float = 0.0, **more) -> Attempt:
    way = {"interface": "eth0", "source": "10.0.0.7", **more}
    return Attempt(ip=ip, error=error, seconds=seconds, **way)


def refused(error: str) -> Attempt:
    """By this machine's own routes."""
    return attempt(error, interface="", source="", route_error=error)


@pytest.mark.parametrize(
    ("found", "job", "status", "says"),
    [
        pytest.param(attempt(), ASKED, PASS, "10.0.0.1 port 29500 answers by eth0", id="healthy"),
        pytest.param(attempt("ECONNREFUSED"), ASKED, WARN, "nothing listens", id="asked, closed"),
        pytest.param(attempt("ECONNREFUSED"), STARTING, PASS, "listens yet", id="all start"),
        pytest.param(
            attempt("ETIMEDOUT", seconds=2.0), STARTING, FAIL, "no answer in 2 s", id="dropped"
        ),
        pytest.param(
            attempt("ETIMEDOUT", seconds=2.0, silent="10.0.0.1"),
            STARTING,
            FAIL,
            "no machine with this address",
            id="nobody",
        ),
        pytest.param(
            attempt("EHOSTUNREACH", seconds=3.1), ASKED, FAIL, "no machine with", id="nobody, 3 s"
        ),
        pytest.param(
            attempt("ETIMEDOUT", seconds=2.0, gateway="10.0.0.254", silent="10.0.0.254"),
            ASKED,
            FAIL,
            "10.0.0.254: the gateway to it does not answer",
            id="no gateway",
        ),
        pytest.param(
            attempt("EHOSTUNREACH"), ASKED, FAIL, "rejected by a firewall", id="admin-prohibited"
        ),
        pytest.param(attempt("EACCES"), ASKED, FAIL, "rejected by a firewall", id="of IPv6"),
        pytest.param(attempt("ENETUNREACH"), ASKED, FAIL, "no route on the way", id="of a router"),
        pytest.param(refused("ENETUNREACH"), ASKED, FAIL, "no route leads there", id="no route"),
        pytest.param(refused("EINVAL"), ASKED, FAIL, "black hole", id="black hole"),
        pytest.param(refused("EACCES"), ASKED, FAIL, "prohibits it", id="prohibit"),
        pytest.param(refused("EHOSTUNREACH"), ASKED, FAIL, "says unreachable", id="unreachable"),
        pytest.param(refused("ENODEV"), ASKED, FAIL, "the name behind its %", id="zone"),
        pytest.param(
            attempt("ETIMEDOUT", interface="", source="", seconds=2.0),
            ASKED,
            FAIL,
            "no answer",
            id="way unknown",
        ),
    ],
)
def test_one_address(found, job, status, says):
    finding = get("net-master")(tried(found), TWO, job, NODE, None)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("attempts", "seconds", "status", "setting"),
    [
        pytest.param([attempt(), attempt("ETIMEDOUT", "fd00::1")], 0.0, PASS, None, id="the first"),
        pytest.param(
            [attempt("ENETUNREACH", "fd00::1"), attempt()], 0.0, PASS, None, id="first at once gone"
        ),
        pytest.param(
            [attempt("ETIMEDOUT", "fd00::1"), attempt()],
            0.0,
            WARN,
            EnvSet("MASTER_ADDR", "10.0.0.1"),
            id="each waits for the first",
        ),
        pytest.param([attempt()], 1.5, WARN, None, id="slow resolver"),
        pytest.param(
            [refused("ENETUNREACH"), attempt("ECONNREFUSED")], 0.0, WARN, None, id="closed"
        ),
    ],
)
def test_a_name(attempts, seconds, status, setting):
    found = tried(*attempts, name="node0", resolve_seconds=seconds)
    finding = get("net-master")(found, TWO, ASKED, NODE, None)

    assert finding.status is status
    if setting:
        assert finding.fix.settings == (setting,)


@pytest.mark.parametrize(
    ("job", "container", "status"),
    [
        pytest.param(STARTING, None, FAIL, id="host"),
        pytest.param(ASKED, POD, FAIL, id="a person in a pod"),
        pytest.param(STARTING, POD, WARN, id="a pod that starts before its master"),
    ],
)
def test_unresolved(job, container, status):
    found = Master(name="job-master-0", port=29500, resolve_error="EAI_NONAME: Name not known")
    finding = get("net-master")(found, TWO, job, NODE, container)

    assert finding.status is status
    assert "job-master-0 does not resolve: EAI_NONAME" in finding.summary


@pytest.mark.parametrize("name", ["10.0.0.1:29500", "node[1-4]", "tcp://node0", "[fd00::1]"])
def test_what_net_job_reports_is_reported_once(name):
    found = Master(name=name, port=29500, resolve_error="EAI_NONAME: Name not known")

    finding = get("net-master")(found, TWO, STARTING, NODE, None)

    assert finding.status is SKIP
    assert "see net-job" in finding.reason


@pytest.mark.parametrize(
    ("container", "owner"),
    [
        pytest.param(None, "node", id="host"),
        pytest.param(
            Container(runtime="podman", launcher="podman", net_private=True), "launch", id="inside"
        ),
    ],
)
def test_no_address_at_all(container, owner):
    alone = Network(interfaces=())

    finding = get("net-master")(tried(refused("ENETUNREACH")), TWO, ASKED, alone, container)

    assert finding.owner == owner
    assert ("Connect this node" in finding.fix.text) is (container is None)


def here(name: str, *addresses: str, **more) -> Master:
    return Master(name=name, port=29500, addresses=addresses or (name,), here=True, **more)


@pytest.mark.parametrize(
    ("found", "env", "workload", "container", "status"),
    [
        pytest.param(here("10.0.0.7"), {"RANK": "0"}, TWO, None, PASS, id="node 0"),
        pytest.param(here("10.0.0.7"), {}, TWO, None, PASS, id="node not known"),
        pytest.param(here("127.0.0.1"), {"RANK": "1"}, ONE, None, PASS, id="one node"),
        pytest.param(here("localhost", "127.0.0.1"), {}, ONE, None, PASS, id="laptop"),
        pytest.param(
            here("node7", "127.0.1.1"), {"NODE_RANK": "0"}, TWO, None, PASS, id="Debian's node 0"
        ),
        pytest.param(
            here("node7", "127.0.1.1"), {"NODE_RANK": "1"}, TWO, None, FAIL, id="Debian's node 1"
        ),
        pytest.param(here("127.0.0.1"), {"NODE_RANK": "1"}, TWO, None, FAIL, id="node 1"),
        pytest.param(here("localhost", "::1"), {}, TWO, None, FAIL, id="any node"),
        pytest.param(here("0.0.0.0"), {}, TWO, None, FAIL, id="everywhere"),
        pytest.param(here("localhost", "::1"), {"RANK": "0"}, TWO, None, WARN, id="rank 0"),
        pytest.param(
            here("localhost", "::1"), {"RANK": "0"}, TWO, POD, PASS, id="Kubeflow's master"
        ),
        pytest.param(here("10.0.0.7"), {"NODE_RANK": "1"}, TWO, None, WARN, id="its own, node 1"),
        pytest.param(
            here("10.0.0.7", bind_error="EADDRINUSE"),
            {"NODE_RANK": "1"},
            TWO,
            None,
            PASS,
            id="two agents on one machine",
        ),
    ],
)
def test_here(found, env, workload, container, status):
    job = job_variables.read({"MASTER_ADDR": found.name, **env})

    assert get("net-master")(found, workload, job, NODE, container).status is status


def test_master_elsewhere_of_a_job_on_one_node_is_not_asked_for():
    found = Master(name="10.0.0.1", port=29500, addresses=("10.0.0.1",))

    assert get("net-master")(found, ONE, None, NODE, None).status is SKIP


def test_fixes_have_their_values():
    def fix(found):
        return get("net-master")(tried(found), TWO, ASKED, NODE, None).fix

    assert "sudo ufw allow from 10.0.0.0/24  # ufw" in fix(attempt("EHOSTUNREACH")).commands
    assert fix(refused("EINVAL")).commands == ("sudo ip route del blackhole 10.0.0.1/32",)
    assert fix(refused("ENETUNREACH")).commands == ("ip route get 10.0.0.1",)
    assert "10.0.0.0/24" in fix(refused("ENETUNREACH")).text


def test_fix_in_a_pod_is_no_hosts_firewall():
    finding = get("net-master")(tried(attempt("EHOSTUNREACH")), TWO, ASKED, NODE, POD)

    assert finding.fix.commands == ()
    assert "NetworkPolicy" in finding.fix.text


def test_fix_of_localhost_is_the_address_of_node_0():
    job = job_variables.read({"MASTER_ADDR": "localhost", "RANK": "0"})
    finding = get("net-master")(here("localhost", "127.0.0.1"), TWO, job, NODE, None)

    assert finding.fix.settings == (EnvSet("MASTER_ADDR", "10.0.0.7"),)


USED = {"bind_error": "EADDRINUSE", "free_port": 29501}


@pytest.mark.parametrize(
    ("found", "env", "status", "says"),
    [
        pytest.param(here("10.0.0.7"), {"RANK": "0"}, PASS, "port 29500 is free", id="free"),
        pytest.param(tried(attempt()), {}, SKIP, "", id="elsewhere"),
        pytest.param(here("10.0.0.7", **USED), {"RANK": "1"}, SKIP, "", id="not rank 0"),
        pytest.param(here("10.0.0.7", **USED), {"NODE_RANK": "1"}, SKIP, "", id="not node 0"),
        pytest.param(
            here("10.0.0.7", **USED, holder="python (pid 4711, uid 0)", holder_pid=4711),
            {"RANK": "0"},
            FAIL,
            "taken, by python (pid 4711, uid 0)",
            id="taken",
        ),
        pytest.param(here("10.0.0.7", **USED), {}, FAIL, "port 29500 is taken", id="by whom?"),
        pytest.param(
            here("10.0.0.7", **USED, holder="torchrun (pid 7, uid 0)", held_by_launcher=True),
            {"RANK": "0"},
            PASS,
            "this job's own",
            id="by the agent",
        ),
        pytest.param(here("10.0.0.7", bind_error="EACCES"), {}, FAIL, "root only", id="low port"),
    ],
)
def test_port(found, env, status, says):
    job = job_variables.read({"MASTER_ADDR": found.name, **env})
    finding = get("net-port")(found, job, None)

    assert finding.status is status
    assert says in finding.summary


def test_port_fix_names_a_free_one_and_who_has_it():
    found = here("10.0.0.7", **USED, holder="python (pid 4711, uid 0)", holder_pid=4711)
    fix = get("net-port")(found, None, None).fix

    assert fix.settings == (EnvSet("MASTER_PORT", "29501"),)
    assert fix.commands == ("kill 4711",)


@pytest.mark.parametrize(("low", "remarks"), [(32768, 0), (1024, 1), (None, 0)])
def test_port_that_outgoing_connections_may_take(low, remarks):
    settings = NetworkSettings(port_low=low, port_high=60999 if low else None)
    finding = get("net-port")(here("10.0.0.7"), None, settings)

    assert finding.status is PASS
    assert len(finding.evidence) == remarks
