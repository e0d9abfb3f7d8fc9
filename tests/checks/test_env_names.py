"""checks/env.py, leftovers and slips: environments -> status."""

import pytest

from gpudoctor import Devices, Environment, EnvSet, EnvUnset, Machine, Status, Workload
from gpudoctor.probes.environment import environment
from gpudoctor.registry import get

ONE = Workload().told({"local_ranks": 1}, "GPU device nodes")
EIGHT = Workload().told({"local_ranks": 8}, "GPU device nodes")
TWO_NODES = EIGHT.told({"nodes": 2}, "SLURM_NNODES")
ONE_NODE = EIGHT.told({"nodes": 1}, "SLURM_NNODES")
RDMA = Devices(rdma=("uverbs0",), rdma_in_sysfs=("mlx5_0",))
ETHERNET = Devices()


def seen(env: dict[str, str]) -> Environment:
    return environment(Machine(env=env))


@pytest.mark.parametrize(
    ("env", "job", "devices", "left"),
    [
        pytest.param({"CUDA_LAUNCH_BLOCKING": "1"}, ONE, ETHERNET, True, id="launch blocking"),
        pytest.param({"CUDA_LAUNCH_BLOCKING": "0"}, ONE, ETHERNET, False, id="switched off"),
        pytest.param({"CUDA_LAUNCH_BLOCKING": ""}, ONE, ETHERNET, False, id="empty"),
        pytest.param({"HIP_LAUNCH_BLOCKING": "1"}, ONE, ETHERNET, True, id="HIP"),
        pytest.param({"AMD_LOG_LEVEL": "4"}, ONE, ETHERNET, True, id="HIP's log"),
        pytest.param({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, ONE, None, True, id="no caching"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "detail"}, ONE, None, True, id="detail"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "INFO"}, ONE, None, False, id="info"),
        pytest.param({"TORCHDYNAMO_DISABLE": "1"}, ONE, None, True, id="no compile"),
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "1"}, EIGHT, None, True, id="blocking wait"),
        pytest.param({"NCCL_BLOCKING_WAIT": "1"}, EIGHT, None, True, id="by its old name"),
        pytest.param({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0"}, EIGHT, None, True, id="no abort"),
        pytest.param({"NCCL_DEBUG": "TRACE"}, EIGHT, None, True, id="trace"),
        pytest.param({"NCCL_DEBUG": "INFO"}, EIGHT, None, False, id="info is no fault"),
        pytest.param({"NCCL_DEBUG": "WARN"}, EIGHT, None, False, id="warn is no fault"),
        pytest.param({"NCCL_DEBUG_SUBSYS": "ALL"}, EIGHT, None, False, id="subsystems, no debug"),
        pytest.param(
            {"NCCL_DEBUG_SUBSYS": "INIT,COLL", "NCCL_DEBUG": "INFO"},
            EIGHT,
            None,
            True,
            id="every collective logged",
        ),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, EIGHT, None, True, id="no P2P"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, None, None, True, id="no P2P, job unknown"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, Workload(), None, True, id="ranks assumed"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, ONE, None, False, id="no P2P with one rank"),
        pytest.param({"NCCL_P2P_DISABLE": "0"}, EIGHT, None, False, id="P2P"),
        pytest.param({"NCCL_SHM_DISABLE": "1"}, EIGHT, None, True, id="no SHM"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, RDMA, True, id="no RDMA"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, EIGHT, RDMA, True, id="nodes unknown"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, ONE_NODE, RDMA, False, id="one node"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, ETHERNET, False, id="has no RDMA"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, None, False, id="devices unknown"),
        pytest.param({"NCCL_NET": "Socket"}, TWO_NODES, RDMA, True, id="TCP"),
        pytest.param({"NCCL_ALGO": "Tree"}, EIGHT, None, True, id="one algorithm"),
        pytest.param({"NCCL_ALGO": "Ring,Tree"}, EIGHT, None, False, id="a choice"),
        pytest.param({"NCCL_ALGO": "^NVLS"}, EIGHT, None, False, id="all but one"),
        pytest.param({"NCCL_PROTO": "LL128"}, EIGHT, None, True, id="one protocol"),
        pytest.param({"TRITON_INTERPRET": "1"}, ONE, None, True, id="Triton on the CPU"),
        pytest.param({"MKL_VERBOSE": "1"}, ONE, None, True, id="MKL talks"),
    ],
)
def test_leftovers(env, job, devices, left):
    finding = get("env-leftovers")(seen(env), job, devices)

    assert finding.status is (Status.WARN if left else Status.PASS)
    if left:
        name, value = next(iter(env.items()))
        assert EnvUnset(name) in finding.fix.settings
        assert f"{name}={value}: " in finding.evidence[0]


