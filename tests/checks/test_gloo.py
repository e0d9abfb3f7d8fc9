"""checks/gloo.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Address,
    Container,
    Devices,
    Environment,
    EnvSet,
    EnvUnset,
    HostNetwork,
    Interface,
    Names,
    NcclSettings,
    Network,
    Status,
    Workload,
)
from gpudoctor.registry import get

NAME = "GLOO_SOCKET_IFNAME"
ONE = Workload()
TWO = Workload().told({"nodes": 2}, "--nnodes")
GPUS = Devices(nvidia=(0,))
CPUS = Devices()


def nic(name, *addresses, kind="physical", **more) -> Interface:
    parts = [text.split("/") for text in addresses]
    return Interface(
        index=0,
        name=name,
        kind=kind,
        up=True,
        running=more.pop("running", True),
        addresses=tuple(Address(ip=ip, prefix=int(prefix)) for ip, prefix in parts),
        **more,
    )


LO = nic("lo", "127.0.0.1/8", kind="loopback")
ETH0 = nic("eth0", "10.1.0.1/24")
NODE = Network(interfaces=(LO, ETH0))
CNI = Network(interfaces=(LO, nic("cni0", "10.244.0.1/24", kind="bridge"), ETH0))
DARK = Network(interfaces=(LO, nic("eth0", "10.1.0.1/24", running=False)))
ALONE = Network(interfaces=(LO,))

WELL = Names(hostname="node0", addresses=("10.1.0.1",))
DEBIAN = Names(hostname="node0", addresses=("127.0.1.1",))
UNRESOLVED = Names(hostname="node0", error="EAI_NONAME: Name or service not known")
BRIDGED = Names(hostname="node0", addresses=("10.244.0.1",))


def judged(there, told, names, job=TWO, devices=GPUS, settings=None, container=None):
    environment = Environment(values={NAME: told} if told is not None else {})
    check = get("gloo-interface")
    return check(there, job, environment, names, settings, None, devices, container)


@pytest.mark.parametrize(
    ("there", "told", "names", "more", "status", "says"),
    [
        pytest.param(NODE, None, WELL, {}, "pass", "eth0 (10.1.0.1)", id="healthy"),
        pytest.param(NODE, "eth0", DEBIAN, {}, "pass", "eth0", id="healthy: named, on Debian"),
        pytest.param(NODE, "eth0", None, {}, "pass", "eth0", id="healthy: named, nothing resolved"),
        pytest.param(
            NODE, "eth0", None, {"job": ONE}, "pass", "eth0", id="healthy: one node, named"
        ),
        pytest.param(NODE, None, DEBIAN, {"job": ONE}, "skip", "", id="one node"),
        pytest.param(NODE, "", DEBIAN, {"job": ONE}, "skip", "", id="one node, empty"),
        pytest.param(NODE, None, None, {}, "skip", "", id="the hostname was not looked up"),
        pytest.param(NODE, None, DEBIAN, {}, "warn", "lo (127.0.1.1)", id="Debian, with GPUs"),
        pytest.param(NODE, None, DEBIAN, {"devices": CPUS}, "fail", "lo", id="Debian, gloo alone"),
        pytest.param(NODE, None, UNRESOLVED, {"devices": CPUS}, "fail", "lo", id="unresolvable"),
        pytest.param(
            CNI, None, BRIDGED, {"devices": CPUS}, "fail", "cni0", id="a bridge's address"
        ),
        pytest.param(NODE, "lo", WELL, {}, "fail", "only this machine itself", id="lo named"),
        pytest.param(NODE, "eth0,lo", WELL, {}, "fail", "lo (127.0.0.1)", id="lo named as second"),
        pytest.param(DARK, "eth0", WELL, {}, "fail", "no carrier", id="no cable"),
        pytest.param(NODE, "ens99", WELL, {}, "fail", "ens99: gloo ends with", id="no such name"),
        pytest.param(NODE, "=eth0", WELL, {}, "fail", "=eth0", id="as NCCL takes it"),
        pytest.param(NODE, "ens99", WELL, {"job": ONE}, "warn", "ens99", id="left over, one node"),
    ],
)
def test_interface(there, told, names, more, status, says):
    finding = judged(there, told, names, **more)

    assert finding.status.value == status, finding
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("there", "told", "setting"),
    [
        pytest.param(NODE, None, EnvSet(NAME, "eth0"), id="not set"),
        pytest.param(NODE, "ens99", EnvSet(NAME, "eth0"), id="set wrong"),
        pytest.param(ALONE, "ens99", EnvUnset(NAME), id="nothing to name"),
        pytest.param(ALONE, None, HostNetwork(), id="nothing that leads out"),
    ],
)
def test_fix(there, told, setting):
    docker = Container(runtime="docker", launcher="docker", net_private=True)

    assert judged(there, told, DEBIAN, container=docker).fix.settings == (setting,)


def test_fix_on_a_host_that_nothing_leads_out_of():
    finding = judged(ALONE, None, DEBIAN, container=Container())

    assert finding.owner == "node"
    assert "Connect this node" in finding.fix.text
    assert finding.fix.commands == ("ip -br address",)


def test_says_what_gloo_will_say_and_who_set_it():
    settings = NcclSettings(origins={NAME: "pid 1"})

    finding = judged(NODE, "ens99", WELL, settings=settings)

    assert finding.status is Status.FAIL
    assert "Unable to find address for: ens99" in finding.evidence
    assert f"{NAME} is set by pid 1" in finding.evidence
