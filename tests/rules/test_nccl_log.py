"""rules/nccl_log.py: real lines of NCCL and RCCL of many versions, as people posted them."""

import pytest

from gpudoctor.rules.nccl_log import parse

# github.com/NVIDIA/nccl issues 1121 (2.18), 707 (before 2.12), 1189, 1609, 1713, 1814, 1053, 1538;
# nccl-tests issue 228; aws/aws-ofi-nccl issue 715; ROCm/rccl issues 1026, 1454.
P2P = "algo-1:18063:18133 [6] NCCL INFO Channel 01/0 : 6[6] -> 7[7] via P2P/CUMEM/read\n"
POINTER = (
    "036260b61d3a:33347:33367 [7] NCCL INFO Channel 15/0 : 7[7] -> 4[4] via P2P/direct pointer"
)
SHM = "dev01:533:1765 [2] NCCL INFO Channel 07 : 2[6] -> 3[7] via SHM/direct/direct\n"
OLD_SHM = (
    "4e9a7654171e:8641:8784 [2] NCCL INFO Channel 00 : 2[89000] -> 3[b2000]"
    " via direct shared memory"
)
IB = (
    "H20-GPU-06:4015539:4015652 [0] NCCL INFO Channel 07/0 : 0[0] -> 2[0] [receive]"
    " via NET/IB/3/GDRDMA\n"
)
OLD_IB = (
    "10-90-43-152:120890:121560 [0] NCCL INFO Channel 01 : 2[c7000] -> 0[87000] [receive]"
    " via NET/IB/5/GDRDMA"
)
SHARED = (
    "[1,3]<stdout>:aiplatform:102987:103024 [1] NCCL INFO Channel 05/1 : 3[1] -> 0[0] [send]"
    " via NET/IB/12/GDRDMA/Shared"
)
PLUGIN = (
    "hostname-test:987:1260 [7] NCCL INFO Channel 03/0 : 47[7] -> 39[7] [receive]"
    " via NET/IBext_v8/2"
)
PXN = (
    "algo-1:18060:20786 [3] NCCL INFO Channel 05/1 : 3[3] -> 11[3] [send]"
    " via NET/AWS Libfabric/1(2)/GDRDMA/Shared"
)
RCCL = (
    "g1072:1263985:1264007 [0] NCCL INFO Channel 02/0 : 1[c6000] -> 4[c1000] [receive]"
    " via NET/Socket/1 comm 0x95cdeb0 nRanks 08"
)
RCCL_IPC = (
    "g1072:1263988:1264006 [3] NCCL INFO Channel 00/0 : 7[ce000] -> 5[c6000]"
    " via P2P/IPC comm 0xfb16e30 nRanks 08"
)
USING_IB = (
    "user:5181:5232 [2] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_2:1/IB [RO];"
    " OOB ibs85f0:192.168.1.10<0>\n"
)
USING_LO = "axa:3048391:3048566 [0] NCCL INFO NET/Socket : Using [0]lo:127.0.0.1<0>\n"
SOCKET = (
    "user:852751:852807 [1] NCCL INFO Channel 01/0 : 1[2a000] -> 8[27000] [send] via NET/Socket/0"
)
NVLS = "nf5688m7-1:422771:422792 [6] NCCL INFO Connected NVLS tree\n"
NO_NVLS = (
    "user:16906:16952 [7] NCCL INFO NVLS multicast support is not available on dev 7\n"
    "gpu-dev:1134:1134 [2] NCCL INFO 24 coll channels, 24 collnet channels, 16 nvls channels,"
    " 32 p2p channels, 32 p2p channels per peer\n"
)
RCCL_WARNS = (
    "UVOSLinux:2421:2421 [0] /usr/src/debug/rccl/src/misc/api_trace.cc:283 NCCL WARN"
    " [rocprofiler-sdk-rccl][2421] rocprofiler-register failed with error code 4\n"
)


@pytest.mark.parametrize(
    ("text", "transports"),
    [
        pytest.param(P2P, ("P2P",), id="P2P"),
        pytest.param(POINTER, ("P2P",), id="P2P by pointer"),
        pytest.param(SHM, ("SHM",), id="SHM"),
        pytest.param(OLD_SHM, ("SHM",), id="SHM before 2.12"),
        pytest.param(IB, ("GDRDMA", "NET/IB"), id="InfiniBand"),
        pytest.param(OLD_IB, ("GDRDMA", "NET/IB"), id="InfiniBand before 2.12"),
        pytest.param(SHARED, ("GDRDMA", "NET/IB"), id="InfiniBand of 2.27, under mpirun"),
        pytest.param(PLUGIN, ("NET/IB",), id="NVIDIA's plug-in, without GPUDirect"),
        pytest.param(PXN, ("GDRDMA", "NET/AWS Libfabric"), id="EFA over another GPU"),
        pytest.param(SOCKET, ("NET/Socket",), id="TCP"),
        pytest.param(RCCL, ("NET/Socket",), id="RCCL, TCP"),
        pytest.param(RCCL_IPC, ("P2P",), id="RCCL, P2P"),
        pytest.param(NVLS + P2P + IB, ("NVLS", "P2P", "GDRDMA", "NET/IB"), id="all at once"),
        pytest.param(NO_NVLS + P2P, ("P2P",), id="NVLS is talked of, not used"),
        pytest.param("16777216 1048576 float none -1" + IB, ("GDRDMA", "NET/IB"), id="run in"),
        pytest.param("", (), id="nothing"),
    ],
)
def test_transports(text, transports):
    assert parse(text).transports == transports


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("NCCL version 2.18.5+cuda11.8\n", "NCCL 2.18.5"),
        ("job-0:5663:5663 [0] NCCL INFO NCCL version 2.22.3+cuda12.6\n", "NCCL 2.22.3"),
        ("RCCL version : 2.21.5-main:a29a210+\nHIP version  : 6.2.41134-\n", "RCCL 2.21.5"),
        ("RCCL version 2.6.4+hip3.5\n", "RCCL 2.6.4"),
        ("nothing of the kind", ""),
    ],
)
def test_library(text, library):
    assert parse(text).library == library


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        pytest.param(USING_IB + IB, "mlx5_0, mlx5_2", id="InfiniBand"),
        pytest.param(USING_LO + SOCKET, "lo", id="TCP"),
        pytest.param(USING_IB + P2P, "", id="it was there, and not needed"),
    ],
)
def test_interface(text, interface):
    assert parse(text).interface == interface


def test_warnings_stand_once():
    assert parse(RCCL_WARNS * 3).warnings == (
        "[rocprofiler-sdk-rccl][2421] rocprofiler-register failed with error code 4",
    )
