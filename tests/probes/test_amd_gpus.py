"""probes/amd_gpus.py over trees as KFD and amdgpu write them; no library, no GPU."""

import errno
import os
import re
import threading
from dataclasses import replace

import pytest

from gpudoctor import Gpu, GpuProcess, Link, Machine, Pair
from gpudoctor.data import table
from gpudoctor.probes.amd_gpus import amd_gpus
from gpudoctor.probes.amd_kfd import arch_of, bus_id_of, parse_properties
from gpudoctor.probes.amd_sysfs import parse_bad_pages, parse_errors
from tests.lab.fake_sysfs.amd import MI300X, RADEON, RAPHAEL, mi300x, plant, write

FIRST, SECOND = "0000:05:00.0", "0000:15:00.0"


def look(tmp_path, cards):
    found = amd_gpus(Machine(str(plant(tmp_path, cards))))
    assert found is not None
    return found


def test_two_mi300x(tmp_path):
    found = look(tmp_path, mi300x())
    first, second = found.devices

    assert first == Gpu(
        vendor="amd",
        index=0,
        bus_id=FIRST,
        name="AMD Instinct MI300X",
        uuid="GPU-00000000abcd0000",
        arch="gfx942",
        integrated=False,
        render_node="renderD128",
        memory_bytes=206141652992,
        memory_used_bytes=298844160,
        busy_percent=0,
        processes=(),
        ecc_enabled=True,
        ecc_uncorrected=0,
        ecc_corrected_total=0,
        pages_retired=0,
        pages_pending=False,
        temperature_c=45,
        temperature_slowdown_c=100,
        temperature_memory_c=38,
        power_w=150.0,
        power_limit_w=750.0,
        power_default_w=750.0,
        clock_mhz=132,
        clock_max_mhz=2100,
        pcie_gen=5,
        pcie_gen_max=5,
        pcie_width=16,
        pcie_width_max=16,
        pcie_replays=0,
        numa_node=0,
        partition_compute="SPX",
        partition_memory="NPS1",
        links=(Link(number=0, active=True, peer=SECOND, errors=0),),
    )
    assert (second.index, second.bus_id, second.numa_node) == (1, SECOND, 1)
    assert found.pairs == (Pair(one=0, other=1, p2p="ok", path="XGMI"),)
    assert found.driver == "6.12.12"
    assert found.sources == ("kfd", "sysfs")
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        pytest.param(
            {"ue": 4, "ce": 7}, {"ecc_uncorrected": 4, "ecc_corrected_total": 7}, id="RAS"
        ),
        pytest.param(
            {"bad_pages": "0x0003a0 : 0x00001000 : R\n0x0003a1 : 0x00001000 : R"},
            {"pages_retired": 2, "pages_pending": False},
            id="bad pages",
        ),
        pytest.param(
            {"bad_pages": "0x0003a0 : 0x00001000 : P"},
            {"pages_retired": 0, "pages_pending": True},
            id="a bad page is to be retired",
        ),
        pytest.param({"width": 8}, {"pcie_width": 8, "pcie_width_max": 16}, id="narrow link"),
        pytest.param({"width": 8, "slot_width": 8}, {"pcie_width_max": 8}, id="narrow slot"),
        pytest.param({"speed": "2.5 GT/s PCIe"}, {"pcie_gen": 1, "pcie_gen_max": 5}, id="gen 1"),
        pytest.param({"speed": "Unknown"}, {"pcie_gen": None}, id="speed not known"),
        pytest.param({"compute": "CPX"}, {"partition_compute": "CPX"}, id="compute partition"),
        pytest.param({"memory_mode": "NPS4"}, {"partition_memory": "NPS4"}, id="memory partition"),
        pytest.param({"compute": ""}, {"partition_compute": None}, id="cannot be partitioned"),
        pytest.param({"replays": 12}, {"pcie_replays": 12}, id="replays"),
        pytest.param({"busy": 97, "used": 9 << 30}, {"busy_percent": 97}, id="busy"),
        pytest.param(
            {"processes": "4711:1073741824,4712:0"},
            {"processes": (GpuProcess(pid=4711, memory_bytes=1 << 30, visible=False),)},
            id="a process of who knows which pid namespace",
        ),
        pytest.param(
            {"xgmi_errors": 3},
            {"links": (Link(number=0, active=True, peer=SECOND, errors=3),), "ecc_uncorrected": 0},
            id="XGMI errors are no ECC errors",
        ),
        pytest.param({"hive": 0, "xgmi_engines": 0}, {"links": None}, id="has no XGMI"),
        pytest.param({"hive": 0}, {"links": ()}, id="has XGMI, and no link"),
        pytest.param({"numa": -1}, {"numa_node": None}, id="one NUMA node"),
        pytest.param({"temperature": 101}, {"temperature_c": 101}, id="hot"),
        pytest.param({"limit": 400}, {"power_limit_w": 400, "power_default_w": 750}, id="limited"),
        pytest.param({"ras": False}, {"ecc_enabled": None, "ecc_uncorrected": None}, id="no RAS"),
        pytest.param({"name": "AMD Instinct MI300X OAM"}, {"name": "AMD Instinct MI300X OAM"}),
        pytest.param({"device": "0x7fff"}, {"name": "AMD gfx942"}, id="a name nobody knows"),
        pytest.param({"gfx": 130000}, {"arch": "gfx1300", "integrated": None}, id="new arch"),
        pytest.param({"render": False}, {"render_node": "renderD128", "lost": ""}, id="no node"),
        pytest.param(
            {"width": 63}, {"lost": "fell off the PCI bus: its registers read as all ones"}
        ),
        pytest.param(
            {"kfd": False},
            {"lost": "not in KFD's topology: ROCm cannot use it", "ecc_uncorrected": 0},
            id="missing in KFD",
        ),
    ],
)
def test_one_of_two_differs(change, fields, tmp_path):
    found = look(tmp_path, [replace(MI300X, **change), mi300x()[1]])
    first, second = sorted(found.devices, key=lambda gpu: gpu.bus_id)

    assert {name: getattr(first, name) for name in fields} == fields
    assert (second.lost, second.ecc_uncorrected, second.pcie_width) == ("", 0, 16)
    assert first.unread == {}


