"""What NVML's numbers mean, whose processes are whose, and both vendors in one fact."""

import re

import pytest
from msgspec.structs import replace

from gpudoctor import Absent, Gpu, Gpus, Machine, Pair
from gpudoctor.data import table
from gpudoctor.probes import nvml_library, nvml_values, signs
from gpudoctor.probes.amd_gpus import AmdGpus
from gpudoctor.probes.gpus import gpus, nvml, together
from gpudoctor.probes.nvidia_gpu import descends

GEFORCE = Gpu(vendor="nvidia", index=0)
RADEON = Gpu(vendor="amd", index=0)
NVIDIA = Gpus(
    devices=(GEFORCE,), driver="570.172.08", cuda=(12, 8), sources=("nvml",), remarks=("one",)
)
AMD = AmdGpus(
    devices=(RADEON,),
    pairs=(Pair(one=0, other=1, p2p="ok"),),
    driver="6.12.12",
    sources=("kfd",),
    remarks=("two",),
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        (b"00000000:1B:00.0", "0000:1b:00.0"),
        ("00000001:00:00.0", "0001:00:00.0"),
        ("00010000:3B:00.0", "10000:3b:00.0"),
        ("", ""),
    ],
    ids=["plain", "bytes", "Azure's domain", "a domain of five digits", "none"],
)
def test_bus_id(raw, expected):
    assert nvml_values.bus_id(raw) == expected


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x0, ()),
        (0x1, ("idle",)),
        (0x48, ("hw slowdown", "hw thermal")),
        (0x88, ("hw slowdown", "hw power brake")),
        (0x24, ("sw power cap", "sw thermal")),
        (0x8004, ("sw power cap", "bit 0x8000")),
    ],
)
def test_reasons(bits, expected):
    assert nvml_values.reasons(bits) == expected


@pytest.mark.parametrize(
    ("mask", "summary", "expected"),
    [
        pytest.param(0x0, 0, (), id="nothing is told"),
        pytest.param(0x1AA, 1, (), id="all is well"),
        pytest.param(0x2A9, 2, ("degraded bandwidth", "incorrect system GUID"), id="two faults"),
        pytest.param(0x400, 2, ("no partition",), id="no partition"),
        pytest.param(0x1AA, 2, ("unhealthy",), id="unhealthy for what the mask does not tell"),
        pytest.param(0x1AA, 3, ("limited capacity",), id="limited"),
    ],
)
def test_fabric_health(mask, summary, expected):
    assert nvml_values.unhealthy(mask, summary) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [([0b1], 0), ([0b10], 1), ([0, 0b100], 66), ([0], None), ([0b11], None), ([1, 1], None)],
)
def test_only_bit(words, expected):
    assert nvml_values.only_bit(words) == expected


@pytest.mark.parametrize(
    ("version", "expected"), [(12080, (12, 8)), (13000, (13, 0)), (11040, (11, 4))]
)
def test_cuda_version(version, expected):
    assert nvml_values.cuda(version) == expected


def test_codes_are_those_of_the_binding():
    pynvml = pytest.importorskip("pynvml")
    rows = table("nvml_codes")["codes"]

    assert {row["name"]: getattr(pynvml, row["name"], row["code"]) for row in rows} == {
        row["name"]: row["code"] for row in rows
    }


def test_reasons_are_those_of_the_binding():
    pynvml = pytest.importorskip("pynvml")
    rows = [row for row in table("gpu_throttle")["reasons"] if "nvidia_bit" in row]
    names = {re.findall(r"nvmlClocks\w+", row["source"])[0]: row["nvidia_bit"] for row in rows}

    assert {name: getattr(pynvml, name, bit) for name, bit in names.items()} == names


@pytest.mark.parametrize(
    ("files", "nvidia", "amd"),
    [
        pytest.param({"dev/null": ""}, False, False, id="nothing"),
        pytest.param({"dev/nvidiactl": ""}, True, False, id="a device node"),
        pytest.param({"dev/kfd": ""}, False, True, id="KFD's device node"),
        pytest.param({"dev/dxg": ""}, True, False, id="WSL2"),
        pytest.param({"usr/lib/libcuda.so.1": ""}, True, False, id="only a library"),
        pytest.param({"vendor": "0x10de", "class": "0x030200"}, True, False, id="on the bus"),
        pytest.param({"vendor": "0x10de", "class": "0x040300"}, False, False, id="its sound"),
        pytest.param({"vendor": "0x1002", "class": "0x030000"}, False, True, id="one of AMD's"),
    ],
)
def test_signs_of_a_gpu(tmp_path, files, nvidia, amd):
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    (tmp_path / "dev").mkdir()
    device.mkdir(parents=True)
    for name, text in files.items():
        path = tmp_path / name if "/" in name else device / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine = Machine(root=str(tmp_path), env={})

    assert bool(signs.no_nvidia(machine)) is not nvidia
    assert bool(signs.no_amd(machine)) is not amd
    assert bool(signs.no_gpu(machine)) is not (nvidia or amd)


def test_nothing_is_loaded_where_nothing_is(tmp_path):
    (tmp_path / "dev").mkdir()

    assert nvml_library.load(Machine(root=str(tmp_path), env={})) is None


def test_a_recorded_tree_is_not_asked(tmp_path):
    machine = Machine(root=str(tmp_path))

    for look in (gpus, nvml):
        found = look(machine)
        assert isinstance(found, Absent)
        assert not found.broken


@pytest.mark.parametrize(
    ("pid", "expected"),
    [(10, True), (20, True), (30, True), (1, False), (40, False), (99, False)],
    ids=["itself", "child", "grandchild", "init", "stranger", "not visible"],
)
def test_own_processes_are_known_by_their_parents(tmp_path, pid, expected):
    for child, parent in ((10, 1), (20, 10), (30, 20), (40, 1)):
        folder = tmp_path / f"proc/{child}"
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{child} (a b) c) S {parent} {child} 0\n")

    assert descends(Machine(root=str(tmp_path)), pid, ancestor=10) is expected


@pytest.mark.parametrize(
    ("nvidia", "amd", "expected"),
    [
        pytest.param(NVIDIA, None, NVIDIA, id="NVIDIA"),
        pytest.param(Absent("none"), None, Absent("none"), id="neither"),
        pytest.param(Absent("no", True), None, Absent("no", True), id="NVIDIA is silent"),
        pytest.param(
            Absent("none"),
            AMD,
            Gpus(
                devices=AMD.devices,
                pairs=AMD.pairs,
                driver=AMD.driver,
                sources=("kfd",),
                remarks=("two",),
            ),
            id="AMD",
        ),
        pytest.param(
            Absent("no", True),
            AMD,
            Gpus(
                devices=AMD.devices,
                pairs=AMD.pairs,
                driver=AMD.driver,
                sources=("kfd",),
                remarks=("no", "two"),
            ),
            id="AMD, and NVIDIA is silent",
        ),
        pytest.param(
            NVIDIA,
            replace(AMD, pairs=()),
            Gpus(
                devices=(GEFORCE, RADEON),
                driver="570.172.08",
                cuda=(12, 8),
                sources=("nvml", "kfd"),
                remarks=("one", "two"),
            ),
            id="both",
        ),
    ],
)
def test_both_vendors_make_one_fact(nvidia, amd, expected):
    assert together(nvidia, amd) == expected
