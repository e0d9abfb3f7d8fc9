"""checks/rdma/devices.py: what opening the devices needs, and their way to the GPUs."""

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Container,
    Environment,
    Gpus,
    NcclPlugins,
    Rdma,
    RdmaDevices,
    Status,
    System,
)
from gpudoctor.registry import get
from tests.gpu_machines import RTX_4090
from tests.rdma_machines import (
    EFA,
    EIGHT,
    EIGHT_AMD,
    INFINIBAND,
    LAN,
    ONE_NODE,
    ROCE,
    SOFT_ROCE,
    TWO_NODES,
    UNPLUGGED,
    VM,
    machine,
    without,
)

NOTHING = Environment()
NAMED = Environment(values={"NCCL_IB_HCA": "mlx5_0"}, names=("NCCL_IB_HCA",))
OFI = NcclPlugins(files=("/opt/amazon/ofi-nccl/lib/libnccl-net-ofi.so",))
NO_PLUGIN = NcclPlugins()
ROCKY = System(hostname="n", kernel="5.14", architecture="x86_64", distribution="Rocky Linux 9.4")


def closed(rdma: Rdma, error: str = "ENOENT: No such file or directory", **changes) -> Rdma:
    changes = changes or {"node_error": error}
    return replace(rdma, devices=tuple(replace(d, **changes) for d in rdma.devices))


# A device plug-in of Kubernetes gave the pod two; /sys shows all.
SOME = replace(INFINIBAND, devices=(*INFINIBAND.devices[:2], *closed(INFINIBAND).devices[2:]))
NAMED_ALL = Environment(values={"NCCL_IB_HCA": "=" + ",".join(f"mlx5_{n}" for n in range(8))})


