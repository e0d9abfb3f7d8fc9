"""checks/nccl/environment.py: variables and files x the machine -> status."""

import pytest

from gpudoctor import (
    Absent,
    Environment,
    EnvSet,
    EnvUnset,
    Gpus,
    Machine,
    NcclFile,
    NcclPlugins,
    NcclSettings,
    Pair,
    Status,
    Workload,
)
from gpudoctor.probes.environment import environment
from gpudoctor.registry import get
from tests.gpu_machines import H100, RTX_4090
from tests.rdma_machines import INFINIBAND, LAN, UNPLUGGED, infiniband, machine

ONE = Workload().told({"local_ranks": 1}, "GPU device nodes")
EIGHT = Workload().told({"local_ranks": 8}, "GPU device nodes")
TWO_NODES = EIGHT.told({"nodes": 2}, "SLURM_NNODES")
ONE_NODE = EIGHT.told({"nodes": 1}, "SLURM_NNODES")
NONE = Absent("there is no RDMA device here")
STUCK = Absent("no answer in 6 s", broken=True)
ALL_DOWN = machine(infiniband(0, **UNPLUGGED))
OFI = NcclPlugins(files=("/opt/amazon/ofi-nccl/lib/libnccl-net-ofi.so",))


def seen(env: dict[str, str]) -> Environment:
    found = environment(Machine(env=env))
    assert isinstance(found, Environment)
    return found


def paired(gpu, p2p: str, path: str = "") -> Gpus:
    return Gpus(devices=(gpu, gpu), pairs=(Pair(one=0, other=1, p2p=p2p, path=path),))


NVLINK = paired(H100, "ok", "NVLink")
SWITCH = paired(H100, "ok", "PCIe switch")
HOST_BRIDGE = paired(RTX_4090, "ok", "host bridge")
NO_P2P = paired(RTX_4090, "chipset not supported", "host bridge")


