"""`gpudoctor check torch` on real interpreters: a torch that does as told, and the real one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpudoctor import Status, TorchRun
from gpudoctor.report import Report, Result

FAKE = Path(__file__).with_name("fake_torch") / "torch"
FAKE_NVML = Path(__file__).with_name("fake_nvml")
H100 = {"name": "NVIDIA H100 80GB HBM3", "cc": [9, 0]}
MI300X = {"name": "AMD Instinct MI300X", "gcn": "gfx942:sramecc+:xnack-"}

Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """`install(python)`: a new environment of that interpreter with our torch; its Python."""

    def make(python: str) -> Path:
        folder = tmp_path / "environment"
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        shutil.copytree(FAKE, site / "torch", ignore=shutil.ignore_patterns("__pycache__"))
        return folder / "bin/python"

    return make


class Ran:
    """A run of `gpudoctor check`: results by id, and what torch said."""

    def __init__(self, stdout: str) -> None:
        report = msgspec.json.decode(stdout, type=Report)
        self.results: dict[str, Result] = {result.id: result for result in report.results}
        self.facts: dict[str, Any] = dict(report.nodes[0].facts)

    @property
    def torch(self) -> TorchRun:
        return msgspec.convert(self.facts["torch_run"], TorchRun)


def check(python: Path | str, *args: str, at: dict[str, str] | None = None, **plan: Any) -> Ran:
    words = ["-m", "gpudoctor", "check", "-f", "json", "--python", str(python), *args]
    env = {**os.environ, "FAKE_TORCH": json.dumps({"at": at or {}, **plan})}
    ended = subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout, ended.stderr
    return Ran(ended.stdout)


def old_python() -> str:
    """A Python 3.8, or what is as old."""
    known = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python"))
    found = [str(path) for path in known]
    found += [path for name in ("python3.8", "python3.9") if (path := shutil.which(name))]
    return os.environ.get("GPUDOCTOR_OLD_PYTHON") or next(iter(found), "")


@pytest.mark.parametrize("old", [False, True], ids=["this Python", "Python 3.8"])
def test_healthy(install, old):
    python = old_python() if old else sys.executable
    if not python:
        pytest.skip("there is no Python 3.8 or 3.9 here; GPUDOCTOR_OLD_PYTHON names one")

    ran = check(
        install(python), "torch", devices=[H100, H100], nccl=[2, 27, 5], archs="sm_80 sm_90"
    )

    for name in ("torch-import", "torch-cuda", "torch-compute", "torch-nccl", "torch-arch"):
        assert ran.results[name].status in (Status.PASS, Status.SKIP), ran.results[name]
    assert ran.results["torch-compute"].status is Status.PASS
    assert (ran.torch.version, ran.torch.cuda, ran.torch.nccl) == ("2.9.1+cu128", "12.8", "2.27.5")
    assert ran.torch.archs == ("sm_80", "sm_90")
    assert ran.torch.distributed == ("gloo", "nccl")
    assert [device.arch for device in ran.torch.devices] == ["sm_90", "sm_90"]
    assert [device.bus_id for device in ran.torch.devices] == ["0000:1b:00.0", "0000:1c:00.0"]
    assert ran.torch.devices[0].memory_free_bytes == 79 << 30


def test_amd(install):
    python = install(sys.executable)
    version = next(python.parent.parent.glob("lib/python*/site-packages/torch/version.py"))
    version.write_text('__version__ = "2.9.1+rocm6.4"\ncuda = None\nhip = "6.4.43484"\n')

    ran = check(python, "torch", devices=[MI300X])

    assert ran.torch.devices[0].arch == "gfx942"
    assert ran.torch.hip == "6.4.43484"
    assert ran.facts["torch_build"]["hip"] == "6.4.43484"


CHATTER = "print('NCCL INFO'); os.write(1, b'{\"step\": 1}'); os.write(2, b'x' * 200000)"
WARN = "warnings.warn('CUDA initialization: Error 802: system not yet initialized'); raise OSError"


@pytest.mark.parametrize(
    ("at", "id_", "status", "says"),
    [
        pytest.param(
            {"import": "raise ImportError('libtorch_cuda.so: undefined symbol: ncclCommResume')"},
            "torch-import",
            Status.FAIL,
            "ncclCommResume",
            id="import error",
        ),
        pytest.param(
            {"import": "import not_there"},
            "torch-import",
            Status.FAIL,
            "not_there",
            id="a module that torch needs",
        ),
        pytest.param(
            {"import": "sys.exit(0)"},
            "torch-import",
            Status.FAIL,
            "SystemExit",
            id="exit on import",
        ),
        pytest.param(
            {"import": "os.abort()"}, "torch-import", Status.FAIL, "SIGABRT", id="crash on import"
        ),
        pytest.param(
            {"import": "time.sleep(60)"},
            "torch-import",
            Status.ERROR,
            "import torch",
            id="import hangs",
        ),
        pytest.param({"import": CHATTER}, "torch-compute", Status.PASS, "", id="chatter"),
        pytest.param(
            {"is_available": WARN}, "torch-import", Status.PASS, "2.9.1", id="CUDA does not start"
        ),
        pytest.param(
            {"multiply": "raise RuntimeError('CUDA error: unspecified launch failure')"},
            "torch-compute",
            Status.FAIL,
            "unspecified launch failure",
            id="a product fails",
        ),
        pytest.param(
            {"multiply": "os.kill(os.getpid(), 11)"},
            "torch-compute",
            Status.FAIL,
            "SIGSEGV",
            id="a product crashes",
        ),
        pytest.param(
            {"multiply": "index and time.sleep(60)"},
            "torch-compute",
            Status.ERROR,
            "multiply on GPU 1",
            id="a product hangs",
        ),
    ],
)
def test_faults(install, at, id_, status, says):
    python = install(sys.executable)

    ran = check(python, "torch", "--deadline", "5", at=at, devices=[H100, H100], nccl=[2, 27, 5])

    result = ran.results[id_]
    assert result.status is status, result
    assert says in result.summary + result.reason


def test_what_was_seen_before_a_hang_is_told(install):
    at = {"multiply": "index and time.sleep(60)"}

    ran = check(install(sys.executable), "torch", "--deadline", "5", at=at, devices=[H100, H100])

    assert ran.results["torch-import"].status is Status.PASS
    assert ran.results["torch-cuda"].status is Status.PASS
    assert ran.torch.devices[0].compute_seconds is not None


def test_torchs_own_words_are_the_reason(install):
    ran = check(install(sys.executable), "torch", at={"is_available": WARN}, devices=[H100])

    assert not ran.torch.available
    assert "Error 802: system not yet initialized" in ran.torch.reason


def test_a_wrong_product(install):
    ran = check(install(sys.executable), "torch", devices=[H100, {**H100, "wrong": 3}])

    assert ran.results["torch-compute"].status is Status.FAIL
    assert "GPU 1: 3 of 262144 elements" in ran.results["torch-compute"].summary


def test_what_is_left_of_torch_is_no_torch(install):
    python = install(sys.executable)
    for path in python.parent.parent.glob("lib/python*/site-packages/torch/*.py"):
        path.unlink()

    ran = check(python, "torch")

    assert ran.results["torch-import"].status is Status.FAIL
    assert "nothing but a directory" in ran.results["torch-import"].summary


def test_the_file_of_nccl_that_is_loaded(install, tmp_path):
    library = tmp_path / "libnccl.so.2.18.3"
    library.write_bytes(b"x" * 4096)
    load = f"import mmap; file = open({str(library)!r}); "
    load += "sys.kept = mmap.mmap(file.fileno(), 0, prot=1)"

    ran = check(
        install(sys.executable), "torch", at={"import": load}, devices=[H100], nccl=[2, 18, 3]
    )

    assert ran.torch.nccl_file == str(library)
    assert ran.results["torch-nccl"].status is Status.FAIL


def test_a_plain_check_imports_no_torch(install, tmp_path):
    seen = tmp_path / "imported"
    at = {"import": f"open({str(seen)!r}, 'w').close()"}
    python = install(sys.executable)

    plain = check(python, "--only", "torch-*", at=at)

    assert not seen.exists()
    assert plain.results["torch-import"].status is Status.SKIP
    assert "gpudoctor check torch" in plain.results["torch-import"].reason
    check(python, "torch-cuda", at=at)
    assert seen.exists()


def test_real_torch(real_torch):
    ask = "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda or '']))"
    said = subprocess.run([real_torch, "-c", ask], capture_output=True, check=True).stdout

    ran = check(real_torch, "torch")

    assert [ran.torch.version, ran.torch.cuda] == json.loads(said)
    assert ran.facts["torch_build"]["version"] == ran.torch.version
    assert ran.results["torch-import"].status is Status.PASS
    assert "gloo" in ran.torch.distributed
    assert ran.torch.available or ran.torch.reason


def test_a_wheel_for_processors_on_a_machine_with_gpus(
    real_torch, libnvidia_ml, tmp_path, monkeypatch
):
    shutil.copy(FAKE_NVML / "h100x2.conf", tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libnvidia_ml))
    monkeypatch.setenv("FAKE_NVML_CONFIG", str(tmp_path / "h100x2.conf"))

    ran = check(real_torch, "torch")

    if ran.torch.cuda or ran.torch.hip:
        pytest.skip(f"torch {ran.torch.version} is not built for processors only")
    assert ran.results["torch-build"].status is Status.FAIL
    assert ran.results["torch-build"].summary.endswith("here: 2 NVIDIA GPUs")
    (fix,) = ran.results["torch-build"].fixes[:1]
    assert "pip install" in fix.commands[0]
    assert str(real_torch) in fix.commands[0]
