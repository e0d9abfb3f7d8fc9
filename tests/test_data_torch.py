"""cuda_compat.py and its tables: their shape, and what must follow from them."""

import itertools
import re

import pytest

from gpudoctor.data import table
from gpudoctor.rules.cuda_compat import (
    bad_nccl,
    code_for,
    nccl_of_wheel,
    newest_cuda,
    oldest_driver,
    runs,
    version_of,
    wheel_archs,
    wheel_for,
)

DRIVERS, WHEELS = table("cuda_driver"), table("torch_wheels")


def test_toolkits_are_the_newest_first():
    releases = [(row["cuda"], version_of(row["driver"])) for row in DRIVERS["toolkits"]]

    assert releases == sorted(releases, reverse=True)


def test_a_family_begins_at_or_before_its_first_toolkit():
    first = {row["cuda"][0]: row["driver"] for row in DRIVERS["toolkits"]}
    for row in DRIVERS["families"]:
        if row["major"] > 11:  # 450.80.02 came after 11.0's own 450.51.06
            assert version_of(row["driver"]) <= version_of(first[row["major"]])


def test_builds_of_one_name_follow_each_other():
    for name in {row["build"] for row in WHEELS["builds"]}:
        rows = [row for row in WHEELS["builds"] if row["build"] == name]
        assert all(row["since"] <= row["until"] for row in rows)
        ordered = sorted(rows, key=lambda row: row["since"])
        for one, next_one in itertools.pairwise(ordered):
            assert one["until"] < next_one["since"]


def test_every_build_of_pypi_is_there_and_says_its_archs():
    for row in WHEELS["releases"]:
        assert wheel_archs(f"{row['torch']}+{row['pypi']}"), row


def test_archs_are_spelled_as_torch_does():
    for row in WHEELS["builds"]:
        for arch in row["archs"].split():
            assert re.fullmatch(r"(sm_|compute_)\d+|gfx[0-9a-f]+", arch)
        assert bool(row.get("cuda")) == row["build"].startswith("cu")


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [
        ("570.172.08", (12, 8)),
        ("535.288.01", (12, 2)),
        ("580.65.06", (13, 0)),
        ("615.10", (13, 2)),
        ("470.256.02", (11, 4)),
        ("340.108", None),
        ("", None),
    ],
)
def test_newest_cuda(driver, cuda):
    assert newest_cuda(driver) == cuda


@pytest.mark.parametrize(
    ("cuda", "built_in", "expected"),
    [
        pytest.param((12, 8), (12, 8), True, id="native"),
        pytest.param((12, 8), (12, 2), True, id="minor-version compatibility"),
        pytest.param((12, 8), (13, 0), True, id="newer driver"),
        pytest.param((13, 0), (12, 9), False, id="another major"),
        pytest.param((11, 8), (10, 2), False, id="11 on 10"),
        pytest.param((10, 2), (10, 1), False, id="none before CUDA 11"),
        pytest.param((14, 0), (13, 2), None, id="not in the table"),
        pytest.param((14, 0), (14, 0), True, id="not in the table, but the driver's own"),
    ],
)
def test_runs(cuda, built_in, expected):
    assert runs(cuda, built_in) is expected


def test_oldest_driver():
    assert oldest_driver((13, 2)) == "580"
    assert oldest_driver((12, 1)) == "525.60.13"
    assert oldest_driver((10, 2)) == "440.33"
    assert oldest_driver((99, 0)) == ""


