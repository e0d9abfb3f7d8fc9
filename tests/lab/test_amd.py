"""Two MI300X that are not there: a fake tree over /sys, the real amdsmi over a fake library."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpudoctor import EnvSet, Gpus, Group, Status
from gpudoctor.report import Report, Result

from .fake_amdsmi.layout import SOURCE, header
from .fake_sysfs.amd import RADEON, RAPHAEL, Card, mi300x, plant, write
from .fake_sysfs.over import laid_over

FAIL, WARN = Status.FAIL, Status.WARN
AMDSMI = "7.0.2"
FIRST, SECOND = mi300x()
CONFIG = f"count=2\ngpu0.bdf={FIRST.bus_id}\ngpu1.bdf={SECOND.bus_id}\n"


@pytest.fixture
def facts(in_mounts, gpudoctor, require, tmp_path):
    """`facts(cards, **env)`: the fact `gpus`, collected where these cards are planted."""
    require(os.geteuid() == 0, "device nodes and mounts over /sys need root")

    def collect(cards: list[Card], **env: str) -> Gpus:
        file = tmp_path / "facts.json"
        script = laid_over(plant(tmp_path / "tree", cards))
        command = [gpudoctor, "collect", "--redact", "none", "-o", str(file)]
        path = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        ended = in_mounts(script, command, env={**path, **env})
        assert file.exists(), ended.stderr
        found: Any = json.loads(file.read_text())["nodes"][0]["facts"]["gpus"]
        return msgspec.convert(found, Gpus)

    return collect


@pytest.fixture
def check(in_mounts, gpudoctor, require, tmp_path):
    """`check(cards)`: results of the gpu checks where these cards are planted."""
    require(os.geteuid() == 0, "device nodes and mounts over /sys need root")

    def run(
        cards: list[Card], nodes: str = "", under: tuple[str, ...] = (), **env: str
    ) -> dict[str, Result]:
        script = laid_over(plant(tmp_path / "tree", cards), nodes)
        path = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        program = env.pop("gpudoctor", gpudoctor)
        command = [*under, program, "check", "-f", "json", "gpu"]
        ended = in_mounts(script, command, env={**path, **env})
        assert ended.stdout, ended.stderr
        report = msgspec.json.decode(ended.stdout, type=Report)
        return {result.id: result for result in report.results}

    return run


@pytest.fixture(scope="session")
def binding(downloaded) -> Path:
    """A directory with the amdsmi of PyPI."""
    return downloaded(f"amdsmi=={AMDSMI}")


@pytest.fixture
def smi(binding, compiled, tmp_path):
    """`smi(lines, without)`: variables that lead to the binding and a library for it."""

    def prepare(lines: str = "", *without: str) -> dict[str, str]:
        folder = tmp_path / "lib"
        write(folder / "layout.h", header(binding / "amdsmi/amdsmi_wrapper.py", without))
        compiled(SOURCE, folder / "libamd_smi.so", f"-I{folder}")
        config = tmp_path / "amdsmi.conf"
        config.write_text(CONFIG + lines)
        return {
            "PYTHONPATH": str(binding),
            "LD_LIBRARY_PATH": str(folder),
            "FAKE_AMDSMI_CONFIG": str(config),
        }

    return prepare


def test_without_any_library(facts):
    found = facts(mi300x())

    assert [gpu.bus_id for gpu in found.devices] == [FIRST.bus_id, SECOND.bus_id]
    assert [gpu.throttle for gpu in found.devices] == [None, None]
    assert found.sources == ("kfd", "sysfs")
    assert found.remarks == ("amdsmi is not installed: throttling is not known",)


def test_with_a_library_that_matches(facts, smi):
    pid = os.getpid()
    lines = f"gpu1.hbm_thrm=1\ngpu1.process.name=train\ngpu1.process.pid={pid}\ngpu1.xgmi_error=1\n"
    cards = [FIRST, replace(SECOND, processes=f"{pid}:{1 << 30}")]
    found = facts(cards, **smi(lines))
    first, second = found.devices

    assert found.sources == ("kfd", "sysfs", "amdsmi")
    assert found.remarks == ()
    assert first.name == second.name == "AMD Instinct MI300X OAM"
    assert (first.throttle, second.throttle) == ((), ("memory thermal",))
    assert [process.pid for process in second.processes] == [pid]
    assert (first.unread, second.unread) == ({}, {})


@pytest.mark.parametrize("broken", ["installed", "rocm/share/amd_smi"])
def test_rocms_own_copy_and_the_installed_one(broken, facts, smi, binding, tmp_path):
    env = smi()
    shutil.copytree(env.pop("LD_LIBRARY_PATH"), tmp_path / "rocm/lib")
    for folder in ("installed", "rocm/share/amd_smi"):
        shutil.copytree(binding / "amdsmi", tmp_path / folder / "amdsmi")
    (tmp_path / broken / "amdsmi/__init__.py").write_text("raise RuntimeError('broken')")
    paths = {"PYTHONPATH": f"{tmp_path}/installed", "ROCM_PATH": f"{tmp_path}/rocm"}
    found = facts(mi300x(), **{**env, **paths})

    assert found.sources == ("kfd", "sysfs", "amdsmi")
    where = f"amdsmi of {tmp_path}/{broken} cannot be used: RuntimeError: broken"
    assert found.remarks == (() if broken == "installed" else (where,)), "ROCm's is tried first"


@pytest.mark.parametrize(
    ("lines", "without", "says"),
    [
        pytest.param("", "amdsmi_get_fw_info", "undefined symbol: amdsmi_get_fw_info", id="short"),
        pytest.param("err.amdsmi_init=34\n", "", "amdsmi cannot be used", id="no driver"),
        pytest.param("crash.amdsmi_init=1\n", "", "SIGABRT", id="aborts"),
        pytest.param("hang.amdsmi_init=60\n", "", "no answer in 5 s", id="hangs"),
        pytest.param("err.amdsmi_get_socket_handles=4\n", "", "cannot be used", id="no handles"),
    ],
)
def test_with_a_library_that_fails(lines, without, says, facts, smi):
    found = facts(mi300x(), **smi(lines, *filter(None, [without])))

    assert [gpu.ecc_uncorrected for gpu in found.devices] == [0, 0], "sysfs was read all the same"
    assert found.sources == ("kfd", "sysfs")
    assert says in " ".join(found.remarks)


def test_with_a_binding_that_has_no_library(facts, binding):
    found = facts(mi300x(), PYTHONPATH=str(binding))

    assert len(found.alive) == 2
    assert "the installed amdsmi cannot be used: KeyError: 'libamd_smi.so'" in found.remarks


@pytest.mark.parametrize(
    ("error", "unread"),
    [
        pytest.param(2, set(), id="not supported"),
        pytest.param(43, {"name"}, id="another error"),
    ],
)
def test_an_error_of_one_call(error, unread, facts, smi):
    found = facts(mi300x(), **smi(f"gpu1.err.amdsmi_get_gpu_asic_info={error}\n"))

    assert set(found.devices[1].unread) == unread
    assert found.devices[1].name == "AMD Instinct MI300X"
    assert found.devices[0].name == "AMD Instinct MI300X OAM"


@pytest.mark.parametrize(
    "cards",
    [
        pytest.param(mi300x(), id="2 MI300X"),
        pytest.param(mi300x(8), id="8 MI300X"),
        pytest.param([RADEON], id="a Radeon"),
        pytest.param([replace(RADEON, speed="2.5 GT/s PCIe")], id="a Radeon at rest"),
        pytest.param([replace(RADEON, asleep=True)], id="a Radeon asleep"),
    ],
)
def test_healthy(cards, check):
    found = check(cards)

    worse = {i: r.summary for i, r in found.items() if r.status in (FAIL, WARN)}
    assert not worse
    assert found["gpu-visible"].status is Status.PASS


def test_a_radeon_beside_the_processors_own(check):
    found = check([RADEON, RAPHAEL])

    worse = {id_ for id_, result in found.items() if result.status in (FAIL, WARN)}
    assert worse == {"gpu-same-model"}, "ROCm would use both"
    assert found["gpu-same-model"].settings == (EnvSet("HIP_VISIBLE_DEVICES", "0"),)


@pytest.mark.parametrize(
    ("cards", "id_", "status", "says"),
    [
        pytest.param([FIRST, replace(SECOND, ue=4)], "gpu-ecc", FAIL, "4 uncorrected", id="RAS"),
        pytest.param([FIRST, replace(SECOND, width=4)], "gpu-pcie-width", FAIL, "x4", id="narrow"),
        pytest.param(
            [FIRST, replace(SECOND, bad_pages="0x1 : 0x1000 : P")],
            "gpu-remap",
            WARN,
            "GPU 1",
            id="bad page",
        ),
        pytest.param(
            [FIRST, replace(SECOND, compute="CPX", partitions=8)],
            "gpu-partition",
            WARN,
            "CPX",
            id="partitions differ",
        ),
        pytest.param(
            [FIRST, replace(SECOND, hive=0)], "gpu-xgmi", FAIL, "GPUs 0, 1", id="no XGMI link"
        ),
        pytest.param(
            [FIRST, replace(SECOND, kfd=False)], "gpu-count", FAIL, "KFD", id="missing in KFD"
        ),
        pytest.param([FIRST, replace(SECOND, width=63)], "gpu-count", FAIL, "fell off", id="gone"),
        pytest.param(
            [FIRST, replace(SECOND, limit=300)], "gpu-power-limit", WARN, "300 W", id="power limit"
        ),
    ],
)
def test_fault(cards, id_, status, says, check):
    found = check(cards)

    assert found[id_].status is status, found[id_]
    assert says in " ".join([found[id_].summary, *found[id_].evidence])
    assert found["gpu-driver"].status is Status.PASS, "all else is still reported"


@pytest.mark.parametrize(
    ("groups", "fails"),
    [
        pytest.param(["--clear-groups"], True, id="in no group"),
        pytest.param(["--groups=4711"], False, id="in the group"),
    ],
)
def test_a_missing_group(groups, fails, check, installed):
    nodes = "chgrp 4711 kfd dri/*; chmod 0660 kfd dri/*"
    under = ("setpriv", "--reuid=1000", "--regid=1000", *groups)
    found = check(mi300x(), nodes, under, gpudoctor=str(installed / "bin/gpudoctor"))

    assert (found["gpu-permission"].status is Status.FAIL) is fails, found["gpu-permission"]
    if fails:
        assert found["gpu-permission"].settings == (Group(4711),)
