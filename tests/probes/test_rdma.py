"""probes/rdma.py on composed and recorded trees, and on this machine."""

from pathlib import Path

import pytest

from gpudoctor import Absent, Gid, Machine, NcclPlugins, Rdma, RdmaDevice, RdmaPort
from gpudoctor.collect import collect
from gpudoctor.probes import linker
from gpudoctor.probes.rdma import nccl_plugins, nothing, parse_rate, rdma

from . import record

RECORDED = Path(__file__).parent / "recorded" / "rdma"
LOCAL = "fe80:0000:0000:0000:"
IPV4 = "0000:0000:0000:0000:0000:ffff:"


@pytest.fixture
def planted(tmp_path):
    """The machine that a text describes."""

    def plant(name: str, **env: str) -> Machine:
        record.plant((RECORDED / f"{name}.txt").read_text(), tmp_path)
        return Machine(str(tmp_path), env=env)

    return plant


def looked(machine: Machine) -> Rdma:
    found = rdma(machine)
    assert isinstance(found, Rdma)
    return found


def test_infiniband(planted):
    found = looked(planted("infiniband"))

    assert [device.name for device in found.devices] == [f"mlx5_{n}" for n in range(8)]
    assert found.devices[3] == RdmaDevice(
        name="mlx5_3",
        driver="mlx5_core",
        pci="0000:58:00.0",
        numa_node=0,
        uverbs="uverbs3",
        link_gen=5,
        link_gen_max=5,
        link_width=16,
        link_width_max=16,
        ports=(
            RdmaPort(
                number=1,
                state="ACTIVE",
                physical_state="LinkUp",
                rate_gbps=400.0,
                link_layer="InfiniBand",
                interface="ibp58s0",
                gids=(
                    Gid(index=0, gid="fe80:0000:0000:0000:a088:c203:0058:3a58", type="IB/RoCE v1"),
                ),
                counters={"link_downed": 212, "symbol_error": 41},
            ),
        ),
    )
    assert found.devices[0].ports[0].counters == {}
    assert found.libibverbs == "/usr/lib64/libibverbs.so.1"
    assert "libmlx5" in found.providers
    assert found.peer_memory == ("nvidia_peermem",)
    assert found.dma_buf is False, "that module is not the open one"


def test_roce_in_a_container(planted):
    found = looked(planted("roce"))
    first, bond = found.devices[0], found.devices[2]

    assert [gid.index for gid in first.ports[0].gids] == [0, 1, 2, 3]
    assert first.ports[0].gids[3] == Gid(
        index=3, gid=f"{IPV4}0a00:0001", type="RoCE v2", interface="ens0np0"
    )
    assert first.ports[0].interface == "ens0np0"
    assert first.ports[0].counters == {"out_of_sequence": 90211, "packet_seq_err": 3}
    assert (bond.name, bond.ports[0].interface, bond.ports[0].rate_gbps) == (
        *("mlx5_bond_0", "bond0", 25.0),
    )
    assert (found.libibverbs, found.providers) == ("", ())
    assert found.dma_buf is True, "the open module, and Linux 6.8"


def test_efa(planted):
    found = looked(planted("efa"))

    assert {device.driver for device in found.devices} == {"efa"}
    assert {device.ports[0].link_layer for device in found.devices} == {"Unknown"}
    assert found.providers == ("libefa", "libmlx5")


def test_amd(planted):
    found = looked(planted("mi300x"))

    assert found.devices[1].driver == "bnxt_en"
    assert found.peer_memory == ("amdkfd",)
    assert found.dma_buf is True


def test_soft_roce(planted):
    (device,) = looked(planted("soft-roce")).devices

    assert (device.name, device.driver, device.pci, device.uverbs) == (
        *("rxe0", "rdma_rxe", "", "uverbs0"),
    )
    assert device.ports[0].interface == "eth9"
    assert [gid.type for gid in device.ports[0].gids] == ["RoCE v2", "RoCE v2"]
    assert device.ports[0].gids[1].gid == f"{IPV4}0a51:0001"


