"""checks/rdma/ports.py: ports up, their rates and counters."""

import pytest
from msgspec.structs import replace

from gpudoctor import Environment, Gpus, NcclFile, NcclSettings, Status
from gpudoctor.registry import get
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
    UNPLUGGED,
    VM,
    infiniband,
    machine,
    roce,
    without,
)

WAITING = {"state": "INIT", "physical_state": "LinkUp"}
SWITCHED_OFF = {"state": "DOWN", "physical_state": "Disabled"}


def env(**values: str) -> Environment:
    return Environment(values=values, names=tuple(values))


NOTHING = env()
ONE = Gpus(devices=EIGHT.devices[:1])
NAMED = env(NCCL_IB_HCA="=mlx5_0,mlx5_1")
# The cards for storage are of another kind.
BOARDS = machine(
    *(
        replace(device, board="MT4129 A" if place < 8 else "MT4123 B")
        for place, device in enumerate(DGX.devices)
    )
)
ALL_DOWN = machine(*(infiniband(n, **UNPLUGGED) for n in range(8)))


@pytest.mark.parametrize(
    ("rdma", "environment", "gpus", "status", "says"),
    [
        pytest.param(INFINIBAND, NOTHING, EIGHT, Status.PASS, "8 of 8 ports", id="healthy: IB"),
        pytest.param(ROCE, NOTHING, EIGHT, Status.PASS, "8 of 8 ports", id="healthy: RoCE"),
        pytest.param(DGX, NOTHING, EIGHT, Status.PASS, "10 of 11", id="healthy: a second port"),
        pytest.param(
            without(DGX, 10, **SWITCHED_OFF), NOTHING, EIGHT, Status.PASS, "10", id="switched off"
        ),
        pytest.param(DGX, env(NCCL_IB_HCA="mlx5"), EIGHT, Status.PASS, "10", id="a prefix"),
        pytest.param(LAN, NOTHING, EIGHT, Status.SKIP, "ordinary", id="healthy: a LAN card"),
        pytest.param(
            without(LAN, 0, **UNPLUGGED), NOTHING, EIGHT, Status.SKIP, "", id="healthy: unplugged"
        ),
        pytest.param(VM, NOTHING, EIGHT, Status.SKIP, "", id="healthy: a cloud's VM"),
        pytest.param(EFA, NOTHING, EIGHT, Status.SKIP, "", id="healthy: EFA"),
        pytest.param(SOFT_ROCE, NOTHING, EIGHT, Status.SKIP, "", id="Soft-RoCE, not named"),
        pytest.param(
            SOFT_ROCE, env(NCCL_IB_HCA="rxe"), None, Status.PASS, "1 of 1", id="Soft-RoCE, named"
        ),
        pytest.param(
            without(SOFT_ROCE, 0, state="DOWN"),
            env(NCCL_IB_HCA="=rxe0"),
            None,
            Status.FAIL,
            "0 of 1 port ACTIVE, named by NCCL_IB_HCA",
            id="Soft-RoCE, down",
        ),
        pytest.param(
            without(INFINIBAND, 3, **UNPLUGGED),
            NOTHING,
            EIGHT,
            Status.WARN,
            "7 of 8",
            id="a port for a GPU is down",
        ),
        pytest.param(
            without(INFINIBAND, 3, **UNPLUGGED), NOTHING, ONE, Status.PASS, "", id="one GPU"
        ),
        pytest.param(
            without(ROCE, 3, **UNPLUGGED), NOTHING, EIGHT, Status.WARN, "7 of 8", id="RoCE, down"
        ),
        pytest.param(
            without(INFINIBAND, 3, **WAITING),
            NOTHING,
            ONE,
            Status.WARN,
            "7",
            id="no subnet manager",
        ),
        pytest.param(
            without(DGX, 4, **UNPLUGGED),
            NOTHING,
            EIGHT,
            Status.WARN,
            "9 of 11",
            id="a port for a GPU is down, storage is up",
        ),
        pytest.param(
            without(BOARDS, 8, **UNPLUGGED), NOTHING, EIGHT, Status.PASS, "9", id="storage is down"
        ),
        pytest.param(
            without(without(BOARDS, 8, **UNPLUGGED), 4, **UNPLUGGED),
            NOTHING,
            EIGHT,
            Status.WARN,
            "mlx5_4:1",
            id="both are down",
        ),
        pytest.param(ALL_DOWN, NOTHING, EIGHT, Status.WARN, "0 of 8", id="all down"),
        pytest.param(
            without(INFINIBAND, 1, **UNPLUGGED), NAMED, EIGHT, Status.FAIL, "1 of 2", id="named"
        ),
        pytest.param(
            without(INFINIBAND, 2, **UNPLUGGED), NAMED, None, Status.PASS, "2 of 2", id="not named"
        ),
        pytest.param(
            without(INFINIBAND, 3, **UNPLUGGED),
            env(NCCL_IB_DISABLE="1"),
            EIGHT,
            Status.SKIP,
            "NCCL_IB_DISABLE=1",
            id="NCCL leaves RDMA alone",
        ),
        pytest.param(
            ALL_DOWN, env(NCCL_NET="Socket"), EIGHT, Status.SKIP, "NCCL_NET=Socket", id="TCP"
        ),
    ],
)
def test_ports(rdma, environment, gpus, status, says):
    finding = get("rdma-ports")(rdma, TWO_NODES, gpus, environment, None)

    assert finding.status is status
    fix = finding.fix.text if finding.fix else ""
    assert says in finding.summary + finding.reason + fix