@pytest.mark.parametrize(
    ("env", "job", "rdma", "found"),
    [
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "1"}, EIGHT, NONE, True, id="blocking wait"),
        pytest.param({"NCCL_BLOCKING_WAIT": "1"}, EIGHT, NONE, True, id="by its old name"),
        pytest.param({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0"}, EIGHT, NONE, True, id="no abort"),
        pytest.param({"NCCL_DEBUG": "TRACE"}, EIGHT, NONE, True, id="trace"),
        pytest.param({"NCCL_DEBUG": "INFO"}, EIGHT, NONE, False, id="info is no fault"),
        pytest.param({"NCCL_DEBUG": "WARN"}, EIGHT, NONE, False, id="warn is no fault"),
        pytest.param({"NCCL_DEBUG_SUBSYS": "ALL"}, EIGHT, NONE, False, id="subsystems, no debug"),
        pytest.param(
            {"NCCL_DEBUG_SUBSYS": "INIT,COLL", "NCCL_DEBUG": "INFO"},
            EIGHT,
            NONE,
            True,
            id="every collective logged",
        ),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, EIGHT, NONE, True, id="no P2P"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, None, NONE, True, id="no P2P, job unknown"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, Workload(), NONE, True, id="ranks assumed"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, ONE, NONE, False, id="no P2P with one rank"),
        pytest.param({"NCCL_P2P_DISABLE": "0"}, EIGHT, NONE, False, id="P2P"),
        pytest.param({"NCCL_SHM_DISABLE": "1"}, EIGHT, NONE, True, id="no SHM"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, INFINIBAND, True, id="no RDMA"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, EIGHT, INFINIBAND, True, id="nodes unknown"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, ONE_NODE, INFINIBAND, False, id="one node"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, NONE, False, id="has no RDMA"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, ALL_DOWN, False, id="no port is active"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, LAN, False, id="a LAN card"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, TWO_NODES, STUCK, False, id="devices unknown"),
        pytest.param({"NCCL_NET": "Socket"}, TWO_NODES, INFINIBAND, True, id="TCP"),
        pytest.param({"NCCL_NET": "Socket"}, TWO_NODES, NONE, False, id="TCP, no RDMA"),
        pytest.param({"NCCL_NET_GDR_LEVEL": "LOC"}, TWO_NODES, INFINIBAND, True, id="no GDR"),
        pytest.param({"NCCL_NET_GDR_LEVEL": "SYS"}, TWO_NODES, INFINIBAND, False, id="GDR"),
        pytest.param({"NCCL_ALGO": "Tree"}, EIGHT, NONE, True, id="one algorithm"),
        pytest.param({"NCCL_ALGO": "Ring,Tree"}, EIGHT, NONE, False, id="a choice"),
        pytest.param({"NCCL_ALGO": "^NVLS"}, EIGHT, NONE, False, id="all but one"),
        pytest.param({"NCCL_PROTO": "LL128"}, EIGHT, NONE, True, id="one protocol"),
        pytest.param({"CUDA_LAUNCH_BLOCKING": "1"}, EIGHT, NONE, False, id="env-leftovers has it"),
    ],
)
def test_leftovers(env, job, rdma, found):
    finding = get("nccl-environment")(seen(env), job, None, None, rdma, None)

    assert finding.status is (Status.WARN if found else Status.PASS)
    if found:
        name, value = next(iter(env.items()))
        assert EnvUnset(name) in finding.fix.settings
        assert f"{name}={value}: " in finding.evidence[0]


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
        pytest.param({"NCCL_DISABLE_IB": "1"}, Status.WARN, "NCCL_IB_DISABLE is", id="order"),
        pytest.param({"CUDA_VISIBLE_DEVICE": "0"}, Status.PASS, "", id="env-typos has it"),
        pytest.param({"NCCL_FUTURE_THING": "1"}, Status.PASS, "0 var", id="newer than we are"),
        pytest.param({"NCCL_TIMEOUT": "600"}, Status.PASS, "1 var", id="read by scripts"),
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
        pytest.param({"NCCL_BUFFSIZE": "8388608"}, Status.PASS, "", id="as AWS advises"),
        pytest.param({"NCCL_BUFFSIZE": "4096"}, Status.WARN, "is 4 KiB, usual", id="small"),
        pytest.param({"NCCL_BUFFSIZE": "1073741824"}, Status.WARN, "is 1 GiB, usual", id="large"),
        pytest.param({"NCCL_P2P_LEVEL": "nvl"}, Status.WARN, "is none of LOC, NVL", id="case"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, Status.PASS, "", id="level, GPUs unknown"),
        pytest.param({"NCCL_NET_GDR_LEVEL": "3"}, Status.PASS, "", id="level, old style"),
        pytest.param({"NCCL_DEBUG": '"INFO"'}, Status.WARN, "is none of", id="quotes kept"),
        pytest.param({"NCCL_DEBUG": "info"}, Status.PASS, "", id="any case"),
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "on"}, Status.FAIL, "neither", id="not boolean"),
        pytest.param(
            {"TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "600s"}, Status.WARN, "as 600", id="stoi takes it"
        ),
        pytest.param(
            {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_IB_HCA": "mlx5", "NCCL_IB_GID_INDEX": "3"},
            Status.PASS,
            "see rdma-gid",
            id="healthy: what a cluster sets",
        ),
    ],
)
def test_spelling_and_values(env, status, says):
    finding = get("nccl-environment")(seen(env), EIGHT, None, None, NONE, None)

    assert finding.status is status
    assert says in finding.summary + " ".join(finding.evidence)


@pytest.mark.parametrize(
    ("env", "gpus", "status"),
    [
        pytest.param({"NCCL_P2P_DISABLE": "1"}, NVLINK, Status.WARN, id="off, with NVLink"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, SWITCH, Status.WARN, id="off, with a switch"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, NO_P2P, Status.PASS, id="healthy: GeForce"),
        pytest.param({"NCCL_P2P_DISABLE": "1"}, None, Status.WARN, id="off, GPUs unknown"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, NVLINK, Status.PASS, id="healthy: NVLink"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, SWITCH, Status.WARN, id="NVL without NVLink"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, HOST_BRIDGE, Status.PASS, id="would not anyway"),
        pytest.param({"NCCL_P2P_LEVEL": "NVL"}, NO_P2P, Status.PASS, id="cannot anyway"),
        pytest.param({"NCCL_P2P_LEVEL": "LOC"}, NVLINK, Status.WARN, id="never"),
        pytest.param({"NCCL_P2P_LEVEL": "SYS"}, SWITCH, Status.PASS, id="healthy: always"),
    ],
)
def test_direct_access_between_gpus(env, gpus, status):
    finding = get("nccl-environment")(seen(env), EIGHT, None, None, NONE, gpus)

    assert finding.status is status