def test_a_gpu_whose_pci_device_is_not_visible_is_listed(tmp_path):
    plant(tmp_path, mi300x())
    (tmp_path / "sys/bus/pci/devices" / SECOND).unlink()
    found = amd_gpus(Machine(str(tmp_path)))

    assert found is not None
    assert [(gpu.bus_id, gpu.arch) for gpu in found.devices] == [
        (FIRST, "gfx942"),
        (SECOND, "gfx942"),
    ]
    assert found.devices[1].pcie_width is None


def test_gpus_are_in_the_order_of_hip(tmp_path):
    """That of KFD's nodes, in which drivers came up; what KFD does not have comes last."""
    cards = [replace(MI300X, bus=bus, kfd=bus != 0x05) for bus in (0x25, 0x05, 0x15)]
    found = look(tmp_path, cards)

    assert [gpu.bus_id[5:7] for gpu in found.devices] == ["25", "15", "05"]
    assert [gpu.index for gpu in found.devices] == [0, 1, 2]
    assert [(pair.one, pair.other) for pair in found.pairs] == [(0, 1)]


def test_a_missing_render_node_is_said(tmp_path):
    found = look(tmp_path, [MI300X, replace(mi300x()[1], render=False)])

    assert found.remarks == (f"/dev/dri/renderD129 is not in here: ROCm leaves {SECOND} out",)


def test_desktop(tmp_path):
    found = look(tmp_path, [RADEON, RAPHAEL])
    card, processor = found.devices

    assert (card.name, card.integrated, card.partition_compute) == (
        "AMD Radeon RX 7900",
        False,
        None,
    )
    assert (processor.name, processor.integrated) == ("AMD gfx1036 (integrated)", True)
    assert card.links is card.ecc_enabled is card.pages_retired is None
    assert found.pairs == ()


@pytest.mark.parametrize(
    ("width", "slot", "seen"), [(16, 16, (16, 16)), (4, 4, (4, 4)), (8, 16, (8, 16))]
)
def test_the_link_of_a_radeon_is_that_of_its_own_switch(width, slot, seen, tmp_path):
    (card,) = look(tmp_path, [replace(RADEON, width=width, slot_width=slot)]).devices

    assert (card.pcie_width, card.pcie_width_max) == seen


def test_a_sleeping_gpu_is_not_asked_for_its_sensors(tmp_path):
    (card,) = look(tmp_path, [replace(RADEON, asleep=True)]).devices

    assert card.temperature_c is card.power_w is card.pcie_width is card.busy_percent is None
    assert card.memory_bytes == 24 << 30


@pytest.mark.parametrize(
    ("cards", "p2p"),
    [
        pytest.param([RADEON, replace(RADEON, bus=0x43)], "not offered by the driver", id="none"),
        pytest.param(
            [replace(RADEON, p2p=[1]), replace(RADEON, bus=0x43, p2p=[0])], "ok", id="large BAR"
        ),
    ],
)
def test_direct_access_over_pcie(cards, p2p, tmp_path):
    (pair,) = look(tmp_path, cards).pairs

    assert pair.p2p == p2p
    assert pair.path == ("PCIe" if p2p == "ok" else "")


def test_an_older_kernel_does_not_say_who_reaches_whom(tmp_path):
    plant(tmp_path, [RADEON, replace(RADEON, bus=0x43)])
    for number in (1, 2):
        file = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}/properties"
        file.write_text(file.read_text().replace("p2p_links_count 0\n", ""))
    found = amd_gpus(Machine(str(tmp_path)))

    assert found is not None
    assert found.pairs == ()


def test_partitions(tmp_path):
    cards = [replace(card, partitions=8, compute="CPX") for card in mi300x()]
    found = look(tmp_path, cards)

    assert len(found.devices) == 16
    assert found.devices[0].memory_bytes == 206141652992 // 8
    assert found.devices[0].memory_used_bytes is None, "that of the whole device"
    assert [link.peer for link in found.devices[0].links or ()] == [SECOND]
    assert len(found.pairs) == 16 * 15 // 2


