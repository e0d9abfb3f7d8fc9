"""gpudoctor/rules/selection.py: what variables leave of the GPUs."""

import pytest

from gpudoctor.rules.selection import select
from tests.gpu_machines import HGX, INSTINCT, SLICED
from tests.gpu_way import HEALTHY, full

EIGHT = full(HGX)
INSTINCTS = full(INSTINCT)


def numbers(gpus) -> list[int]:
    return [gpu.index for gpu in gpus]


@pytest.mark.parametrize(
    ("value", "left", "stopped_at"),
    [
        pytest.param(None, list(range(8)), "", id="not set"),
        pytest.param("2,0", [2, 0], "", id="in this order"),
        pytest.param(" 1, 2", [1, 2], "", id="spaces"),
        pytest.param("0,2,-1,1", [0, 2], "", id="CUDA's own example"),
        pytest.param("-1", [], "", id="none on purpose"),
        pytest.param("", [], "", id="empty"),
        pytest.param("0,8,1", [0], "8", id="ends at an invalid one"),
        pytest.param("all", [], "all", id="no word of CUDA's"),
        pytest.param("NoDevFiles", [], "NoDevFiles", id="Slurm without GPUs"),
        pytest.param("1,1", [], "", id="twice"),
        pytest.param("0,", [0], "an empty word", id="a comma too many"),
        pytest.param("GPU-00000003", [3], "", id="the start of a UUID"),
        pytest.param("GPU-0000000", [], "GPU-0000000", id="a UUID of several"),
        pytest.param("GPU-ffff", [], "GPU-ffff", id="a UUID of none"),
    ],
)
def test_what_cuda_sees(value, left, stopped_at):
    chosen = select(EIGHT.devices, {} if value is None else {"CUDA_VISIBLE_DEVICES": value})

    assert numbers(chosen.gpus) == left
    assert chosen.stopped_at == stopped_at


@pytest.mark.parametrize(
    ("env", "left", "stopped_by"),
    [
        pytest.param({}, list(range(8)), "", id="not set"),
        pytest.param({"HIP_VISIBLE_DEVICES": "4,5"}, [4, 5], "", id="HIP alone"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "4"}, [4], "", id="CUDA's is HIP's too"),
        pytest.param({"HIP_VISIBLE_DEVICES": ""}, list(range(8)), "", id="empty is not set"),
        pytest.param({"ROCR_VISIBLE_DEVICES": ""}, [], "", id="but not for ROCr"),
        pytest.param({"ROCR_VISIBLE_DEVICES": "4,5"}, [4, 5], "", id="ROCr alone"),
        pytest.param(
            {"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "0,1"},
            [4, 5],
            "",
            id="HIP counts what ROCr left",
        ),
        pytest.param(
            {"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "4,5"},
            [],
            "HIP_VISIBLE_DEVICES",
            id="the same numbers in both",
        ),
        pytest.param({"GPU_DEVICE_ORDINAL": "0"}, list(range(8)), "", id="OpenCL's"),
        pytest.param({"HIP_VISIBLE_DEVICES": "0,0,1"}, [0, 1], "", id="twice is once"),
        pytest.param({"ROCR_VISIBLE_DEVICES": "GPU-00000002"}, [2], "", id="UUID"),
    ],
)
def test_what_hip_sees(env, left, stopped_by):
    chosen = select(INSTINCTS.devices, env)

    assert numbers(chosen.gpus) == left
    assert chosen.stopped_by == stopped_by


def test_the_gpu_of_the_processor_is_not_chosen():
    way = HEALTHY["desktop with a GPU in the processor"]

    assert [gpu.vendor for gpu in select(way.facts["gpus"].devices, {}).among] == ["nvidia"]


def test_slices_cannot_be_told_from_here():
    chosen = select(full(SLICED).devices, {"CUDA_VISIBLE_DEVICES": "MIG-1,MIG-2"})

    assert not chosen.certain
    assert len(chosen.gpus) == 1