@pytest.mark.parametrize(
    ("env", "rdma", "plugins", "status"),
    [
        pytest.param({"NCCL_NET": "IB"}, INFINIBAND, None, Status.PASS, id="IB"),
        pytest.param({"NCCL_NET": "IB"}, NONE, None, Status.FAIL, id="IB, no device"),
        pytest.param({"NCCL_NET": "ib"}, ALL_DOWN, None, Status.FAIL, id="IB, no active port"),
        pytest.param({"NCCL_NET": "IB"}, STUCK, None, Status.PASS, id="IB, devices unknown"),
        pytest.param({"NCCL_NET": "AWS Libfabric"}, NONE, OFI, Status.PASS, id="plug-in's"),
        pytest.param(
            {"NCCL_NET": "AWS Libfabric"},
            NONE,
            NcclPlugins(),
            Status.WARN,
            id="not here",
        ),
        pytest.param({"NCCL_NET": "AWS Libfabric"}, NONE, None, Status.PASS, id="not looked for"),
        pytest.param({"NCCL_NET_PLUGIN": "ofi"}, NONE, OFI, Status.PASS, id="plug-in"),
        pytest.param({"NCCL_NET_PLUGIN": "spcx,ofi"}, NONE, OFI, Status.PASS, id="one of two"),
        pytest.param({"NCCL_NET_PLUGIN": OFI.files[0]}, NONE, OFI, Status.PASS, id="its path"),
        pytest.param({"NCCL_NET_PLUGIN": "tuner"}, NONE, OFI, Status.WARN, id="another's name"),
        pytest.param({"NCCL_NET_PLUGIN": "none"}, NONE, NcclPlugins(), Status.PASS, id="none"),
    ],
)
def test_networks(env, rdma, plugins, status):
    finding = get("nccl-environment")(seen(env), EIGHT, None, plugins, rdma, None)

    assert finding.status is status


def test_all_are_named():
    env = {"NCCL_DEBUG": "TRACE", "NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}

    finding = get("nccl-environment")(seen(env), EIGHT, None, None, NONE, None)

    assert finding.summary.startswith("3 are to be mended: NCCL_DEBUG, ")
    assert len(finding.summary) < 80
    assert {setting.name for setting in finding.fix.settings} == set(env)


def test_it_is_said_who_set_a_variable():
    settings = NcclSettings(origins={"NCCL_P2P_DISABLE": "~/.bashrc:12"})
    env = seen({"NCCL_P2P_DISABLE": "1"})

    finding = get("nccl-environment")(env, EIGHT, settings, None, NONE, None)

    assert finding.evidence[0].endswith(" (set in ~/.bashrc:12)")


@pytest.mark.parametrize(
    ("file", "edit", "needs_root"),
    [
        pytest.param(
            NcclFile(path="/etc/nccl.conf", values={"NCCL_P2P_DISABLE": "1"}),
            "/^NCCL_P2P_DISABLE=/d",
            True,
            id="left over",
        ),
        pytest.param(
            NcclFile(path="/etc/nccl.conf", values={"NCCL_IB_DISABLE": "true"}),
            "s/^NCCL_IB_DISABLE=.*/NCCL_IB_DISABLE=1/",
            True,
            id="a value",
        ),
        pytest.param(
            NcclFile(path="/root/.nccl.conf", others=("NCCL_SOCKET_IFNAMES",)),
            "s/^NCCL_SOCKET_IFNAMES=/NCCL_SOCKET_IFNAME=/",
            False,
            id="a name",
        ),
    ],
)
def test_files_of_nccl(file, edit, needs_root):
    settings = NcclSettings(files=(file,))

    finding = get("nccl-environment")(seen({}), EIGHT, settings, None, NONE, None)

    assert finding.status is Status.WARN
    assert finding.evidence[0].endswith(f" (set in {file.path})")
    assert finding.fix.settings == ()
    assert finding.fix.commands[0].startswith("sed -i ")
    assert edit in finding.fix.commands[0]
    assert finding.fix.needs_root is needs_root


def test_the_environment_wins_over_files():
    file = NcclFile(path="/etc/nccl.conf", values={"NCCL_P2P_DISABLE": "1"})
    env = seen({"NCCL_P2P_DISABLE": "0"})

    finding = get("nccl-environment")(env, EIGHT, NcclSettings(files=(file,)), None, NONE, None)

    assert finding.status is Status.PASS


def test_the_line_that_renames():
    env = seen({"NCCL_SOCKET_IFNAMES": "eth0"})

    finding = get("nccl-environment")(env, EIGHT, None, None, NONE, None)

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
def test_a_value_that_is_clear_is_corrected(name, value, setting):
    finding = get("nccl-environment")(seen({name: value}), EIGHT, None, None, NONE, None)

    assert finding.fix.settings == (setting,)


def test_an_old_name_that_is_still_read_is_only_remarked():
    env = seen({"NCCL_ASYNC_ERROR_HANDLING": "1"})

    finding = get("nccl-environment")(env, EIGHT, None, None, NONE, None)

    assert finding.status is Status.PASS
    assert "the old name of TORCH_NCCL_ASYNC_ERROR_HANDLING" in finding.evidence[0]
