"""rules/all_reduce.py: what hardware should reach."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from gpudoctor import AllReduce, Link, Measured, Network, Nodes, Snapshot
from gpudoctor.data import table
from gpudoctor.facts.network import Interface
from gpudoctor.rules.all_reduce import duration, expected_global, expected_local, factor, rate
from tests.gpu_machines import H100, HGX, INSTINCT, MI300X, RTX_4090, SLICED, bus_id, machine
from tests.rdma_machines import INFINIBAND, LAN

GIB = 1 << 30
A100 = replace(
    H100,
    name="NVIDIA A100-SXM4-80GB",
    arch="sm_80",
    links=tuple(Link(number=n, active=True, peer="switch") for n in range(12)),
)


def point(busbw: float = 1e9, size: int = GIB, ranks: int = 8) -> Measured:
    algbw = busbw / factor(ranks)
    seconds = size / algbw
    return Measured(
        bytes=size,
        iterations=20,
        seconds=seconds,
        low_seconds=seconds,
        high_seconds=seconds,
        algbw=algbw,
        busbw=busbw,
    )


def reduced(ranks: int, name: str, busbw: float = 1e9, size: int = GIB, **more: Any) -> AllReduce:
    fields: dict[str, Any] = {
        "backend": "nccl",
        "device": "cuda",
        "gpus": (name,) * ranks,
        "bus_ids": tuple(bus_id(n) for n in range(ranks)),
        "transports": ("P2P",),
        **more,
    }
    return AllReduce(ranks=ranks, points=(point(busbw, size, ranks),), **fields)


def gb(found) -> float | None:
    return found and round(found.busbw / 1e9, 1)


def mesh(count: int, each: int):
    """GPUs with so many links from each to each."""
    found = machine(replace(A100, links=None), count)
    ends = [[n for n in range(count) if n != own] * each for own in range(count)]
    devices = [
        replace(gpu, links=tuple(Link(number=0, active=True, peer=bus_id(n)) for n in ends[index]))
        for index, gpu in enumerate(found.devices)
    ]
    return replace(found, devices=tuple(devices))


@pytest.mark.parametrize(
    ("found", "gpus", "busbw"),
    [
        pytest.param(reduced(8, H100.name), HGX, 460, id="8 H100, by the table"),
        pytest.param(reduced(8, H100.name), None, 460, id="8 H100, the driver says nothing"),
        pytest.param(reduced(4, H100.name), HGX, 360, id="4 of 8 H100, by their 18 links"),
        pytest.param(reduced(2, H100.name), HGX, 360, id="2 of 8 H100: the switch is theirs"),
        pytest.param(reduced(8, MI300X.name), INSTINCT, 314, id="8 MI300X, by the table"),
        pytest.param(reduced(2, MI300X.name), INSTINCT, 44, id="2 of 8 MI300X have one link"),
        pytest.param(reduced(4, A100.name), mesh(4, 4), 228, id="4 A100 without a switch"),
        pytest.param(reduced(2, A100.name), mesh(4, 4), 76, id="2 of those: 4 of 12 links"),
        pytest.param(reduced(2, RTX_4090.name), machine(RTX_4090, 2), 13.9, id="PCIe"),
        pytest.param(
            reduced(2, RTX_4090.name, transports=("SHM",)),
            machine(RTX_4090, 2),
            4.3,
            id="through the host",
        ),
        pytest.param(reduced(2, "Z9000"), None, None, id="not known"),
        pytest.param(reduced(2, H100.name), SLICED, None, id="MIG"),
        pytest.param(reduced(8, H100.name, size=1 << 20), HGX, None, id="too small to judge"),
        pytest.param(reduced(2, "", backend="gloo", gpus=()), None, None, id="gloo"),
        pytest.param(reduced(2, "", gpus=(H100.name, RTX_4090.name)), None, None, id="two models"),
    ],
)
def test_local(found, gpus, busbw):
    assert gb(expected_local(found, gpus)) == busbw


def nodes(**facts) -> Nodes:
    return Nodes(snapshots=tuple(Snapshot(name, facts) for name in ("a", "b")))


def wired(speed: int) -> Network:
    return Network(interfaces=(Interface(index=2, name="eth0", speed_mbps=speed),))


OVER_TCP: dict[str, Any] = {"nodes": 2, "transports": ("NET/Socket",), "interface": "eth0"}


@pytest.mark.parametrize(
    ("found", "around", "busbw"),
    [
        pytest.param(
            reduced(16, H100.name, nodes=2),
            nodes(rdma=INFINIBAND, gpus=HGX),
            320,
            id="8 ports of 400 Gbit/s",
        ),
        pytest.param(
            reduced(16, H100.name, nodes=2, size=GIB // 4),
            nodes(rdma=INFINIBAND, gpus=HGX),
            None,
            id="InfiniBand, too small to judge",
        ),
        pytest.param(
            reduced(16, H100.name, **OVER_TCP),
            nodes(rdma=INFINIBAND, gpus=HGX),
            320,
            id="TCP, though there is InfiniBand",
        ),
        pytest.param(
            reduced(4, RTX_4090.name, nodes=2),
            nodes(rdma=INFINIBAND, gpus=machine(RTX_4090, 2)),
            13.9,
            id="PCIe is slower than the network",
        ),
        pytest.param(
            reduced(2, H100.name, **OVER_TCP), nodes(network=wired(1000)), 0.1, id="1 Gbit/s"
        ),
        pytest.param(
            reduced(2, H100.name, **OVER_TCP), nodes(network=wired(100_000)), 4, id="100 Gbit/s"
        ),
        pytest.param(
            reduced(2, H100.name, **OVER_TCP),
            nodes(network=wired(25_000), rdma=LAN),
            2.8,
            id="25 Gbit/s that could do RoCE",
        ),
        pytest.param(reduced(2, H100.name, **OVER_TCP), nodes(), None, id="nothing known"),
        pytest.param(reduced(2, H100.name, **OVER_TCP), None, None, id="no nodes"),
    ],
)
def test_global(found, around, busbw):
    assert gb(expected_global(found, around)) == busbw


@pytest.mark.parametrize(
    ("number", "words"),
    [(462.4e9, "462 GB/s"), (11.23e6, "11.2 MB/s"), (9.9e3, "9.9 kB/s"), (12, "12 B/s")],
)
def test_rate(number, words):
    assert rate(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(2.5, "2.5 s"), (0.0417, "41.7 ms"), (3.4e-5, "34 µs")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("row", table("bandwidth")["machines"], ids=lambda row: row["name"])
def test_rows(row):
    assert re.compile(row["name"])
    assert row["ranks"] > 1
    assert 1 < row["busbw_gbs"] < 1000
