"""checks/profile/packages.py: what a profile pins against what is installed."""

from typing import Any

import pytest

from gpudoctor import (
    Absent,
    Container,
    Demands,
    JobPython,
    PackageDemand,
    Packages,
    Status,
)
from gpudoctor.registry import get

PASS, FAIL, SKIP, ERROR = Status.PASS, Status.FAIL, Status.SKIP, Status.ERROR
PYTHON = JobPython(path="/opt/env/bin/python", chosen_by="CONDA_PREFIX", version="3.8")
HOST, DOCKER = Container(), Container(runtime="docker", launcher="docker")
TORCH = PackageDemand(name="torch", versions="==1.13.1", why="BMTrain is built against it")
FLASH = PackageDemand(name="Flash_Attn", versions="==2.0.8", options="--no-build-isolation")
EINOPS = PackageDemand(name="einops")
ALL = {"torch": "1.13.1", "flash-attn": "2.0.8", "einops": "0.8.0"}


def demands(*packages: PackageDemand, by: str = "profile cpm-9g", **more: Any) -> Demands:
    return Demands(by=by, packages=packages, **more)


def judge(asked: Demands, installed, python: JobPython = PYTHON, container=DOCKER):
    found = Packages(versions=installed) if isinstance(installed, dict) else installed
    return get("profile-packages")(asked, python, found, container)


@pytest.mark.parametrize(
    ("asked", "installed", "status", "says"),
    [
        pytest.param(demands(TORCH, FLASH, EINOPS), ALL, PASS, "3 packages as", id="all there"),
        pytest.param(demands(TORCH), {"torch": "1.13.1+cu116"}, PASS, "1 package", id="a build"),
        pytest.param(
            demands(TORCH),
            {"torch": "2.1.0"},
            FAIL,
            "torch is 2.1.0, ==1.13.1 is demanded",
            id="another version",
        ),
        pytest.param(
            demands(TORCH, FLASH, EINOPS),
            {"torch": "1.13.1"},
            FAIL,
            "2 of 3 packages not as profile cpm-9g demands: Flash_Attn, einops",
            id="two are missing",
        ),
        pytest.param(demands(EINOPS), {}, FAIL, "einops is not installed", id="any would do"),
        pytest.param(demands(TORCH), {"torch": ""}, PASS, "1 package", id="version not told"),
        pytest.param(demands(TORCH), {"torch": "main"}, FAIL, "torch is main", id="no version"),
        pytest.param(demands(python="==3.8.*"), {}, PASS, "Python 3.8", id="only the Python"),
        pytest.param(
            demands(TORCH, python=">=3.10"),
            {"torch": "1.13.1"},
            FAIL,
            "Python is 3.8, profile cpm-9g demands >=3.10",
            id="another Python",
        ),
        pytest.param(demands(files=("a",)), {}, SKIP, "no package is demanded", id="other demands"),
        pytest.param(
            demands(TORCH), Absent("not collected"), ERROR, "not collected", id="not looked at"
        ),
        pytest.param(
            demands(python="==3.8.*"),
            Absent("no profile"),
            PASS,
            "Python 3.8",
            id="no need to look",
        ),
    ],
)
def test_packages(asked, installed, status, says):
    finding = judge(asked, installed)

    assert finding.status is status
    assert says in f"{finding.summary}{finding.reason}"
    assert len(finding.summary) < 80


def test_the_command_installs_what_is_not_right_and_nothing_else():
    finding = judge(demands(EINOPS, FLASH, TORCH), {"torch": "2.1.0", "einops": "0.8.0"})

    assert finding.fix.commands == (
        "/opt/env/bin/python -m pip install torch==1.13.1",
        "/opt/env/bin/python -m pip install --no-build-isolation Flash_Attn==2.0.8",
    )
    assert finding.evidence == (
        "Flash_Attn is not installed, ==2.0.8 is demanded",
        "torch is 2.1.0, ==1.13.1 is demanded: BMTrain is built against it",
    )


def test_a_shell_takes_the_command_as_it_is():
    python = JobPython(path="/home/a b/bin/python", chosen_by="--python", version="3.12")
    asked = demands(PackageDemand(name="torch", versions=">=2.0, <3"), PackageDemand(name="einops"))

    finding = judge(asked, {}, python)

    assert finding.fix.commands == ("'/home/a b/bin/python' -m pip install 'torch>=2.0,<3' einops",)


@pytest.mark.parametrize(
    ("by", "wanted", "first"),
    [
        ("profile cpm-9g", "==3.9.*", "conda create -y -n cpm-9g python=3.9"),
        (
            "profile ../our site.toml",
            ">=3.9,<3.12",
            "conda create -y -n 'our site' 'python>=3.9,<3.12'",
        ),
    ],
)
def test_another_python_has_other_packages(by, wanted, first):
    finding = judge(demands(TORCH, by=by, python=wanted), {"torch": "1.13.1"})

    assert finding.fix.commands[0] == first
    assert finding.fix.commands[1].endswith("python -m pip install torch==1.13.1")
    assert finding.basis == ("site" if by.endswith(".toml") else "vendor")


@pytest.mark.parametrize(
    ("chosen_by", "container", "status"),
    [
        pytest.param("PATH", HOST, SKIP, id="the host's own Python is not the job's"),
        pytest.param("gpudoctor's own", HOST, SKIP, id="nor is ours"),
        pytest.param("CONDA_PREFIX", HOST, FAIL, id="an active environment is"),
        pytest.param("--python", HOST, FAIL, id="one that is named is"),
        pytest.param("PATH", DOCKER, FAIL, id="inside the image"),
    ],
)
def test_a_job_that_comes_in_an_image_has_its_packages_there(chosen_by, container, status):
    python = JobPython(path="/usr/bin/python3", chosen_by=chosen_by, version="3.12")
    asked = demands(TORCH, python="==3.8.*", image_tag="cpmlive-flash:0.0.4")

    finding = judge(asked, {}, python, container)

    assert finding.status is status
    assert status is not SKIP or "cpmlive-flash:0.0.4" in finding.reason


def test_a_python_of_which_nothing_is_known_is_not_called_empty():
    finding = judge(demands(TORCH), {}, JobPython(path="/x/python", chosen_by="PATH"))

    assert finding.status is ERROR
    assert "/x/python" in finding.reason