@pytest.mark.parametrize(
    ("denied", "left", "says"),
    [
        pytest.param(["2"], [FIRST], "1 more on this machine", id="one of two"),
        pytest.param(["1", "2"], [], "2 on this machine", id="both, as without /dev/dri"),
    ],
)
def test_gpus_of_somebody_else_are_not_lost(denied, left, says, tmp_path):
    class Denying(Machine):
        """Its device cgroup denies GPUs: KFD answers EPERM for their nodes."""

        def read(self, path):
            if path.endswith(tuple(f"nodes/{node}/gpu_id" for node in denied)):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            return super().read(path)

    found = amd_gpus(Denying(str(plant(tmp_path, mi300x()))))

    assert found is not None
    assert [gpu.bus_id for gpu in found.devices] == left
    assert found.remarks == (f"{says}, which this container may not use",)


def test_what_cannot_be_read_is_said(tmp_path):
    class Refusing(Machine):
        def read(self, path):
            if path.endswith("umc_err_count"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(path)

    found = amd_gpus(Refusing(str(plant(tmp_path, mi300x(1)))))

    assert found is not None
    assert found.devices[0].unread == {"ecc_uncorrected": "EIO: Input/output error"}


@pytest.mark.parametrize(
    "cards",
    [
        pytest.param([], id="no card"),
        pytest.param([replace(RADEON, kfd=False)], id="a display card that KFD does not take"),
        pytest.param([replace(RADEON, kfd=False, driver="vfio-pci")], id="given to a guest"),
    ],
)
def test_no_amd_gpu(cards, tmp_path):
    assert amd_gpus(Machine(str(plant(tmp_path, cards)))) is None


def test_the_driver_in_the_kernel_has_no_version(tmp_path):
    plant(tmp_path, mi300x(), driver="")
    found = amd_gpus(Machine(str(tmp_path)))

    assert found is not None
    assert found.driver == ""


def test_half_a_topology(tmp_path):
    plant(tmp_path, mi300x())
    node = "sys/class/kfd/kfd/topology/nodes"
    write(tmp_path / node / "2/gpu_id", "")
    write(tmp_path / node / "3/gpu_id", "50003")
    found = amd_gpus(Machine(str(tmp_path)))

    assert found is not None
    assert [gpu.lost for gpu in found.devices] == ["", "not in KFD's topology: ROCm cannot use it"]


@pytest.mark.parametrize(
    ("version", "arch"),
    [(90402, "gfx942"), (90010, "gfx90a"), (90012, "gfx90c"), (110001, "gfx1101"), (0, "")],
)
def test_arch(version, arch):
    assert arch_of(version) == arch


@pytest.mark.parametrize(
    ("domain", "location", "bus_id"),
    [
        (0, 0x0500, FIRST),
        (0, 0x70000500, FIRST),
        (2, 0x8101, "0002:81:00.1"),
        (0, 0xF8, "0000:00:1f.0"),
    ],
)
def test_bus_id(domain, location, bus_id):
    assert bus_id_of(domain, location) == bus_id


def test_properties_that_are_no_numbers():
    assert parse_properties("simd_count 4\nname x\nbroken\ndrm_render_minor -1") == {
        "simd_count": 4
    }


@pytest.mark.parametrize(
    ("text", "counts"),
    [("ue: 1\nce: 2", (1, 2)), ("ue: 1\nce: 2\nde: 9", (1, 2)), ("", (0, 0)), ("x", (0, 0))],
)
def test_errors(text, counts):
    assert parse_errors(text) == counts


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("", (0, False)),
        ("0x1 : 0x1000 : R\n0x2 : 0x1000 : R", (2, False)),
        ("0x1 : 0x1000 : R\n0x2 : 0x1000 : F", (1, True)),
    ],
)
def test_bad_pages(text, pages):
    assert parse_bad_pages(text) == pages


def test_a_gpu_that_never_answers_does_not_hide_the_others(tmp_path, monkeypatch):
    plant(tmp_path, mi300x())
    stuck = threading.Event()

    class Stuck(Machine):
        def read(self, path):
            if SECOND in path:
                stuck.wait()
            return super().read(path)

    monkeypatch.setattr("gpudoctor.probes.amd_gpus.ANSWER_SECONDS", 2.0)
    found = amd_gpus(Stuck(str(tmp_path)))
    stuck.set()

    assert found is not None
    assert [bool(gpu.lost) for gpu in found.devices] == [False, True]
    assert found.devices[1].bus_id == SECOND


@pytest.mark.parametrize(("arch", "row"), table("amd_gpus")["archs"].items())
def test_architectures_are_whole(arch, row):
    assert re.fullmatch(r"gfx\d{1,2}[0-9a-f]{2}", arch)
    assert arch.startswith(row["family"].partition("-")[0])
    assert row.keys() <= {"family", "wheels", "override", "hangs", "apu"}
    assert not (row.get("wheels") and row.get("override")), "where there is code, none is needed"


def test_names_are_by_device_id():
    assert all(re.fullmatch(r"0x[0-9a-f]{4}", device) for device in table("amd_gpus")["names"])