CU128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("arch", "archs", "expected"),
    [
        pytest.param("sm_90", CU128, "sm_90", id="itself"),
        pytest.param("sm_89", CU128, "sm_86", id="Ada runs Ampere's"),
        pytest.param("sm_87", CU128, "sm_86", id="Orin"),
        pytest.param("sm_103", CU128, "sm_100", id="B300 runs B200's"),
        pytest.param("sm_121", CU128, "sm_120", id="GB10"),
        pytest.param("sm_61", CU128, "", id="Pascal: too old"),
        pytest.param("sm_120", ["sm_90"], "", id="never across majors"),
        pytest.param("sm_80", ["sm_86"], "", id="never to an older minor"),
        pytest.param("sm_120", ["sm_90", "compute_90"], "compute_90", id="PTX for newer"),
        pytest.param("sm_80", ["sm_90", "compute_90"], "", id="PTX not for older"),
        pytest.param("sm_100", ["sm_90a"], "", id="a letter: only there"),
        pytest.param("gfx942", ["gfx90a", "gfx942"], "gfx942", id="AMD"),
        pytest.param("gfx90a", ["gfx90a:xnack-"], "gfx90a", id="AMD with features"),
        pytest.param("gfx1032", ["gfx1030"], "", id="AMD: no family rule"),
    ],
)
def test_code_for(arch, archs, expected):
    assert code_for(arch, archs) == expected


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [
        pytest.param("2.9.1+cu128", "sm_70", "sm_50", id="2.9.1+cu128"),
        pytest.param("2.14.1+cu130", "sm_120", "sm_70", id="2.14.1+cu130"),
        pytest.param("2.5.1+cu124", "sm_90", "sm_100", id="2.5.1+cu124"),
        pytest.param("2.8.0+rocm6.4", "gfx942", "gfx1032", id="2.8.0+rocm6.4"),
    ],
)
def test_wheel_archs(version, has, lacks):
    assert has in wheel_archs(version)
    assert lacks not in wheel_archs(version)


@pytest.mark.parametrize(
    "version",
    ["2.9.0a0+145a3a7bda.nv25.10", "2.9.1", "2.16.0.dev20261101+cu130", "2.99.0+cu128", ""],
)
def test_what_is_not_pytorchs_own_wheel_is_not_known(version):
    assert wheel_archs(version) == ()
    assert nccl_of_wheel(version) == ""


@pytest.mark.parametrize(
    ("archs", "built_in", "version", "expected"),
    [
        pytest.param(["sm_80"], (12, 2), "2.14.1+cu130", "2.14.1+cu126", id="same release"),
        pytest.param(["sm_90"], (12, 8), "2.15.0+cu132", "2.14.1+cu126", id="2.15 has no cu12"),
        pytest.param(["sm_120"], (12, 8), "2.14.1+cu130", "2.11.0+cu128", id="Blackwell, 570"),
        pytest.param(["sm_120"], (13, 0), "2.6.0+cu124", "2.15.0+cu132", id="Blackwell, 580"),
        pytest.param(["sm_70"], (13, 0), "2.14.1+cu130", "2.14.1+cu126", id="Volta"),
        pytest.param(["sm_61", "sm_89"], (12, 8), "2.11.0+cu130", "2.11.0+cu126", id="two models"),
        pytest.param(["sm_90"], None, "2.13.0+cpu", "2.13.0+cu130", id="driver not known"),
        pytest.param(["gfx942"], None, "2.9.1+cu128", "2.9.1+rocm6.4", id="AMD"),
        pytest.param(["gfx1032"], None, "2.9.1+cu128", None, id="no wheel has it"),
        pytest.param(["sm_90"], (10, 2), "2.9.1+cu128", None, id="driver too old for all"),
        pytest.param(["sm_90"], (12, 8), "2.9.0a0+x.nv25.10", "2.14.1+cu126", id="NVIDIA's build"),
        pytest.param([""], (11, 4), "2.14.1+cu130", "2.7.1+cu118", id="GPU not known"),
        pytest.param([], None, "2.9.1+cu128", None, id="nothing known"),
    ],
)
def test_wheel_for(archs, built_in, version, expected):
    wheel = wheel_for(archs, built_in, version)

    assert (f"{wheel.torch}+{wheel.build}" if wheel else None) == expected


def test_command_names_the_build_so_that_pip_replaces_the_one_installed():
    wheel = wheel_for(["sm_80"], (12, 2), "2.14.1+cu130")

    assert wheel is not None
    assert wheel.command == (
        "torch==2.14.1+cu126 --index-url https://download.pytorch.org/whl/cu126"
    )


@pytest.mark.parametrize(
    ("version", "archs", "nodes", "bad"),
    [
        ("2.18.1", ["sm_90"], 2, True),
        ("2.18.1", ["sm_90"], 1, False),
        ("2.18.1", ["sm_80"], 2, False),
        ("2.18.3", ["sm_90"], 2, False),
        ("", ["sm_90"], 2, False),
    ],
)
def test_bad_nccl(version, archs, nodes, bad):
    assert bool(bad_nccl(version, archs, nodes)) is bad