def test_a_card_whose_driver_makes_no_device(planted):
    machine = planted("without-mlx5_ib")

    assert nothing(machine) == ""
    assert looked(machine).unclaimed == ("0000:18:00.0",), "the other one is for Ethernet"


def test_nothing_here(planted):
    machine = planted("none")

    assert "/sys/class/infiniband is empty" in nothing(machine)
    assert rdma(machine) == Absent(nothing(machine))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        pytest.param("400 Gb/sec (4X NDR)", 400.0, id="NDR"),
        pytest.param("2.5 Gb/sec (1X SDR)", 2.5, id="Soft-RoCE"),
        pytest.param("", None, id="empty"),
        pytest.param("Unknown", None, id="unknown"),
    ],
)
def test_rates(text, rate):
    assert parse_rate(text) == rate


def test_gids_after_a_gap(planted, tmp_path):
    machine = planted("roce")
    place = tmp_path / "sys/class/infiniband/mlx5_0/ports/1"
    for index in range(6, 24):
        (place / f"gids/{index}").write_text("0000:" * 7 + "0000\n")
    (place / "gids/24").write_text(f"{IPV4}0a02:0001\n")
    (place / "gid_attrs/types/24").write_text("RoCE v2\n")

    gids = looked(machine).devices[0].ports[0].gids

    assert [gid.index for gid in gids] == [0, 1, 2, 3, 24]


def test_plugins_are_found_where_the_linker_looks(planted):
    machine = planted("efa", LD_LIBRARY_PATH="/gone:/opt/amazon/ofi-nccl/lib")
    file = "/opt/amazon/ofi-nccl/lib/libnccl-net-ofi.so"

    assert nccl_plugins(machine) == NcclPlugins(files=(file,))
    assert nccl_plugins(Machine(machine.root, env={})) == NcclPlugins(), "not in sight"


def test_plugins_that_are_asked_for(planted, tmp_path):
    (tmp_path / "usr/lib64").mkdir(parents=True)
    (tmp_path / "usr/lib64/libours.so").touch()
    machine = planted("none", NCCL_NET_PLUGIN="/usr/lib64/libours.so,libours.so")

    found = nccl_plugins(machine)

    assert found.has("/usr/lib64/libours.so")
    assert found.has("libours.so")
    assert not found.has("ours")


def test_plugins_that_a_file_asks_for(planted, tmp_path):
    machine = planted("none")
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/nccl.conf").write_text("NCCL_NET_PLUGIN=/opt/libours.so\n")
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/libours.so").touch()

    assert nccl_plugins(machine) == NcclPlugins(files=("/opt/libours.so",))


def test_plugins_that_nobody_asks_for(planted):
    found = nccl_plugins(planted("none"))

    assert isinstance(found, Absent)
    assert "is asked for" in found.absent


def test_the_linker_takes_the_first(tmp_path):
    for folder in ("own", "usr/lib/x86_64-linux-gnu", "usr/lib"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "liba.so.1").touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_text(
        "glibc-ld.so.cache1.1\0liba.so.1\0/usr/lib/x86_64-linux-gnu/liba.so.1\0"
        "libgone.so.1\0/usr/lib/x86_64-linux-gnu/libgone.so.1"
    )
    machine = Machine(str(tmp_path), env={"LD_LIBRARY_PATH": ":/own"})
    plain = Machine(str(tmp_path), env={})

    assert linker.find(machine, "liba.so.1") == "/own/liba.so.1"
    assert linker.find(plain, "liba.so.2", "liba.so.1") == "/usr/lib/x86_64-linux-gnu/liba.so.1"
    assert linker.find(plain, "libgone.so.1") == ""
    assert linker.find_all(plain, r"liba\.so\.\d") == (
        "/usr/lib/x86_64-linux-gnu/liba.so.1",
        "/usr/lib/liba.so.1",
    )


def test_this_machine():
    """As the engine asks: no card that hangs, no device node that is in the way."""
    found = collect([rdma, nccl_plugins], Machine())

    assert all(not (isinstance(f, Absent) and f.broken) for f in found.facts.values())
