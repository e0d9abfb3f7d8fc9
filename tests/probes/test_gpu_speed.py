"""probes/gpu_speed.py: whose environment a child gets, and what is kept of its words."""

import json

import pytest

from gpudoctor import Absent, GpuRates, Machine, Rate
from gpudoctor.probes.foreign import gpu_speed as script
from gpudoctor.probes.gpu_speed import gpu_speed, only, parse_count, parse_rates
from gpudoctor.probes.pytorch import Ended

WELL = Rate(best=55.1, worst=54.8, rounds=5)
H2D = {"h2d_gbs": {"best": 55.1, "worst": 54.8, "rounds": 5}}


def ended(*answers: dict, how: str = "", last: str = "") -> Ended:
    lines = [script.MARK + json.dumps(answer) for answer in answers]
    return Ended("\n".join(lines) + "\n", how, last)


@pytest.mark.parametrize(
    ("env", "index", "hip", "seen"),
    [
        pytest.param({}, 3, False, {"CUDA_VISIBLE_DEVICES": "3"}, id="all"),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "4, 6"}, 1, False, {"CUDA_VISIBLE_DEVICES": "6"}, id="some"
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "GPU-1a,GPU-2b"},
            0,
            False,
            {"CUDA_VISIBLE_DEVICES": "GPU-1a"},
            id="by uuid",
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "", "HOME": "/root"},
            0,
            False,
            {"CUDA_VISIBLE_DEVICES": "0", "HOME": "/root"},
            id="empty",
        ),
        pytest.param({}, 1, True, {"HIP_VISIBLE_DEVICES": "1"}, id="HIP"),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "2,5", "ROCR_VISIBLE_DEVICES": "0,1,2,3,4,5"},
            1,
            True,
            {"HIP_VISIBLE_DEVICES": "5", "ROCR_VISIBLE_DEVICES": "0,1,2,3,4,5"},
            id="HIP reads CUDA's variable, ROCr chose first",
        ),
        pytest.param(
            {"HIP_VISIBLE_DEVICES": "7", "CUDA_VISIBLE_DEVICES": "7"},
            0,
            True,
            {"HIP_VISIBLE_DEVICES": "7"},
            id="never both",
        ),
    ],
)
def test_a_child_sees_one_gpu(env, index, hip, seen):
    assert only(env, index, hip=hip) == seen


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        pytest.param(ended({"step": "done", "count": 8, "hip": False}), (8, False), id="eight"),
        pytest.param(
            ended({"step": "done", "count": 0, "hip": False}),
            Absent("torch uses no GPU: see torch-cuda"),
            id="none",
        ),
        pytest.param(
            ended({"step": "done", "error": "ModuleNotFoundError: No module named 'torch'"}),
            Absent("no torch"),
            id="no torch",
        ),
        pytest.param(
            ended({"step": "done", "error": "ModuleNotFoundError: No module named 'torchgen'"}),
            Absent("ModuleNotFoundError: No module named 'torchgen'", broken=True),
            id="half a torch",
        ),
        pytest.param(
            ended({"step": "import torch"}, how="no answer in 120 s"),
            Absent("no answer in 120 s: import torch", broken=True),
            id="import hangs",
        ),
        pytest.param(
            Ended("", "exit code 2", "SyntaxError: invalid syntax"),
            Absent("exit code 2: SyntaxError: invalid syntax", broken=True),
            id="a Python that is too old",
        ),
    ],
)
def test_count(said, counted):
    assert parse_count(said) == counted


@pytest.mark.parametrize(
    ("said", "rates"),
    [
        pytest.param(
            ended({"step": "done", "name": "NVIDIA L4", "bus_id": "0000:1b:00.0", **H2D}),
            GpuRates(index=2, name="NVIDIA L4", bus_id="0000:1b:00.0", h2d_gbs=WELL, seconds=9.9),
            id="whole",
        ),
        pytest.param(
            ended({"step": "done", "name": "NVIDIA L4", "error": "RuntimeError: CUDA error"}),
            GpuRates(index=2, name="NVIDIA L4", error="RuntimeError: CUDA error", seconds=9.9),
            id="an error",
        ),
        pytest.param(
            ended({"step": "measure d2h_gbs", "name": "L4", **H2D}, how="no answer in 60 s"),
            GpuRates(
                index=2,
                name="L4",
                h2d_gbs=WELL,
                error="no answer in 60 s: measure d2h_gbs",
                seconds=9.9,
            ),
            id="a hang",
        ),
        pytest.param(
            ended({"step": "measure h2d_gbs"}, how="SIGSEGV"),
            GpuRates(index=2, error="SIGSEGV: measure h2d_gbs", seconds=9.9),
            id="a crash",
        ),
        pytest.param(
            Ended("", "does not start (No such file or directory)", ""),
            GpuRates(index=2, error="does not start (No such file or directory)", seconds=9.9),
            id="no Python",
        ),
    ],
)
def test_rates(said, rates):
    assert parse_rates(said, 2, 9.94) == rates


def test_nothing_runs_under_another_root(tmp_path):
    assert gpu_speed.look(Machine(root=str(tmp_path))) == Absent("nothing is run under --root")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("5", {5}), ("0-1,4-5", {0, 1, 4, 5})],
)
def test_list_of_cpus(text, numbers):
    assert script.cpus(text) == numbers


def test_a_gpu_that_is_on_no_bus_binds_nothing():
    assert script.go_near("ffff:ff:1f.7") is False
