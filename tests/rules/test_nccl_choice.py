"""rules/nccl_choice.py: what is to be said of the way that NCCL chose."""

import pytest

from gpudoctor.registry import builtin_checks
from gpudoctor.rules.nccl_choice import remarks
from gpudoctor.rules.nccl_log import NcclLog


@pytest.mark.parametrize(
    ("log", "checks"),
    [
        pytest.param(NcclLog(), (), id="nothing known"),
        pytest.param(
            NcclLog(
                transports=("NVLS", "P2P", "GDRDMA", "NET/IB"),
                interface="mlx5_0",
                bootstrap=("eth0",),
                rdma=("mlx5_0",),
            ),
            (),
            id="InfiniBand with GPUDirect",
        ),
        pytest.param(
            NcclLog(transports=("P2P", "NET/AWS Libfabric"), bootstrap=("ens5",)), (), id="EFA"
        ),
        pytest.param(NcclLog(transports=("P2P",), bootstrap=("lo",)), (), id="one node"),
        pytest.param(
            NcclLog(transports=("P2P", "NET/Socket"), interface="eth0"), (), id="Ethernet alone"
        ),
        pytest.param(
            NcclLog(transports=("NET/Socket",), interface="wlp3s0"), ("net-wireless",), id="WLAN"
        ),
        pytest.param(
            NcclLog(transports=("P2P",), bootstrap=("docker0",)), ("nccl-interface",), id="bridge"
        ),
        pytest.param(
            NcclLog(transports=("NET/Socket",), interface="lo"), ("nccl-interface",), id="loopback"
        ),
        pytest.param(
            NcclLog(transports=("NET/Socket",), interface="eth0", rdma=("mlx5_0",)),
            ("nccl-hca",),
            id="TCP beside RDMA",
        ),
        pytest.param(
            NcclLog(transports=("NET/Socket",), interface="eth0", no_rdma="No device found"),
            ("rdma-devices",),
            id="TCP, for it found no RDMA device",
        ),
        pytest.param(NcclLog(transports=("NET/IB",)), ("rdma-gdr",), id="without GPUDirect"),
        pytest.param(NcclLog(transports=("SHM",)), ("gpu-p2p",), id="through /dev/shm"),
    ],
)
def test_remarks(log, checks):
    found = tuple(name for _, names in remarks(log) for name in names)

    assert found == checks
    assert {*found} <= {check.id for check in builtin_checks()}