def test_ports_without_a_gpu_are_not_judged():
    finding = get("rdma-ports")(ALL_DOWN, TWO_NODES, None, NOTHING, None)

    assert finding.status is Status.SKIP
    assert "no GPU is seen here" in finding.reason


def test_ports_of_a_job_on_one_node_are_only_counted():
    finding = get("rdma-ports")(ALL_DOWN, ONE_NODE, EIGHT, NOTHING, None)

    assert finding.status is Status.SKIP
    assert "0 of 8 ports ACTIVE" in finding.reason


def test_ports_go_by_the_files_of_nccl_too():
    file = NcclFile(path="/etc/nccl.conf", values={"NCCL_IB_HCA": "=mlx5_0"})
    lame = without(INFINIBAND, 0, **UNPLUGGED)

    finding = get("rdma-ports")(lame, TWO_NODES, EIGHT, NOTHING, NcclSettings(files=(file,)))

    assert finding.status is Status.FAIL


@pytest.mark.parametrize(
    ("rdma", "command", "needs_root"),
    [
        pytest.param(
            without(INFINIBAND, 3, **WAITING), "systemctl enable --now opensm", True, id="INIT"
        ),
        pytest.param(without(INFINIBAND, 3, **UNPLUGGED), "ibstat mlx5_3 1", False, id="cable"),
        pytest.param(without(ROCE, 3, **UNPLUGGED), "ip link set ens3np0 up", True, id="RoCE"),
    ],
)
def test_ports_fix(rdma, command, needs_root):
    fix = get("rdma-ports")(rdma, TWO_NODES, EIGHT, NOTHING, None).fix

    assert fix.commands == (command,)
    assert fix.needs_root is needs_root


def slot(rdma, number: int, **changes):
    devices = list(rdma.devices)
    devices[number] = replace(devices[number], **changes)
    return replace(rdma, devices=tuple(devices))


GEN_4 = machine(*(replace(infiniband(n), link_gen=4, link_gen_max=4) for n in range(8)))