@pytest.mark.parametrize(
    ("rdma", "environment", "plugins", "status", "says"),
    [
        pytest.param(INFINIBAND, NOTHING, None, Status.PASS, "8 devices", id="healthy: IB"),
        pytest.param(ROCE, NOTHING, None, Status.PASS, "8 devices", id="healthy: RoCE"),
        pytest.param(EFA, NOTHING, OFI, Status.PASS, "4 devices", id="healthy: EFA"),
        pytest.param(
            closed(LAN), NOTHING, None, Status.SKIP, "no active port", id="healthy: a LAN card"
        ),
        pytest.param(closed(VM), NOTHING, None, Status.SKIP, "", id="healthy: a cloud's VM"),
        pytest.param(closed(SOFT_ROCE), NOTHING, None, Status.SKIP, "", id="Soft-RoCE, not named"),
        pytest.param(
            closed(INFINIBAND),
            NOTHING,
            None,
            Status.FAIL,
            "8 devices: /dev/infiniband/uverbs0: ENOENT",
            id="container without the nodes",
        ),
        pytest.param(closed(ROCE), NOTHING, None, Status.WARN, "8 devices", id="with RoCE"),
        pytest.param(closed(ROCE), NAMED, None, Status.FAIL, "mlx5_0", id="RoCE, and it is named"),
        pytest.param(closed(EFA), NOTHING, OFI, Status.FAIL, "ENOENT", id="EFA without its nodes"),
        pytest.param(
            closed(INFINIBAND, uverbs=""), NOTHING, None, Status.FAIL, "kernel offers", id="uverbs"
        ),
        pytest.param(
            replace(INFINIBAND, libibverbs=""),
            NOTHING,
            None,
            Status.FAIL,
            "no libibverbs",
            id="slim image",
        ),
        pytest.param(
            replace(INFINIBAND, providers=()), NOTHING, None, Status.FAIL, "libmlx5", id="provider"
        ),
        pytest.param(SOME, NOTHING, None, Status.PASS, "2 devices", id="healthy: given two of 8"),
        pytest.param(
            SOME, NAMED_ALL, None, Status.FAIL, "/dev/infiniband/uverbs2: ENOENT", id="8 are named"
        ),
        pytest.param(EFA, NOTHING, NO_PLUGIN, Status.WARN, "libnccl-net", id="EFA, no plug-in"),
        pytest.param(EFA, NOTHING, None, Status.PASS, "", id="EFA, plug-ins not looked for"),
        pytest.param(
            machine(unclaimed=("0000:18:00.0",)),
            NOTHING,
            None,
            Status.WARN,
            "1 InfiniBand card on the bus",
            id="mlx5_ib is not loaded",
        ),
        pytest.param(
            replace(INFINIBAND, unclaimed=("0000:f0:00.2",)),
            NOTHING,
            None,
            Status.PASS,
            "8 devices",
            id="healthy: functions that other containers have",
        ),
    ],
)
def test_devices(rdma, environment, plugins, status, says):
    finding = get("rdma-devices")(rdma, TWO_NODES, EIGHT, environment, None, plugins, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize("gpus", [None, Gpus()])
def test_devices_without_a_gpu_are_not_judged(gpus):
    finding = get("rdma-devices")(closed(INFINIBAND), TWO_NODES, gpus, NOTHING, None, None, None)

    assert finding.status is Status.SKIP


def test_devices_of_a_job_on_one_node_are_not_judged():
    finding = get("rdma-devices")(closed(INFINIBAND), ONE_NODE, EIGHT, NOTHING, None, None, None)

    assert finding.status is Status.SKIP
    assert "8 of 8 ports ACTIVE" in finding.reason


@pytest.mark.parametrize(
    ("rdma", "owner", "fix"),
    [
        pytest.param(closed(INFINIBAND), "launch", RdmaDevices(), id="not passed in"),
        pytest.param(
            closed(INFINIBAND, "EPERM: Operation not permitted"),
            "launch",
            RdmaDevices(),
            id="cgroup",
        ),
        pytest.param(
            closed(INFINIBAND, "EACCES: Permission denied"),
            "node",
            "chmod 0666 /dev/infiniband/uverbs*",
            id="permissions",
        ),
        pytest.param(
            replace(INFINIBAND, libibverbs=""), "image", "dnf install -y libibverbs", id="image"
        ),
    ],
)
def test_devices_fix(rdma, owner, fix):
    finding = get("rdma-devices")(rdma, TWO_NODES, EIGHT, NOTHING, None, None, ROCKY)

    assert finding.owner == owner
    assert fix in (*finding.fix.settings, *finding.fix.commands)


NO_MODULE = replace(INFINIBAND, peer_memory=(), dma_buf=False)


@pytest.mark.parametrize(
    ("rdma", "gpus", "status", "says"),
    [
        pytest.param(INFINIBAND, EIGHT, Status.PASS, "nvidia_peermem", id="healthy: peermem"),
        pytest.param(
            replace(NO_MODULE, dma_buf=True), EIGHT, Status.PASS, "DMA-BUF", id="healthy: DMA-BUF"
        ),
        pytest.param(NO_MODULE, EIGHT, Status.WARN, "neither nvidia_peermem", id="neither"),
        pytest.param(
            replace(NO_MODULE, dma_buf=None), EIGHT, Status.SKIP, "could not be read", id="unknown"
        ),
        pytest.param(
            NO_MODULE, Gpus(devices=(RTX_4090,)), Status.SKIP, "GPUDirect", id="healthy: GeForce"
        ),
        pytest.param(
            replace(LAN, peer_memory=(), dma_buf=False),
            EIGHT,
            Status.SKIP,
            "no active port",
            id="healthy: a LAN card",
        ),
        pytest.param(NO_MODULE, Gpus(), Status.SKIP, "no GPU", id="no GPU"),
        pytest.param(
            without(NO_MODULE, 0, **UNPLUGGED), EIGHT, Status.WARN, "neither", id="one port down"
        ),
        pytest.param(replace(EFA, peer_memory=()), EIGHT, Status.SKIP, "no active", id="EFA"),
        pytest.param(replace(SOFT_ROCE, peer_memory=()), EIGHT, Status.SKIP, "", id="Soft-RoCE"),
        pytest.param(
            replace(NO_MODULE, peer_memory=("amdkfd",)), EIGHT_AMD, Status.PASS, "amdkfd", id="AMD"
        ),
        pytest.param(INFINIBAND, EIGHT_AMD, Status.SKIP, "amdkfd", id="AMD, NVIDIA's module"),
        pytest.param(NO_MODULE, EIGHT_AMD, Status.WARN, "neither amdkfd", id="AMD, neither"),
    ],
)
def test_gdr(rdma, gpus, status, says):
    finding = get("rdma-gdr")(rdma, TWO_NODES, gpus, NOTHING, None, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_gdr_fix_says_where_it_is_to_run():
    inside = Container(runtime="docker", launcher="docker")

    fix = get("rdma-gdr")(NO_MODULE, TWO_NODES, EIGHT, NOTHING, None, inside).fix

    assert fix.text.endswith("outside the container")
    assert fix.commands[0] == "modprobe nvidia-peermem"
    assert fix.needs_root
