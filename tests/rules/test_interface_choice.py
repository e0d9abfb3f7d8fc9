"""The models of what each library picks, without a network. The lab has the real libraries."""

import pytest

from gpudoctor import Address, Attempt, Interface, Master, Names, NcclFile, NcclSettings, Network
from gpudoctor import Route as KernelRoute
from gpudoctor.rules.interface_choice import Pick, gloo, nccl, rccl, reach, torch_store


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


LO = nic("lo", "127.0.0.1/8", "::1/128", kind="loopback")
ETH0 = nic("eth0", "10.1.0.1/24")
ETH1 = nic("eth1", "10.2.0.1/24")
ETH10 = nic("eth10", "10.3.0.1/24")
DOCKER0 = nic("docker0", "172.17.0.1/16", kind="bridge")
VIRBR0 = nic("virbr0", "192.168.122.1/24", kind="bridge")
IB0 = nic("ib0", "10.5.0.1/24", kind="infiniband")


def network(*interfaces, usual="") -> Network:
    routes = (KernelRoute(destination="0.0.0.0/0", interface=usual),) if usual else ()
    return Network(interfaces=(LO, *interfaces), routes=routes)


@pytest.mark.parametrize(
    ("interfaces", "told", "version", "picks", "why"),
    [
        pytest.param([DOCKER0, ETH0], {}, (2, 27), "eth0", "not docker* or lo*", id="not docker0"),
        pytest.param([ETH0, IB0], {}, (2, 27), "ib0", "ib*", id="IPoIB first"),
        pytest.param([VIRBR0, ETH0], {}, (2, 27), "virbr0", "not docker*", id="virbr0 of old"),
        pytest.param([VIRBR0, ETH0], {}, (2, 28), "eth0", "virbr*", id="not virbr0 since 2.28"),
        pytest.param([DOCKER0], {}, (2, 32), "docker0", "nothing but", id="docker0 alone"),
        pytest.param([], {}, (2, 32), "lo", "nothing but lo", id="lo alone"),
        pytest.param(
            [ETH10, ETH1], {"NCCL_SOCKET_IFNAME": "eth1"}, None, "eth10", "=", id="prefix"
        ),
        pytest.param([ETH10, ETH1], {"NCCL_SOCKET_IFNAME": "=eth1"}, None, "eth1", "=", id="exact"),
        pytest.param(
            [nic("eth0", "10.1.0.1/24", running=False), ETH1],
            {},
            (2, 27),
            "eth0",
            "",
            id="no carrier",
        ),
        pytest.param(
            [nic("eth0", "10.1.0.1/24", running=False), ETH1], {}, (2, 28), "eth1", "", id="RUNNING"
        ),
        pytest.param(
            [ETH0, ETH1], {"NCCL_COMM_ID": "10.2.0.9:1"}, (2, 28), "eth1", "COMM_ID", id="subnet"
        ),
        pytest.param(
            [ETH0, ETH1], {"NCCL_COMM_ID": "10.2.0.9:1"}, (2, 29), "lo", "COMM_ID", id="inverted"
        ),
        pytest.param(
            [nic("eth0", "fd00::1/64"), ETH1], {}, (2, 32), "eth1", "", id="IPv4 of all comes first"
        ),
    ],
)
def test_nccl(interfaces, told, version, picks, why):
    choice = nccl.bootstrap(network(*interfaces), told, version)

    assert choice.picked[0].interface == picks
    assert why in choice.why


@pytest.mark.parametrize(
    ("told", "error"),
    [
        pytest.param({"NCCL_SOCKET_IFNAME": "ens"}, "no socket interface found", id="no such name"),
        pytest.param({"NCCL_SOCKET_IFNAME": '"eth0"'}, "no socket interface", id="quoted"),
        pytest.param({"NCCL_COMM_ID": "192.0.2.1:1"}, "No usable listening", id="other subnet"),
        pytest.param({"NCCL_COMM_ID": ""}, "Invalid NCCL_COMM_ID", id="empty"),
        pytest.param({"NCCL_SOCKET_FAMILY": "AF_INET6"}, "no socket interface", id="no IPv6"),
    ],
)
def test_nccl_finds_none(told, error):
    choice = nccl.bootstrap(network(ETH0), told, (2, 30))

    assert choice.picked == ()
    assert error in choice.error