@pytest.mark.parametrize(
    ("rdma", "environment", "gpus", "status", "says"),
    [
        pytest.param(INFINIBAND, NOTHING, EIGHT, Status.PASS, "400 Gb/s on 8 ports", id="healthy"),
        pytest.param(DGX, NOTHING, EIGHT, Status.PASS, "400 Gb/s on 8 ports", id="slower storage"),
        pytest.param(DGX, NOTHING, ONE, Status.PASS, "400 Gb/s on 8", id="storage, one GPU"),
        pytest.param(LAN, NOTHING, EIGHT, Status.SKIP, "ordinary", id="healthy: a LAN card"),
        pytest.param(
            GEN_4, NOTHING, EIGHT, Status.PASS, "400", id="a slot that is slower as built"
        ),
        pytest.param(
            without(INFINIBAND, 5, rate_gbps=100.0),
            NOTHING,
            EIGHT,
            Status.WARN,
            "mlx5_5:1 runs at 100 Gb/s, others at 400",
            id="one is slower",
        ),
        pytest.param(
            without(INFINIBAND, 5, rate_gbps=100.0),
            NOTHING,
            ONE,
            Status.WARN,
            "100",
            id="one GPU",
        ),
        pytest.param(
            without(DGX, 4, **UNPLUGGED),
            NOTHING,
            EIGHT,
            Status.PASS,
            "400 Gb/s on 7",
            id="slower storage, one is down",
        ),
        pytest.param(
            without(DGX, 9, rate_gbps=100.0),
            NOTHING,
            EIGHT,
            Status.PASS,
            "400",
            id="storage of two speeds",
        ),
        pytest.param(
            without(BOARDS, 4, rate_gbps=100.0),
            NOTHING,
            EIGHT,
            Status.WARN,
            "mlx5_4:1 runs at 100 Gb/s, others at 400",
            id="slower storage, one is slower",
        ),
        pytest.param(
            machine(*BOARDS.devices[4:9]),
            NOTHING,
            ONE,
            Status.PASS,
            "400 Gb/s on 4",
            id="one for storage, one GPU",
        ),
        pytest.param(DGX, env(NCCL_IB_HCA="mlx5"), EIGHT, Status.PASS, "400", id="a prefix"),
        pytest.param(
            DGX, env(NCCL_IB_HCA="=mlx5_7,mlx5_8"), EIGHT, Status.WARN, "200", id="named together"
        ),
        pytest.param(
            slot(INFINIBAND, 2, link_width=8),
            NOTHING,
            EIGHT,
            Status.WARN,
            "mlx5_2 at 400 Gb/s has PCIe 5 x8, card and slot have 5 x16",
            id="fewer lanes",
        ),
        pytest.param(
            slot(INFINIBAND, 2, link_gen=3),
            NOTHING,
            EIGHT,
            Status.WARN,
            "PCIe 3",
            id="slower lanes",
        ),
        pytest.param(
            slot(machine(roce(0, 100.0), roce(1, 100.0)), 1, link_gen=4),
            NOTHING,
            ONE,
            Status.PASS,
            "100 Gb/s on 2",
            id="slower lanes, but enough",
        ),
    ],
)
def test_rate(rdma, environment, gpus, status, says):
    finding = get("rdma-rate")(rdma, TWO_NODES, gpus, environment, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_a_slot_that_was_never_fast_enough_is_told():
    evidence = get("rdma-rate")(GEN_4, TWO_NODES, EIGHT, NOTHING, None).evidence

    assert evidence[0] == "mlx5_0:1: PCIe 4 x16 carries 252 of 400 Gb/s"


@pytest.mark.parametrize(
    ("rdma", "status", "says"),
    [
        pytest.param(INFINIBAND, Status.PASS, "8 ports", id="healthy: none"),
        pytest.param(
            machine(*(infiniband(n, counters={"link_downed": 40}) for n in range(8))),
            Status.PASS,
            "none stands out",
            id="healthy: the switch was restarted, often",
        ),
        pytest.param(
            without(INFINIBAND, 1, counters={"link_downed": 3}), Status.PASS, "", id="a few"
        ),
        pytest.param(
            without(INFINIBAND, 1, counters={"link_downed": 212}),
            Status.WARN,
            "mlx5_1:1 has link_downed 212, the others about 0",
            id="flaps",
        ),
        pytest.param(
            without(INFINIBAND, 6, counters={"symbol_error": 65535}),
            Status.WARN,
            "mlx5_6:1 has symbol_error 65535",
            id="symbol errors",
        ),
        pytest.param(
            without(ROCE, 6, counters={"out_of_sequence": 90000}), Status.PASS, "", id="congestion"
        ),
        pytest.param(
            machine(infiniband(0, counters={"link_downed": 212})),
            Status.PASS,
            "none to compare with",
            id="a single port",
        ),
        pytest.param(LAN, Status.SKIP, "ordinary", id="healthy: a LAN card"),
    ],
)
def test_counters(rdma, status, says):
    finding = get("rdma-counters")(rdma, TWO_NODES, EIGHT, NOTHING, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason
