"""checks/nccl/interface.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Address,
    Attempt,
    Container,
    Devices,
    Environment,
    EnvSet,
    EnvUnset,
    HostNetwork,
    Interface,
    JobPython,
    Master,
    NcclAnswer,
    NcclFile,
    NcclSettings,
    Network,
    Rdma,
    RdmaDevice,
    RdmaPort,
    Route,
    Status,
    TorchBuild,
    Workload,
)
from gpudoctor.registry import get

NAME = "NCCL_SOCKET_IFNAME"
GPUS = Devices(nvidia=(0, 1))
ONE = Workload()
TWO = Workload().told({"nodes": 2}, "--nnodes")
CUDA = TorchBuild(version="2.9.1+cu128", cuda=(12, 8), nccl_pin="nvidia-nccl-cu12 2.27.5")
NEW = TorchBuild(version="2.12.0+cu130", cuda=(13, 0), nccl_pin="nvidia-nccl-cu13 2.29.3")
CPU = TorchBuild(version="2.13.0+cpu")
ROCM = TorchBuild(version="2.9.1+rocm6.4", hip="6.4.43484")


def nic(name, *addresses, kind="physical", up=True, running=True, **more) -> Interface:
    parts = [text.split("/") for text in addresses]
    return Interface(
        index=0,
        name=name,
        kind=kind,
        up=up,
        running=running,
        addresses=tuple(Address(ip=ip, prefix=int(prefix)) for ip, prefix in parts),
        **more,
    )


def network(*interfaces, usual="") -> Network:
    lo = nic("lo", "127.0.0.1/8", kind="loopback")
    routes = (Route(destination="0.0.0.0/0", interface=usual),) if usual else ()
    return Network(interfaces=(lo, *interfaces), routes=routes)


ETH0 = nic("eth0", "10.1.0.1/24")
ETH1 = nic("eth1", "10.2.0.1/24")
ETH10 = nic("eth10", "10.3.0.1/24")
IB0 = nic("ib0", "10.5.0.1/24", kind="infiniband")
DOCKER0 = nic("docker0", "172.17.0.1/16", kind="bridge")
BR = nic("br-03e0aa", "172.19.0.1/16", kind="bridge", below=("veth1",))
VIRBR0 = nic("virbr0", "192.168.122.1/24", kind="bridge")
CNI0 = nic("cni0", "10.244.0.1/24", kind="bridge")
TAILSCALE = nic("tailscale0", "100.64.0.7/32", kind="tun")
WLAN0 = nic("wlan0", "192.168.7.2/24", kind="wireless")
ACTIVE = Rdma(
    devices=(
        RdmaDevice(
            name="mlx5_0", ports=(RdmaPort(number=1, state="ACTIVE", link_layer="InfiniBand"),)
        ),
    )
)


def by(interface: str) -> Master:
    return Master(name="n", port=1, attempts=(Attempt(ip="10.1.0.9", interface=interface),))


def judged(
    there,
    told=None,
    job=TWO,
    build=CUDA,
    master=None,
    devices=GPUS,
    rdma=None,
    answer=None,
    settings=None,
    python=None,
    container=None,
):
    environment = Environment(values=told or {})
    return get("nccl-interface")(
        there, job, environment, settings, answer, build, python, master, devices, rdma, container
    )


@pytest.mark.parametrize(
    ("there", "told", "more", "status", "says"),
    [
        # What is well.
        pytest.param(network(ETH0), {}, {}, "pass", "eth0 (10.1.0.1)", id="healthy: one card"),
        pytest.param(network(ETH0, DOCKER0), {}, {}, "pass", "eth0", id="healthy: with docker0"),
        pytest.param(network(DOCKER0, ETH0), {}, {}, "pass", "eth0", id="healthy: docker0 first"),
        pytest.param(
            network(ETH0, IB0, usual="eth0"),
            {},
            {"master": by("eth0")},
            "pass",
            "MASTER_ADDR is reached by eth0",
            id="healthy: IPoIB, master by Ethernet",
        ),
        pytest.param(
            network(ETH0, ETH1), {}, {"master": by("eth1")}, "pass", "eth0", id="healthy: two cards"
        ),
        pytest.param(
            network(nic("eth0", "10.244.1.7/32", kind="veth"), usual="eth0"),
            {},
            {},
            "pass",
            "eth0",
            id="healthy: a pod",
        ),
        pytest.param(
            network(nic("eth0"), nic("br0", "10.1.0.1/24", kind="bridge", below=("eth0", "vnet0"))),
            {},
            {},
            "pass",
            "br0",
            id="healthy: a host of VMs",
        ),
        pytest.param(
            network(TAILSCALE, usual=""),
            {},
            {"master": by("tailscale0")},
            "pass",
            "tailscale0",
            id="healthy: the nodes meet by VPN",
        ),
        pytest.param(
            network(ETH0, ETH1), {NAME: "=eth1"}, {}, "pass", "eth1 (10.2.0.1)", id="healthy: named"
        ),
        pytest.param(
            network(ETH0, BR), {}, {"rdma": ACTIVE}, "pass", "eth0", id="healthy: data goes by RDMA"
        ),
        pytest.param(network(BR, ETH0), {}, {"job": ONE}, "pass", "on this node", id="one node"),
        # Where there is no question.
        pytest.param(network(BR), {}, {"build": CPU}, "skip", "", id="torch for CPUs"),
        pytest.param(
            network(BR), {NAME: "no"}, {"job": ONE, "devices": Devices()}, "skip", "", id="a laptop"
        ),
        pytest.param(
            network(VIRBR0, ETH0), {}, {"build": None}, "skip", "", id="version decides, not known"
        ),
        # What breaks.
        pytest.param(network(BR, ETH0), {}, {}, "fail", "a bridge inside", id="docker's network"),
        pytest.param(network(CNI0, ETH0), {}, {}, "fail", "cni0 (10.244.0.1)", id="Kubernetes"),
        pytest.param(network(VIRBR0, ETH0), {}, {}, "fail", "virbr0", id="libvirt, NCCL 2.27"),
        pytest.param(network(VIRBR0, ETH0), {}, {"build": NEW}, "pass", "eth0", id="libvirt, 2.29"),
        pytest.param(network(VIRBR0, ETH0), {}, {"build": ROCM}, "fail", "virbr0", id="RCCL"),
        pytest.param(network(DOCKER0), {}, {}, "fail", "docker0", id="nothing but docker0"),
        pytest.param(network(), {}, {}, "fail", "only this machine", id="nothing but lo"),
        pytest.param(
            network(nic("eth0", "10.1.0.1/24", running=False), ETH1),
            {},
            {},
            "fail",
            "no carrier",
            id="no cable, NCCL 2.27",
        ),
        pytest.param(
            network(TAILSCALE, ETH0), {}, {"master": by("eth0")}, "warn", "a VPN", id="VPN first"
        ),
        pytest.param(
            network(WLAN0, ETH0, usual="eth0"), {}, {}, "warn", "wireless", id="WLAN first"
        ),
        pytest.param(
            network(ETH0, BR), {}, {}, "warn", "sends data also by br-03e0aa", id="data by a bridge"
        ),
        pytest.param(
            network(ETH0, CNI0, nic("flannel.1", "10.244.0.0/32", kind="tunnel"), BR),
            {},
            {},
            "warn",
            "also by cni0 and 2 more",
            id="a host of Kubernetes",
        ),
        pytest.param(
            network(
                nic("enp129s0f1np1xx", "fd00:1234:5678:9abc:def0:1234:5678:9abc/64", kind="dummy")
            ),
            {},
            {},
            "fail",
            "enp129s0f1np1xx: a dummy",
            id="long names",
        ),
        pytest.param(network(ETH0), {NAME: "ens3"}, {}, "fail", "fits no interface", id="no such"),
        pytest.param(
            network(ETH0),
            {NAME: "=eth"},
            {"job": ONE},
            "fail",
            "=eth fits no",
            id="also on one node",
        ),
        pytest.param(
            network(ETH0), {NAME: '"eth0"'}, {}, "fail", '"eth0" fits no', id="quotes in the value"
        ),
        pytest.param(network(ETH0), {NAME: "lo"}, {}, "fail", "lo (127.0.0.1)", id="lo named"),
        pytest.param(
            network(ETH10, ETH1), {NAME: "eth1"}, {}, "warn", "also means eth10", id="prefix trap"
        ),
        pytest.param(
            network(ETH0), {"NCCL_COMM_ID": "192.0.2.1:9"}, {}, "fail", "NCCL_COMM_ID", id="COMM_ID"
        ),
        pytest.param(
            network(ETH0, ETH1),
            {"NCCL_COMM_ID": "10.2.0.9:9"},
            {"build": NEW},
            "fail",
            "lo (127.0.0.1)",
            id="NCCL_COMM_ID with 2.29's fault",
        ),
    ],
)
def test_interface(there, told, more, status, says):
    finding = judged(there, told, **more)

    assert finding.status.value == status, finding
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("there", "told", "master", "settings"),
    [
        pytest.param(network(BR, ETH0), {}, None, (EnvSet(NAME, "=eth0"),), id="a card"),
        pytest.param(
            network(BR, ETH0, ETH1), {}, by("eth1"), (EnvSet(NAME, "=eth1"),), id="to the master"
        ),
        pytest.param(
            network(ETH10, ETH1), {NAME: "eth1"}, None, (EnvSet(NAME, "=eth1"),), id="prefix trap"
        ),
        pytest.param(
            network(ETH0),
            {"NCCL_COMM_ID": "192.0.2.1:9"},
            None,
            (EnvUnset("NCCL_COMM_ID"), EnvSet(NAME, "=eth0")),
            id="NCCL_COMM_ID",
        ),
        pytest.param(network(), {NAME: "eth0"}, None, (EnvUnset(NAME),), id="no network at all"),
    ],
)
def test_fix(there, told, master, settings):
    assert judged(there, told, master=master).fix.settings == settings


@pytest.mark.parametrize(
    ("container", "settings"),
    [
        pytest.param(
            Container(runtime="docker", launcher="docker", net_private=True),
            (HostNetwork(),),
            id="docker --network none",
        ),
        pytest.param(
            Container(runtime="docker", launcher="docker", net_private=False), (), id="of the host"
        ),
        pytest.param(Container(net_private=True), (), id="a host"),
        pytest.param(None, (), id="not known"),
    ],
)
def test_fix_where_nothing_leads_out(container, settings):
    finding = judged(network(DOCKER0), container=container)

    assert finding.fix.settings == settings
    assert bool(settings) is not ("Connect this node" in finding.fix.text)
    assert finding.owner == ("launch" if settings else "node")


def test_says_why_the_double_equals_sign():
    finding = judged(network(BR, ETH0))

    assert any("exactly eth0" in line for line in finding.evidence)
    assert any(line.startswith("NCCL 2.27.5: the first that is not") for line in finding.evidence)


def test_files_count_and_say_where_it_is_set():
    settings = NcclSettings(files=(NcclFile(path="/etc/nccl.conf", values={NAME: "ens3"}),))

    finding = judged(network(ETH0), settings=settings)

    assert finding.status is Status.FAIL
    assert f"{NAME} is set by /etc/nccl.conf" in finding.evidence


def test_variables_say_where_they_are_set():
    settings = NcclSettings(origins={NAME: "~/.bashrc:12"})

    finding = judged(network(ETH0), {NAME: "ens3"}, settings=settings)

    assert f"{NAME} is set by ~/.bashrc:12" in finding.evidence


def test_nccl_itself_is_believed():
    answer = NcclAnswer(
        library="/x/libnccl.so.2", version=(2, 30, 7), interface="br-03e0aa", address="172.19.0.1"
    )

    finding = judged(network(ETH0, BR), answer=answer)

    assert finding.status is Status.FAIL
    assert "br-03e0aa (172.19.0.1)" in finding.summary
    assert any("eth0 was expected" in line for line in finding.evidence)


def test_nccl_s_own_error_is_shown():
    answer = NcclAnswer(
        library="l", version=(2, 30, 7), error="Bootstrap : no socket interface found"
    )

    finding = judged(network(ETH0), answer=answer)

    assert finding.status is Status.FAIL
    assert "Bootstrap : no socket interface found" in finding.evidence


def test_version_of_the_wheel_decides():
    old = JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": "2.27.3"})
    new = JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": "2.28.9"})

    assert judged(network(VIRBR0, ETH0), build=None, python=old).status is Status.FAIL
    assert judged(network(VIRBR0, ETH0), build=None, python=new).status is Status.PASS
