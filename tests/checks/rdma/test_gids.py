"""checks/rdma/gids.py: tables of GIDs x NCCL's version and variables -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Environment,
    EnvSet,
    EnvUnset,
    HostNetwork,
    Interface,
    JobPython,
    Network,
    Status,
)
from gpudoctor.registry import get
from tests.rdma_machines import (
    EFA,
    EIGHT,
    INFINIBAND,
    ONE_NODE,
    ROCE,
    SOFT_ROCE,
    TWO_NODES,
    UNPLUGGED,
    VM,
    gids,
    infiniband,
    machine,
    roce,
    without,
)

OLD = JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": "2.20.5"})
NEW = JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": "2.27.5"})


def env(**values: str) -> Environment:
    return Environment(values=values, names=tuple(values))


def index(value: int) -> Environment:
    return env(NCCL_IB_GID_INDEX=str(value))


NOTHING = env()
ONLY_LOCAL = without(ROCE, 0, gids=gids("ens0np0")[:2])
STORAGE = machine(infiniband(0), roce(1, gids=gids("ens1np0")[:2]))
EMPTY = without(ROCE, 0, gids=())


@pytest.mark.parametrize(
    ("rdma", "environment", "python", "status", "says"),
    [
        pytest.param(ROCE, NOTHING, NEW, Status.PASS, "8 RoCE ports", id="healthy: RoCE"),
        pytest.param(ROCE, NOTHING, None, Status.PASS, "8 RoCE ports", id="healthy: NCCL unknown"),
        pytest.param(ROCE, index(3), NEW, Status.PASS, "", id="healthy: the right index"),
        pytest.param(ROCE, index(3), OLD, Status.PASS, "", id="healthy: it is needed"),
        pytest.param(ROCE, index(-1), NEW, Status.PASS, "", id="-1 is not set"),
        pytest.param(INFINIBAND, index(3), NEW, Status.SKIP, "no RoCE", id="healthy: IB"),
        pytest.param(EFA, NOTHING, NEW, Status.SKIP, "no RoCE", id="healthy: EFA"),
        pytest.param(STORAGE, NOTHING, NEW, Status.SKIP, "no RoCE", id="healthy: IB, and storage"),
        pytest.param(STORAGE, env(NCCL_IB_HCA="mlx5"), NEW, Status.WARN, "no rout", id="named"),
        pytest.param(VM, NOTHING, NEW, Status.PASS, "1 RoCE port", id="healthy: a cloud's VM"),
        pytest.param(SOFT_ROCE, NOTHING, NEW, Status.PASS, "1 RoCE port", id="healthy: Soft-RoCE"),
        pytest.param(
            without(machine(roce(0)), 0, **UNPLUGGED), NOTHING, NEW, Status.SKIP, "", id="unplugged"
        ),
        pytest.param(
            ROCE,
            index(9),
            NEW,
            Status.FAIL,
            "NCCL_IB_GID_INDEX=9: on mlx5_0:1 it is empty",
            id="an empty entry",
        ),
        pytest.param(ROCE, index(2), NEW, Status.WARN, "is RoCE v1", id="version 1"),
        pytest.param(ROCE, index(1), NEW, Status.WARN, "is link-local", id="link-local"),
        pytest.param(ONLY_LOCAL, NOTHING, NEW, Status.WARN, "no routable GID", id="no address"),
        pytest.param(EMPTY, NOTHING, NEW, Status.WARN, "no routable GID", id="no GID at all"),
        pytest.param(
            ROCE,
            env(NCCL_IB_ADDR_FAMILY="AF_INET6"),
            NEW,
            Status.WARN,
            "no routable GID",
            id="IPv6 is asked for",
        ),
        pytest.param(
            ROCE, env(NCCL_IB_HCA="=mlx5_1"), NEW, Status.PASS, "1 RoCE port", id="one is named"
        ),
        pytest.param(
            ONLY_LOCAL, env(NCCL_IB_HCA="^=mlx5_0"), NEW, Status.PASS, "7", id="left out by name"
        ),
        pytest.param(
            ROCE, NOTHING, OLD, Status.WARN, "NCCL 2.20 takes GID 0 of mlx5_0:1", id="NCCL < 2.21"
        ),
        pytest.param(
            replace(
                ROCE, devices=tuple(replace(d, node_error="ENOENT: ...") for d in ROCE.devices)
            ),
            index(9),
            NEW,
            Status.SKIP,
            "",
            id="not to be opened: see rdma-devices",
        ),
    ],
)
def test_gid(rdma, environment, python, status, says):
    finding = get("rdma-gid")(rdma, TWO_NODES, EIGHT, environment, None, python, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("environment", "python", "setting"),
    [
        pytest.param(index(9), NEW, EnvUnset("NCCL_IB_GID_INDEX"), id="NCCL chooses by itself"),
        pytest.param(index(9), None, EnvUnset("NCCL_IB_GID_INDEX"), id="NCCL unknown"),
        pytest.param(index(9), OLD, EnvSet("NCCL_IB_GID_INDEX", "3"), id="NCCL < 2.21"),
        pytest.param(NOTHING, OLD, EnvSet("NCCL_IB_GID_INDEX", "3"), id="NCCL < 2.21, not set"),
    ],
)
def test_gid_fix(environment, python, setting):
    finding = get("rdma-gid")(ROCE, TWO_NODES, EIGHT, environment, None, python, None)

    assert finding.fix.settings == (setting,)


def test_gid_of_a_job_on_one_node_is_not_judged():
    finding = get("rdma-gid")(ROCE, ONE_NODE, EIGHT, index(9), None, NEW, None)

    assert finding.status is Status.SKIP


@pytest.mark.parametrize(
    ("names", "status"),
    [
        pytest.param([f"ens{n}np0" for n in range(8)], Status.PASS, id="the host's network"),
        pytest.param(["lo", "eth0"], Status.WARN, id="a network namespace of its own"),
    ],
)
def test_gid_of_an_interface_outside(names, status):
    interfaces = tuple(Interface(index=n, name=name) for n, name in enumerate(names, 1))

    finding = get("rdma-gid")(
        ROCE, TWO_NODES, EIGHT, NOTHING, None, NEW, Network(interfaces=interfaces)
    )

    assert finding.status is status
    if status is Status.WARN:
        assert finding.fix.settings == (HostNetwork(),)


def test_gid_shows_the_table():
    evidence = get("rdma-gid")(ROCE, TWO_NODES, EIGHT, index(9), None, NEW, None).evidence

    table = "0 (link-local, RoCE v1), 1 (link-local, RoCE v2), 2 (IPv4, RoCE v1), 3 (IPv4, RoCE v2)"
    assert evidence[-1] == f"mlx5_0:1 has {table}"