def test_leftovers_are_all_named():
    env = {"CUDA_LAUNCH_BLOCKING": "1", "NCCL_P2P_DISABLE": "1", "TORCH_COMPILE_DEBUG": "1"}

    finding = get("env-leftovers")(seen(env), EIGHT, ETHERNET)

    assert finding.summary.startswith("3 are left over")
    assert len(finding.summary) < 80
    assert {setting.name for setting in finding.fix.settings} == set(env)


@pytest.mark.parametrize(
    ("env", "status", "says"),
    [
        pytest.param(
            {"NCCL_SOCKET_IFNAMES": "eth0"},
            Status.WARN,
            "NCCL_SOCKET_IFNAMES is read by no library, NCCL_SOCKET_IFNAME is",
            id="a letter too many",
        ),
        pytest.param({"NCLL_DEBUG": "INFO"}, Status.WARN, "NCCL_DEBUG is", id="prefix"),
        pytest.param({"nccl_debug": "INFO"}, Status.WARN, "NCCL_DEBUG is", id="lower case"),
        pytest.param({"CUDA_VISIBLE_DEVICE": "0"}, Status.WARN, "CUDA_VISIBLE_DEVICES is", id="s"),
        pytest.param({"NCCL_DISABLE_IB": "1"}, Status.WARN, "NCCL_IB_DISABLE is", id="order"),
        pytest.param({"OMP_NUM_THREAD": "1"}, Status.WARN, "OMP_NUM_THREADS is", id="OMP"),
        pytest.param({"NCCL_FUTURE_THING": "1"}, Status.PASS, "0 known", id="newer than we are"),
        pytest.param({"NCCL_TIMEOUT": "600"}, Status.PASS, "1 known", id="read by scripts"),
        pytest.param({"NCCL_IB_CUDA_SUPPORT": "1"}, Status.WARN, "since NCCL 2.3.7", id="removed"),
        pytest.param(
            {"NCCL_IB_DISABLE": "true"},
            Status.WARN,
            "NCCL_IB_DISABLE=true is not a number, but read as 0",
            id="true is 0",
        ),
        pytest.param({"NCCL_IB_DISABLE": ""}, Status.PASS, "", id="empty counts as not set"),
        pytest.param({"NCCL_BUFFSIZE": "4M"}, Status.WARN, "but read as 4", id="unit"),
        pytest.param({"NCCL_BUFFSIZE": "0x400000"}, Status.PASS, "", id="hexadecimal"),
        pytest.param({"NCCL_P2P_LEVEL": "nvl"}, Status.WARN, "is none of LOC, NVL", id="case"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, Status.PASS, "", id="level"),
        pytest.param({"NCCL_NET_GDR_LEVEL": "3"}, Status.PASS, "", id="level, old style"),
        pytest.param({"NCCL_DEBUG": '"INFO"'}, Status.WARN, "is none of", id="quotes kept"),
        pytest.param({"NCCL_DEBUG": "info"}, Status.PASS, "", id="any case"),
        pytest.param({"CUDA_DEVICE_ORDER": "PCI_BUS"}, Status.WARN, "PCI_BUS_ID", id="order word"),
        pytest.param({"TORCH_DISTRIBUTED_DEBUG": "1"}, Status.FAIL, "OFF, INFO", id="torch stops"),
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "on"}, Status.FAIL, "neither", id="not boolean"),
        pytest.param(
            {"TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "600s"}, Status.WARN, "as 600", id="stoi takes it"
        ),
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
    finding = get("env-typos")(seen({"NCCL_SOCKET_IFNAMES": "eth0"}))

    assert finding.fix.commands == (
        'export NCCL_SOCKET_IFNAME="$NCCL_SOCKET_IFNAMES"; unset NCCL_SOCKET_IFNAMES',
    )


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        pytest.param("NCCL_IB_DISABLE", "true", EnvSet("NCCL_IB_DISABLE", "1"), id="true"),
        pytest.param("NCCL_IB_DISABLE", "off", EnvSet("NCCL_IB_DISABLE", "0"), id="off"),
        pytest.param("NCCL_P2P_LEVEL", "nvl", EnvSet("NCCL_P2P_LEVEL", "NVL"), id="case"),
        pytest.param("NCCL_DEBUG", "'warn'", EnvSet("NCCL_DEBUG", "warn"), id="quotes"),
        pytest.param("NCCL_DEBUG", "loud", EnvUnset("NCCL_DEBUG"), id="nobody knows"),
    ],
)
def test_typos_correct_a_value_that_is_clear(name, value, setting):
    assert get("env-typos")(seen({name: value})).fix.settings == (setting,)


def test_an_old_name_that_is_still_read_is_only_remarked():
    finding = get("env-typos")(seen({"NCCL_ASYNC_ERROR_HANDLING": "1"}))

    assert finding.status is Status.PASS
    assert "the old name of TORCH_NCCL_ASYNC_ERROR_HANDLING" in finding.evidence[0]
