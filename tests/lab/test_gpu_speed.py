"""The measurements of `--deep` by real processes: a torch that does as told, and the real one."""

import functools
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
from msgspec.structs import replace

from gpudoctor import Absent, Machine, Status
from gpudoctor.probes.gpu_speed import SCRIPT, measured
from gpudoctor.registry import get
from gpudoctor.report import Report, Result

pytestmark = pytest.mark.lab

FAKE = Path(__file__).with_name("fake_torch") / "torch"
H100 = {"name": "NVIDIA H100 80GB HBM3", "cc": [9, 0]}
MI300X = {"name": "AMD Instinct MI300X", "gcn": "gfx942:sramecc+:xnack-"}
T4 = {"name": "Tesla T4", "cc": [7, 5], "memory": 15 << 30, "speed": {"tflops": 0.2}}

CHECKS = ["gpu-copy", "gpu-memory-speed", "gpu-matmul"]

Measure = Callable[..., Any]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`install(python)`: the Python of a new environment with our torch in it."""

    def make(python: str) -> str:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        shutil.copytree(FAKE, site / "torch", ignore=shutil.ignore_patterns("__pycache__"))
        return str(folder / "bin/python")

    return make


@pytest.fixture(scope="module")
def python(install) -> str:
    return install(sys.executable)


def measured_by(
    python: str,
    *devices: dict[str, Any],
    at: dict[str, str] | None = None,
    visible: dict[str, str] | None = None,
    **limits: float,
) -> Any:
    plan = json.dumps({"at": at or {}, "devices": devices})
    chosen = {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"}
    ours = {name: value for name, value in os.environ.items() if name not in chosen}
    machine = Machine(env={**ours, "FAKE_TORCH": plan, **(visible or {})})
    return measured(machine, python, **{"seconds": 60.0, **limits})


@pytest.fixture
def measure(python) -> Measure:
    return functools.partial(measured_by, python)


def old_python() -> str:
    """A Python 3.8, or what is as old."""
    known = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python"))
    found = [str(path) for path in known]
    found += [path for name in ("python3.8", "python3.9") if (path := shutil.which(name))]
    return os.environ.get("GPUDOCTOR_OLD_PYTHON") or next(iter(found), "")


def test_an_old_python(install):
    if not (old := old_python()):
        pytest.skip("there is no Python 3.8 or 3.9 here; GPUDOCTOR_OLD_PYTHON names one")

    speed = measured_by(install(old), H100)

    assert speed.devices[0].error == ""
    assert speed.devices[0].memory_gbs.best == 2600.0


def test_two_gpus(measure):
    speed = measure(H100, {**H100, "speed": {"memory": 1300.0}, "busy": 40})

    first, second = speed.devices
    assert [first.error, second.error, speed.unfinished] == ["", "", ""]
    assert [first.bus_id, second.bus_id] == ["0000:1b:00.0", "0000:1c:00.0"]
    assert (first.h2d_gbs.best, first.d2h_gbs.best) == (55.0, 53.0)
    assert (first.memory_gbs.best, second.memory_gbs.best) == (2600.0, 1300.0)
    assert (first.matmul_tflops.best, first.matmul_type) == (700.0, "bfloat16")
    assert {first.h2d_gbs.rounds, first.matmul_tflops.rounds} == {5}
    assert (first.busy_percent, second.busy_percent) == (0, 40)
    assert first.memory_used_bytes == 1 << 30
    assert speed.cpus >= 1


def test_the_checks_on_what_was_measured(measure):
    speed = measure(H100, {**H100, "speed": {"memory": 1300.0}})
    speed = replace(speed, load_average=0.5)  # that of the lab is no matter here

    finding = get("gpu-memory-speed")(speed, None)
    assert finding.status is Status.FAIL
    assert finding.summary == "GPU 1: 1300 GB/s in its memory, 50% below its peers"
    assert get("gpu-matmul")(speed, None).status is Status.PASS
    assert get("gpu-copy")(speed, None).status is Status.SKIP  # no link is known here


def test_one_slow_round_does_not_count(measure):
    speed = measure({**H100, "speed": {"slow_first": 100}})

    rate = speed.devices[0].memory_gbs
    assert (rate.worst, rate.best) == (260.0, 2600.0)
    assert get("gpu-memory-speed")(speed, None).status is Status.PASS


def test_an_old_and_slow_gpu_gets_less_work(measure):
    speed = measure(T4)

    rates = speed.devices[0]
    assert (rates.matmul_tflops.best, rates.matmul_type) == (0.2, "float16")


def test_only_the_gpus_of_the_job(measure):
    speed = measure(H100, H100, H100, visible={"CUDA_VISIBLE_DEVICES": "2,0"})

    assert [rates.bus_id for rates in speed.devices] == ["0000:1d:00.0", "0000:1b:00.0"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(
            "raise RuntimeError('CUDA error: uncorrectable ECC error encountered')",
            "RuntimeError: CUDA error: uncorrectable ECC error encountered",
            id="an error",
        ),
        pytest.param("os.kill(os.getpid(), 11)", "SIGSEGV: measure h2d_gbs", id="a crash"),
        pytest.param(
            "time.sleep(60)", "no answer in 8 s: measure h2d_gbs", id="a hang is killed and named"
        ),
    ],
)
def test_one_bad_gpu_does_not_hide_the_others(measure, code, error):
    at = {"copy": f"if os.environ['CUDA_VISIBLE_DEVICES'] == '0': {code}"}

    speed = measure(H100, H100, at=at, each=8.0)

    assert [rates.error for rates in speed.devices] == [error, ""]
    finding = get("gpu-memory-speed")(speed, None)
    assert finding.status is Status.ERROR
    assert error in finding.reason


def test_time_that_runs_out_is_told(measure):
    speed = measure(H100, H100, at={"copy": "time.sleep(60)"}, seconds=6.0)

    assert "no answer in" in speed.devices[0].error
    assert speed.unfinished == "no time was left for 1 of 2 GPUs"
    assert get("gpu-matmul")(speed, None).status is Status.ERROR


def test_amd(install):
    python = install(sys.executable)
    version = next(Path(python).parent.parent.glob("lib/python*/site-packages/torch/version.py"))
    version.write_text('__version__ = "2.9.1+rocm6.4"\ncuda = None\nhip = "6.4.43484"\n')

    speed = measured_by(
        python, MI300X, MI300X, visible={"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "1"}
    )

    (rates,) = speed.devices
    assert (rates.error, rates.bus_id, rates.name) == ("", "0000:1c:00.0", "AMD Instinct MI300X")
    assert rates.matmul_type == "bfloat16"


def test_from_the_command_line(python, tmp_path, gpudoctor, in_mounts):
    (tmp_path / "libcuda.so.1").touch()  # the sign that a GPU may be here
    plan = json.dumps({"devices": [H100, {**H100, "speed": {"tflops": 350.0}}]})
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "FAKE_TORCH": plan}
    words = [gpudoctor, "check", "--only", ",".join(CHECKS), "-f", "json"]
    words += ["--python", python, "--deadline", "50"]
    (tmp_path / "loadavg").write_text("0.50 0.50 0.50 1/300 4711\n")
    idle = f"mount --bind {tmp_path}/loadavg /proc/loadavg"

    def check(*more: str) -> dict[str, Result]:
        ended = in_mounts(idle, [*words, *more], env=env)
        report = msgspec.json.decode(ended.stdout, type=Report)
        return {result.id: result for result in report.results}

    plain, deep = check(), check("--deep")
    assert [plain[name].status for name in CHECKS] == [Status.SKIP] * 3
    assert "--deep" in plain["gpu-matmul"].reason
    assert [deep[name].status for name in CHECKS] == [Status.SKIP, Status.PASS, Status.FAIL]
    assert deep["gpu-matmul"].summary.startswith("GPU 1: 350 TFLOP/s in products, 50% below")


def test_without_a_gpu(measure):
    found = measure()

    assert not found.broken
    assert "torch uses no GPU: see torch-cuda" in found.absent


WORK_ON_THE_CPU = f"""
import json, sys, types
sys.path.insert(0, {os.path.dirname(SCRIPT)!r})
import gpu_speed, torch
device, known = torch.device("cpu"), types.SimpleNamespace(major=9)
done = {{}}
for name, prepare in gpu_speed.preparations(torch, device, known, 64 << 20):
    if name != "matmul_tflops":  # times itself with CUDA's events
        work, done[name] = prepare()
        work()
gpu_speed.matmul(torch, device, gpu_speed.matmul_type(torch, known), 64)()
print(json.dumps(done))
"""


def test_the_real_torch_knows_all_that_we_ask_of_it(real_torch):
    ended = subprocess.run(
        [real_torch, "-W", "ignore", "-c", WORK_ON_THE_CPU], capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == pytest.approx(
        {"h2d_gbs": 0.004194, "d2h_gbs": 0.004194, "memory_gbs": 0.016777}, rel=1e-3
    )


def test_the_real_torch_without_a_gpu(real_torch):
    found = measured(Machine(env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}), real_torch, 60.0)

    assert isinstance(found, Absent)
    assert "torch uses no GPU" in found.absent
