"""checks/env.py, leftovers and slips: environments -> status."""

import pytest

from gpudoctor import Environment, EnvSet, EnvUnset, Machine, Status, Workload
from gpudoctor.probes.environment import environment
from gpudoctor.registry import get

ONE = Workload().told({"local_ranks": 1}, "GPU device nodes")
EIGHT = Workload().told({"local_ranks": 8}, "GPU device nodes")


def seen(env: dict[str, str]) -> Environment:
    found = environment(Machine(env=env))
    assert isinstance(found, Environment)
    return found


@pytest.mark.parametrize(
    ("env", "job", "left"),
    [
        pytest.param({"CUDA_LAUNCH_BLOCKING": "1"}, ONE, True, id="launch blocking"),
        pytest.param({"CUDA_LAUNCH_BLOCKING": "0"}, ONE, False, id="switched off"),
        pytest.param({"CUDA_LAUNCH_BLOCKING": ""}, ONE, False, id="empty"),
        pytest.param({"HIP_LAUNCH_BLOCKING": "1"}, ONE, True, id="HIP"),
        pytest.param({"AMD_LOG_LEVEL": "4"}, ONE, True, id="HIP's log"),
        pytest.param({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, ONE, True, id="no caching"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "detail"}, ONE, True, id="detail"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "INFO"}, ONE, False, id="info"),
        pytest.param({"TORCHDYNAMO_DISABLE": "1"}, ONE, True, id="no compile"),
        pytest.param({"TRITON_INTERPRET": "1"}, ONE, True, id="Triton on the CPU"),
        pytest.param({"MKL_VERBOSE": "1"}, ONE, True, id="MKL talks"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, EIGHT, False, id="NCCL's: nccl-environment"),
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "1"}, EIGHT, False, id="torch's for NCCL"),
    ],
)
def test_leftovers(env, job, left):
    finding = get("env-leftovers")(seen(env), job)

    assert finding.status is (Status.WARN if left else Status.PASS)
    if left:
        name, value = next(iter(env.items()))
        assert EnvUnset(name) in finding.fix.settings
        assert f"{name}={value}: " in finding.evidence[0]


def test_leftovers_are_all_named():
    env = {"CUDA_LAUNCH_BLOCKING": "1", "MKL_VERBOSE": "1", "TORCH_COMPILE_DEBUG": "1"}

    finding = get("env-leftovers")(seen(env), EIGHT)

    assert finding.summary.startswith("3 are left over")
    assert len(finding.summary) < 80
    assert {setting.name for setting in finding.fix.settings} == set(env)


@pytest.mark.parametrize(
    ("env", "status", "says"),
    [
        pytest.param({"CUDA_VISIBLE_DEVICE": "0"}, Status.WARN, "CUDA_VISIBLE_DEVICES is", id="s"),
        pytest.param({"OMP_NUM_THREAD": "1"}, Status.WARN, "OMP_NUM_THREADS is", id="OMP"),
        pytest.param({"TORCH_FUTURE_THING": "1"}, Status.PASS, "0 known", id="newer than we are"),
        pytest.param({"NCCL_DISABLE_IB": "1"}, Status.PASS, "0 known", id="nccl-environment"),
        pytest.param({"NCLL_DEBUG": "INFO"}, Status.PASS, "0 known", id="that, too"),
        pytest.param({"NCCL_DEBUG": "loud"}, Status.PASS, "0 known", id="and its value"),
        pytest.param({"CUDA_DEVICE_ORDER": "PCI_BUS"}, Status.WARN, "PCI_BUS_ID", id="order word"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "1"}, Status.FAIL, "OFF, INFO", id="torch stops"),
        pytest.param(
            {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segment:True"},
            Status.FAIL,
            "no such option, but expandable_segments",
            id="allocator, slip",
        ),
        pytest.param(
            {"PYTORCH_ALLOC_CONF": "max_split_size:128"}, Status.FAIL, "_mb", id="allocator, unit"
        ),
        pytest.param(
            {"PYTORCH_ALLOC_CONF": "max_split_size_mb=128"}, Status.FAIL, "colon", id="equals sign"
        ),
        pytest.param(
            {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:true"},
            Status.FAIL,
            "True or False",
            id="allocator, case",
        ),
        pytest.param(
            {
                "PYTORCH_CUDA_ALLOC_CONF": "garbage_collection_threshold:0.6,"
                "roundup_power2_divisions:[256:1,512:2,>:4], max_split_size_mb:128"
            },
            Status.PASS,
            "",
            id="allocator, nested",
        ),
        pytest.param(
            {"PYTORCH_ALLOC_CONF": "some_future_option:1"}, Status.PASS, "", id="allocator, newer"
        ),
    ],
)
def test_typos(env, status, says):
    finding = get("env-typos")(seen(env))

    assert finding.status is status
    assert says in finding.summary + " ".join(finding.evidence)


def test_typos_give_the_line_that_renames():
    finding = get("env-typos")(seen({"CUDA_VISIBLE_DEVICE": "0"}))

    assert finding.fix.commands == (
        'export CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICE"; unset CUDA_VISIBLE_DEVICE',
    )


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        pytest.param(
            "TORCH_DISTRIBUTED_DEBUG", "info", EnvSet("TORCH_DISTRIBUTED_DEBUG", "INFO"), id="case"
        ),
        pytest.param(
            "CUDA_DEVICE_ORDER",
            "'PCI_BUS_ID'",
            EnvSet("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            id="quotes",
        ),
        pytest.param(
            "TORCH_DISTRIBUTED_DEBUG", "1", EnvUnset("TORCH_DISTRIBUTED_DEBUG"), id="nobody knows"
        ),
    ],
)
def test_typos_correct_a_value_that_is_clear(name, value, setting):
    finding = get("env-typos")(seen({name: value}))

    assert finding.status is Status.PASS or finding.fix.settings == (setting,)
