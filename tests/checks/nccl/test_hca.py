"""checks/nccl/hca.py: NCCL_IB_HCA x devices -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import Environment, EnvSet, NcclFile, NcclSettings, Status
from gpudoctor.registry import get
from gpudoctor.rules.nccl_names import name_list
from tests.rdma_machines import (
    DGX,
    EFA,
    EIGHT,
    INFINIBAND,
    LAN,
    ONE_NODE,
    ROCE,
    SOFT_ROCE,
    TWO_NODES,
    infiniband,
    machine,
    roce,
)

TWELVE = machine(*(infiniband(n) for n in range(12)))
MIXED = machine(*(infiniband(n) for n in range(2)), roce(2, 25.0))
RAILS_AND_LAN = machine(*(infiniband(n) for n in range(8)), roce(8, 25.0))
TWO_PORTS = machine(
    replace(infiniband(0), ports=(*infiniband(0).ports, replace(infiniband(0).ports[0], number=2)))
)
ALL_EIGHT = "=" + ",".join(f"mlx5_{n}" for n in range(8))


def judged(rdma, value: str | None, workload=TWO_NODES, gpus=EIGHT):
    values = {} if value is None else {"NCCL_IB_HCA": value}
    environment = Environment(values=values, names=tuple(values))
    return get("nccl-hca")(rdma, workload, gpus, environment, None)


@pytest.mark.parametrize(
    ("rdma", "value", "status", "says"),
    [
        pytest.param(INFINIBAND, None, Status.PASS, "not set: NCCL may use 8", id="not set"),
        pytest.param(INFINIBAND, "mlx5", Status.PASS, "8 ports of 8", id="healthy: a prefix"),
        pytest.param(INFINIBAND, ALL_EIGHT, Status.PASS, "8 ports of 8", id="healthy: a list"),
        pytest.param(INFINIBAND, "mlx5_0:1,mlx5_1:1", Status.PASS, "2 ports of 8", id="with ports"),
        pytest.param(DGX, "^=mlx5_8,mlx5_9", Status.PASS, "9 ports of 11", id="all but some"),
        pytest.param(TWELVE, "=mlx5_1", Status.PASS, "1 port of 12", id="exactly one"),
        pytest.param(TWO_PORTS, "=mlx5_0:2", Status.PASS, "1 port of 2: mlx5_0:2", id="port 2"),
        pytest.param(SOFT_ROCE, "rxe0", Status.PASS, "1 port of 1", id="Soft-RoCE"),
        pytest.param(EFA, "mlx5", Status.SKIP, "plug-in", id="EFA"),
        pytest.param(
            TWELVE,
            "mlx5_0,mlx5_1",
            Status.WARN,
            'mlx5_1 in NCCL_IB_HCA also means mlx5_10, mlx5_11: begin the list with "="',
            id="a prefix trap",
        ),
        pytest.param(TWELVE, "^mlx5_1", Status.WARN, "also means mlx5_10", id="a trap, excluding"),
        pytest.param(
            TWELVE, "mlx5_1,mlx5_10,mlx5_11", Status.PASS, "3 ports", id="all of them are listed"
        ),
        pytest.param(
            INFINIBAND, "mlx5_bond_0", Status.FAIL, "leaves no device", id="another node's name"
        ),
        pytest.param(INFINIBAND, "^mlx5", Status.FAIL, "leaves no device", id="excludes all"),
        pytest.param(INFINIBAND, "=mlx5", Status.FAIL, "leaves no device", id="an exact prefix"),
        pytest.param(
            INFINIBAND, "=mlx5_0,mlx5_9", Status.WARN, 'no device here is "mlx5_9"', id="one is not"
        ),
        pytest.param(
            INFINIBAND, "=mlx5_0, mlx5_1", Status.WARN, 'no device here is " mlx5_1"', id="a blank"
        ),
        pytest.param(INFINIBAND, "=mlx5_0:2", Status.FAIL, "leaves no device", id="no such port"),
        pytest.param(MIXED, None, Status.WARN, "InfiniBand and Ethernet at once", id="mixed"),
        pytest.param(MIXED, "mlx5", Status.WARN, "InfiniBand and Ethernet", id="mixed by a prefix"),
        pytest.param(MIXED, "=mlx5_0,mlx5_1", Status.PASS, "2 ports", id="one kind by name"),
        pytest.param(
            RAILS_AND_LAN, None, Status.PASS, "9 active ports", id="healthy: a rail for each GPU"
        ),
        pytest.param(LAN, None, Status.PASS, "1 active port", id="healthy: a LAN card"),
        pytest.param(ROCE, None, Status.PASS, "8 active ports", id="healthy: RoCE"),
    ],
)
def test_hca(rdma, value, status, says):
    finding = judged(rdma, value)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("rdma", "value", "right"),
    [
        pytest.param(TWELVE, "mlx5_0,mlx5_1", "=mlx5_0,mlx5_1", id="a prefix trap"),
        pytest.param(TWELVE, "mlx5_0:1,mlx5_1:1", "=mlx5_0:1,mlx5_1:1", id="ports are kept"),
        pytest.param(TWELVE, "^mlx5_1", "^=mlx5_1", id="a trap, excluding"),
        pytest.param(INFINIBAND, "mlx5_bond_0", ALL_EIGHT, id="another node's name"),
        pytest.param(INFINIBAND, "=mlx5_0, mlx5_1", "=mlx5_0,mlx5_1", id="a blank"),
        pytest.param(MIXED, None, "=mlx5_0,mlx5_1", id="mixed"),
    ],
)
def test_hca_fix(rdma, value, right):
    fix = judged(rdma, value).fix

    assert fix.settings == (EnvSet("NCCL_IB_HCA", right),)
    assert judged(rdma, right).status is Status.PASS


def test_hca_of_a_job_on_one_node_is_not_judged():
    assert judged(INFINIBAND, "mlx5_bond_0", ONE_NODE).status is Status.SKIP


def test_hca_in_a_file_of_nccl():
    file = NcclFile(path="/etc/nccl.conf", values={"NCCL_IB_HCA": "mlx5_bond_0"})

    finding = get("nccl-hca")(INFINIBAND, TWO_NODES, EIGHT, None, NcclSettings(files=(file,)))

    assert finding.status is Status.FAIL


@pytest.mark.parametrize(
    ("text", "name", "port", "taken"),
    [
        pytest.param("", "mlx5_0", 1, True, id="nothing means all"),
        pytest.param("^", "mlx5_0", 1, False, id="all but all"),
        pytest.param("mlx5_1", "mlx5_10", 1, True, id="prefix"),
        pytest.param("=mlx5_1", "mlx5_10", 1, False, id="exact"),
        pytest.param("^=mlx5_1", "mlx5_10", 1, True, id="all but exactly one"),
        pytest.param("mlx5_0:1", "mlx5_0", 2, False, id="another port"),
        pytest.param("mlx5_0::0:0", "mlx5_0", 2, True, id="all ports of a rail"),
        pytest.param(",,mlx5_3", "mlx5_3", 1, True, id="empty words are passed over"),
        pytest.param("mlx5_0, mlx5_1", "mlx5_1", 1, False, id="blanks are not"),
        pytest.param("=^mlx5_0", "mlx5_0", 1, False, id="the wrong way round"),
    ],
)
def test_lists_of_names(text, name, port, taken):
    assert name_list(text).takes(name, port) is taken
