"""nccl_ports.py: how NCCL reads numbers, which GID it takes, which ports are a job's."""

import pytest

from gpudoctor.rules.nccl_ports import fabric, gid_by_nccl, number, refused
from tests.rdma_machines import DGX, EFA, INFINIBAND, LAN, ROCE, SOFT_ROCE, VM, gids, machine, roce


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("", None, id="empty"),
        pytest.param(" ", None, id="blank"),
        pytest.param("3", 3, id="decimal"),
        pytest.param(" -1", -1, id="negative"),
        pytest.param("0x10", 16, id="hexadecimal"),
        pytest.param("010", 8, id="octal"),
        pytest.param("4M", 4, id="up to the letter"),
        pytest.param("true", 0, id="no number"),
    ],
)
def test_numbers_as_strtoll_reads_them(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("values", "variable"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"NCCL_IB_DISABLE": "1"}, "NCCL_IB_DISABLE=1", id="switched off"),
        pytest.param({"NCCL_IB_DISABLE": "0"}, "", id="switched on"),
        pytest.param({"NCCL_IB_DISABLE": "true"}, "", id="misread as 0"),
        pytest.param({"NCCL_NET": "SOCKET"}, "NCCL_NET=SOCKET", id="TCP"),
        pytest.param({"NCCL_NET": "IB"}, "", id="RDMA"),
    ],
)
def test_what_keeps_nccl_from_rdma(values, variable):
    assert refused(values) == variable


@pytest.mark.parametrize(
    ("table", "values", "index"),
    [
        pytest.param(gids("e"), {}, 3, id="RoCE v2 with IPv4"),
        pytest.param(gids("e"), {"NCCL_IB_ROCE_VERSION_NUM": "1"}, 2, id="version 1 by wish"),
        pytest.param(gids("e")[:3], {}, 2, id="version 1, for want of another"),
        pytest.param(gids("e")[:2], {}, None, id="only link-local ones"),
        pytest.param(gids("e"), {"NCCL_IB_ADDR_FAMILY": "AF_INET6"}, None, id="no IPv6 here"),
        pytest.param((), {}, None, id="an empty table"),
    ],
)
def test_the_gid_that_nccl_takes(table, values, index):
    taken = gid_by_nccl(roce(0, gids=table).ports[0], values)

    assert (taken.index if taken else None) == index


@pytest.mark.parametrize(
    ("rdma", "values", "ports"),
    [
        pytest.param(INFINIBAND, {}, 8, id="InfiniBand"),
        pytest.param(ROCE, {}, 8, id="several fast cards for RoCE"),
        pytest.param(DGX, {}, 11, id="and those for storage"),
        pytest.param(LAN, {}, 0, id="an ordinary network card"),
        pytest.param(VM, {}, 0, id="a cloud's one fast card"),
        pytest.param(machine(roce(0, 25.0), roce(1, 25.0)), {}, 0, id="two ordinary ones"),
        pytest.param(SOFT_ROCE, {}, 0, id="software"),
        pytest.param(EFA, {}, 0, id="EFA"),
        pytest.param(LAN, {"NCCL_IB_HCA": "mlx5"}, 1, id="ordinary, but named"),
        pytest.param(SOFT_ROCE, {"NCCL_IB_HCA": "rxe0"}, 1, id="software, but named"),
        pytest.param(LAN, {"NCCL_IB_HCA": "^mlx5_9"}, 0, id="named by leaving others out"),
        pytest.param(INFINIBAND, {"NCCL_IB_HCA": "=mlx5_0,mlx5_1"}, 2, id="two are named"),
    ],
)
def test_ports_that_are_there_for_a_job(rdma, values, ports):
    assert len(fabric(rdma, values)) == ports
