"""probes/pytorch.py: version.py and METADATA of real wheels, and what the script may leave."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gpudoctor import Absent, Machine, TorchBuild, TorchRun
from gpudoctor.probes.pytorch import (
    Ended,
    parse_pin,
    parse_run,
    parse_version,
    torch_build,
    torch_run,
)

MARK = "gpudoctor:torch_run:"

V2_1 = """\
__version__ = '2.1.2+cu121'
debug = False
cuda = '12.1'
git_version = 'a8e7c98cb95ff97bb30a728c6b2a1ce6bff946eb'
hip = None
"""
V2_15 = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.15.0+cu132'
debug = False
cuda: Optional[str] = '13.2'
git_version = 'd0f2af8b66b20da4baa50644c0cd3f887a2eae2e'
hip: Optional[str] = None
rocm: Optional[str] = None
xpu: Optional[str] = None
"""
CPU = V2_15.replace("2.15.0+cu132", "2.13.0+cpu").replace("'13.2'", "None")
ROCM = CPU.replace("+cpu", "+rocm7.2").replace("hip: Optional[str] = None", "hip = '7.2.26015'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(V2_1, {"__version__": "2.1.2+cu121", "cuda": "12.1"}, id="2.1"),
        pytest.param(V2_15, {"__version__": "2.15.0+cu132", "cuda": "13.2"}, id="2.15"),
        pytest.param(CPU, {"__version__": "2.13.0+cpu"}, id="CPU"),
        pytest.param(ROCM, {"__version__": "2.13.0+rocm7.2", "hip": "7.2.26015"}, id="ROCm"),
        pytest.param("", {}, id="empty"),
    ],
)
def test_version(text, expected):
    assert parse_version(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            'Requires-Dist: nvidia-nccl-cu12 (==2.18.1) ; platform_system == "Linux"',
            "nvidia-nccl-cu12 2.18.1",
            id="2.1",
        ),
        pytest.param(
            'Requires-Dist: nvidia-nccl-cu13==2.30.7; platform_system == "Linux"',
            "nvidia-nccl-cu13 2.30.7",
            id="2.15",
        ),
        pytest.param("Requires-Dist: filelock", "", id="CPU"),
    ],
)
def test_pin(line, expected):
    assert parse_pin(f"Name: torch\n{line}\nRequires-Dist: sympy>=1.13.3\n") == expected


@pytest.fixture
def tree(tmp_path: Path):
    """A machine with a virtual environment, and torch in it when its version.py is given."""

    def machine(version_py: str | None, *wheels: str, metadata: str = "", **env: str) -> Machine:
        site = tmp_path / "venv/lib/python3.12/site-packages"
        (tmp_path / "venv/bin").mkdir(parents=True)
        (tmp_path / "venv/bin/python").touch()
        (tmp_path / "venv/pyvenv.cfg").write_text("version = 3.12.1\n")
        site.mkdir(parents=True)
        for wheel in wheels:
            (site / f"{wheel}.dist-info").mkdir()
        if version_py is not None:
            (site / "torch").mkdir()
            (site / "torch/version.py").write_text(version_py)
            (site / "torch-2.15.0.dist-info").mkdir()
            (site / "torch-2.15.0.dist-info/METADATA").write_text(metadata)
        return Machine(str(tmp_path), env=env, python="/venv/bin/python")

    return machine


def test_build(tree):
    wheels = ["nvidia_nccl_cu13-2.30.7", "nvidia_nccl_cu12-2.27.5"]
    metadata = "Requires-Dist: nvidia-nccl-cu13==2.30.7\n"

    found = torch_build(tree(V2_15, *wheels, metadata=metadata))

    assert found == TorchBuild(
        version="2.15.0+cu132",
        cuda=(13, 2),
        path="/venv/lib/python3.12/site-packages/torch",
        nccl_pin="nvidia-nccl-cu13 2.30.7",
        nccl_wheels=("nvidia-nccl-cu12 2.27.5", "nvidia-nccl-cu13 2.30.7"),
    )


def test_build_without_version_py_takes_the_version_from_its_metadata(tree):
    found = torch_build(tree(""))

    assert isinstance(found, TorchBuild)
    assert (found.version, found.cuda, found.hip) == ("2.15.0", None, "")