def test_nccl_of_an_unknown_version_is_told_only_where_all_agree():
    assert nccl.bootstrap(network(DOCKER0, ETH0), {}, None).picked == (Pick("eth0", "10.1.0.1"),)
    assert (
        "virbr0 since 2.5, eth0 since 2.28"
        in nccl.bootstrap(network(VIRBR0, ETH0), {}, None).unknown
    )


def test_nccl_does_not_resolve_names():
    assert "a name" in nccl.bootstrap(network(ETH0), {"NCCL_COMM_ID": "node0:1"}, (2, 30)).unknown


def test_nccl_sends_data_by_all():
    choice = nccl.sockets(network(ETH0, DOCKER0, nic("br-1", "172.18.0.1/16")), {}, (2, 30))

    assert [pick.interface for pick in choice.picked] == ["eth0", "br-1"]


def test_a_label_is_a_name_of_its_own():
    address = Address(ip="10.1.0.2", prefix=24, label="eth0:1")
    labelled = Interface(index=1, name="eth0", up=True, running=True, addresses=(address,))

    choice = nccl.bootstrap(network(labelled), {"NCCL_SOCKET_IFNAME": "=eth0"}, (2, 30))

    assert choice.error
    assert gloo.choose(network(labelled), "eth0:1", None).picked == (Pick("eth0:1", "10.1.0.2"),)


@pytest.mark.parametrize(
    ("rocm", "level"),
    [
        pytest.param((5, 7), (2, 18), id="older than the table"),
        pytest.param((6, 4), (2, 22), id="6.4"),
        pytest.param((7, 1), (2, 22), id="between two rows: the same rules"),
        pytest.param((7, 2, 3), (2, 27), id="7.2.3"),
        pytest.param((9, 0), None, id="newer than the table"),
    ],
)
def test_rccl(rocm, level):
    assert rccl.nccl_level(rocm) == level


def test_environment_wins_over_files_and_the_first_file_over_the_second():
    files = (
        NcclFile(
            path="/root/.nccl.conf", values={"NCCL_SOCKET_IFNAME": "eth1", "NCCL_DEBUG": "INFO"}
        ),
        NcclFile(path="/etc/nccl.conf", values={"NCCL_SOCKET_IFNAME": "eth2", "NCCL_ALGO": "Ring"}),
    )

    told = NcclSettings(files=files).under({"NCCL_DEBUG": "WARN"})

    assert told == {"NCCL_SOCKET_IFNAME": "eth1", "NCCL_DEBUG": "WARN", "NCCL_ALGO": "Ring"}


@pytest.mark.parametrize(
    ("told", "addresses", "picks", "error"),
    [
        pytest.param("", ["10.1.0.1"], "eth0", "", id="hostname"),
        pytest.param("", ["127.0.1.1"], "lo", "", id="Debian's 127.0.1.1"),
        pytest.param("", [], "lo", "", id="unresolvable"),
        pytest.param("", ["10.9.0.1", "10.2.0.1"], "eth1", "", id="first that is its own"),
        pytest.param("", ["fe80::1"], "lo", "", id="link-local"),
        pytest.param("eth1", ["10.1.0.1"], "eth1", "", id="named"),
        pytest.param("eth", [], "", "Unable to find address for: eth", id="no prefixes"),
        pytest.param("=eth0", [], "", "Unable to find address for: =eth0", id="nor ="),
        pytest.param("eth0,eth9", [], "", "for: eth9", id="one of two"),
        pytest.param(",eth0", [], "", "can't be empty", id="comma"),
        pytest.param("e", ["10.1.0.1"], "eth0", "", id="one letter counts as not set"),
    ],
)
def test_gloo(told, addresses, picks, error):
    names = Names(hostname="node0", addresses=tuple(addresses))

    choice = gloo.choose(network(ETH0, ETH1), told, names)

    assert [pick.interface for pick in choice.picked] == ([picks] if picks else [])
    assert error in choice.error


def test_gloo_needs_the_name_only_where_no_interface_is_named():
    assert gloo.choose(network(ETH0), "eth0", None).picked
    assert gloo.choose(network(ETH0), "", None).unknown
    assert "127.0.0.1" in gloo.choose(Network(), "", Names(hostname="n")).error