def test_build_sees_a_preloaded_nccl(tree):
    found = torch_build(tree(V2_1, LD_PRELOAD="/opt/libjemalloc.so.2:/opt/libnccl.so.2.18.3"))

    assert isinstance(found, TorchBuild)
    assert [path.rpartition("/")[2] for path in found.nccl_shadows] == ["libnccl.so.2.18.3"]


def test_no_torch(tree):
    assert torch_build(tree(None)) == Absent("no torch in /venv/bin/python")


def test_nothing_is_run_in_another_tree(tree):
    assert isinstance(torch_run(tree(V2_15)), Absent)


def said(*lines: str) -> str:
    return "".join(f"{MARK}{line}\n" for line in lines)


START = '{"step": "import torch"}'
BUILT = '{"step": "torch.cuda.is_available()", "version": "2.9.1+cu128", "cuda": "12.8"}'
SEEN = (
    '{"step": "multiply on GPU 1", "version": "2.9.1", "available": true, "devices": '
    '[{"index": 0, "compute_seconds": 0.5}, {"index": 1}]}'
)


@pytest.mark.parametrize(
    ("ended", "fields"),
    [
        pytest.param(
            Ended(said(START, BUILT.replace("torch.cuda.is_available()", "done")), "", ""),
            {"version": "2.9.1+cu128", "unfinished": ""},
            id="whole",
        ),
        pytest.param(
            Ended("chatter\n" + said(START, BUILT) + f'{MARK}{{"step": "do', "SIGKILL", ""),
            {"version": "2.9.1+cu128", "reason": "SIGKILL: torch.cuda.is_available()"},
            id="last line cut",
        ),
        pytest.param(
            Ended("no line end" + said(BUILT.replace("torch.cuda.is_available()", "done")), "", ""),
            {"version": "2.9.1+cu128"},
            id="chatter before it in the line",
        ),
        pytest.param(
            Ended(said(START), "SIGABRT", "terminate called"),
            {"import_error": "SIGABRT: terminate called"},
            id="import crashes",
        ),
        pytest.param(
            Ended(said(START, BUILT), "no answer in 20 s", ""),
            {"unfinished": "no answer in 20 s: torch.cuda.is_available()", "reason": ""},
            id="is_available hangs",
        ),
        pytest.param(
            Ended(said(START, SEEN), "no answer in 20 s", ""),
            {"available": True, "unfinished": "no answer in 20 s: multiply on GPU 1"},
            id="a GPU hangs",
        ),
    ],
)
def test_run(ended, fields):
    found = parse_run(ended, "python3")

    assert isinstance(found, TorchRun)
    assert {name: getattr(found, name) for name in fields} == fields


def test_run_blames_the_gpu_that_crashed():
    found = parse_run(Ended(said(START, SEEN), "SIGSEGV", ""), "python3")

    assert isinstance(found, TorchRun)
    assert [device.compute_error for device in found.devices] == ["", "it crashed: SIGSEGV"]


@pytest.mark.parametrize(
    ("ended", "absent"),
    [
        pytest.param(
            Ended(said(START, '{"step": "done", "missing": true}'), "", ""),
            Absent("no torch in python3"),
            id="no torch",
        ),
        pytest.param(
            Ended(said(START), "no answer in 20 s", ""),
            Absent("no answer in 20 s: import torch in python3", broken=True),
            id="import takes too long",
        ),
        pytest.param(
            Ended("Python 2.7", "exit code 1", "SyntaxError: invalid syntax"),
            Absent("python3: exit code 1: SyntaxError: invalid syntax", broken=True),
            id="no answer",
        ),
    ],
)
def test_no_run(ended, absent):
    assert parse_run(ended, "python3") == absent


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("/nowhere/python3", "there is no /nowhere/python3"),
        ("/etc/passwd", "does not start"),
        ("/bin/true", "ended without an answer"),
    ],
)
def test_a_python_that_is_none(python, says):
    found = torch_run(Machine(python=python))

    assert isinstance(found, Absent)
    assert found.broken
    assert says in found.absent


@pytest.mark.skipif(bool(importlib.util.find_spec("torch")), reason="torch is installed here")
def test_a_python_without_torch():
    assert torch_run(Machine(python=sys.executable)) == Absent(f"no torch in {sys.executable}")