@pytest.mark.parametrize(
    ("errors", "picks", "says"),
    [
        pytest.param(["", "ETIMEDOUT"], "eth0", "answers", id="the first answers"),
        pytest.param(["ENETUNREACH", ""], "eth1", "answers", id="the second"),
        pytest.param(["ETIMEDOUT", ""], "eth1", "10.0.0.9 may take minutes", id="silent, then one"),
        pytest.param(["ECONNREFUSED", "EHOSTUNREACH"], "eth0", "waits until", id="not started yet"),
        pytest.param(["ETIMEDOUT", "EHOSTUNREACH"], "eth0", "timed out", id="silent"),
        pytest.param(["EHOSTUNREACH", "ENETUNREACH"], "eth0", "has failed", id="rejected"),
    ],
)
def test_torch_store(errors, picks, says):
    attempts = [
        Attempt(ip=f"10.{n}.0.9", error=error, interface=f"eth{n}", source=f"10.{n}.0.1")
        for n, error in enumerate(errors)
    ]

    choice = torch_store.choose(attempts)

    assert [pick.interface for pick in choice.picked] == ([picks] if picks else [])
    assert says in choice.why + choice.error


BR0 = nic("br0", "10.1.0.1/24", kind="bridge", below=("eth0",))
TUN = nic("tailscale0", "100.64.0.7/32", kind="tun")
POD = nic("eth0", "10.244.1.7/32", kind="veth")


@pytest.mark.parametrize(
    ("there", "ip", "leads", "certain"),
    [
        pytest.param(network(ETH0), "10.1.0.1", "", None, id="healthy: a card"),
        pytest.param(
            network(ETH0, IB0, usual="eth0"), "10.5.0.1", "eth0", None, id="healthy: IPoIB"
        ),
        pytest.param(
            network(ETH0, ETH1, usual="eth0"), "10.2.0.1", "", None, id="healthy: 2nd card"
        ),
        pytest.param(network(nic("eth0"), BR0), "10.1.0.1", "", None, id="healthy: host with VMs"),
        pytest.param(network(POD, usual="eth0"), "10.244.1.7", "", None, id="healthy: a pod"),
        pytest.param(network(POD), "10.244.1.7", "", None, id="healthy: a pod without a way out"),
        pytest.param(network(TUN, ETH0), "100.64.0.7", "tailscale0", None, id="healthy: by VPN"),
        pytest.param(
            network(nic("bond0", "10.1.0.1/24", kind="bond")), "10.1.0.1", "", None, id="bond"
        ),
        pytest.param(network(), "127.0.0.1", "", True, id="loopback"),
        pytest.param(network(DOCKER0), "172.17.0.1", "", True, id="docker0"),
        pytest.param(network(POD, ETH1, usual="eth1"), "10.244.1.7", "", True, id="stray veth"),
        pytest.param(network(TUN, ETH0, usual="eth0"), "100.64.0.7", "eth0", False, id="VPN"),
        pytest.param(
            network(nic("wlan0", "192.168.1.9/24", kind="wireless"), ETH0),
            "192.168.1.9",
            "eth0",
            False,
            id="WLAN beside a cable",
        ),
        pytest.param(
            network(nic("usb0", "169.254.3.1/24"), ETH0), "169.254.3.1", "eth0", False, id="BMC"
        ),
        pytest.param(
            network(nic("eth0", "10.1.0.1/24", running=False)), "10.1.0.1", "", True, id="no cable"
        ),
    ],
)
def test_doubt(there, ip, leads, certain):
    holder = there.holder_of(ip)

    found = reach.doubt(there, Pick(holder.name, ip), leads)

    assert (found.certain if found else None) is certain


@pytest.mark.parametrize(
    ("master", "leads"),
    [
        pytest.param(None, "", id="not told"),
        pytest.param(
            Master(name="n", port=1, addresses=("10.2.0.1",), here=True), "eth1", id="here"
        ),
        pytest.param(Master(name="n", port=1, addresses=("127.0.0.1",), here=True), "", id="lo"),
        pytest.param(
            Master(
                name="n",
                port=1,
                attempts=(
                    Attempt(ip="10.1.0.9", error="ETIMEDOUT", interface="eth0"),
                    Attempt(ip="10.2.0.9", interface="eth1"),
                ),
            ),
            "eth1",
            id="the one that answers",
        ),
        pytest.param(
            Master(name="n", port=1, attempts=(Attempt(ip="10.9.0.9", error="ENETUNREACH"),)),
            "",
            id="no way",
        ),
    ],
)
def test_way_to_the_master(master, leads):
    assert reach.way(network(ETH0, ETH1), master)[0] == leads
