"""rules/sizing.py, rules/shm_table.py: what a job needs of /dev/shm."""

import pytest

from gpudoctor import Workload, parse_size, shm_need
from gpudoctor.rules import shm_table
from gpudoctor.rules.sizing import BASE, proxy_pool

MIB, GIB = 1 << 20, 1 << 30
SEGMENTS = 2 * 9637888  # two channels of one edge
TABLE = [  # processes on each of 8 GPUs, processes, need and size in MB, as it is passed on
    (1, 8, 46, 512),
    (2, 16, 92, 512),
    (3, 24, 138, 512),
    (4, 32, 184, 512),
    (5, 40, 230, 512),
    (6, 48, 276, 1024),
    (7, 56, 322, 1024),
    (8, 64, 368, 1024),
    (10, 80, 460, 1024),
    (12, 96, 552, 1024),
]


@pytest.mark.parametrize(
    ("per_gpu", "processes", "need", "recommended"),
    [pytest.param(*row, id=f"{row[0]} per GPU") for row in TABLE],
)
def test_the_table_row_by_row(per_gpu, processes, need, recommended):
    rows = {row.per_gpu: row for row in shm_table.rows(8, parse_size("5.75MB"))}

    assert rows[per_gpu] == shm_table.Row(per_gpu, processes, need * MIB, recommended * MIB)


def test_the_three_sizes_for_six_on_each_gpu():
    assert shm_table.sizes(276 * MIB) == shm_table.Sizes(512 * MIB, GIB, 2 * GIB)


@pytest.mark.parametrize(
    "need", [0, 1, 256 * MIB, 257 * MIB, 512 * MIB, 787 * MIB, 788 * MIB, 5 * GIB, 40 * GIB]
)
def test_every_size_holds_the_need_and_stays_under_80_percent(need):
    found = shm_table.sizes(need)

    assert need <= found.least <= found.recommended < found.generous
    assert need * 100 <= shm_table.FULL_PERCENT * found.recommended


@pytest.mark.parametrize(
    ("version", "count"),
    [
        pytest.param((2, 18), 4194656, id="2.18"),
        pytest.param((2, 20), 5767520, id="2.20"),
        pytest.param((2, 22), 7340384, id="2.22"),
        pytest.param((2, 27), 33030528, id="2.27"),
        pytest.param((2, 30), 34210176, id="2.30"),
        pytest.param((1, 3), 4194656, id="older than we know"),
        pytest.param(None, 34210176, id="not known: the newest"),
    ],
)
def test_proxy_pool(version, count):
    assert proxy_pool(version) == count


def job(**told: int) -> Workload:
    return Workload().told({"workers": 0, **told}, "test")


@pytest.mark.parametrize(
    ("told", "more", "need"),
    [
        pytest.param(job(nodes=1), {}, 0, id="one rank, no workers"),
        pytest.param(
            job(nodes=1, workers=4, prefetch=2, batch_bytes=8 * MIB),
            {"held": 1},
            9 * 8 * MIB,
            id="a loader and a plain loop",
        ),
        pytest.param(
            job(nodes=1, workers=4, batch_bytes=8 * MIB), {}, 80 * MIB, id="one batch ahead"
        ),
        pytest.param(
            job(nodes=1, workers=2, batch_bytes=8 * MIB, loaders=2),
            {"held": 1},
            80 * MIB,
            id="two loaders",
        ),
        pytest.param(job(nodes=1, local_ranks=8), {"p2p": True}, 0, id="8 GPUs with NVLink"),
        pytest.param(
            job(nodes=1, local_ranks=2), {"p2p": False}, 2 * SEGMENTS, id="2 GPUs without P2P"
        ),
        pytest.param(
            job(nodes=1, local_ranks=4), {"p2p": False}, 7 * SEGMENTS, id="4 GPUs without P2P"
        ),
        pytest.param(job(nodes=1, local_ranks=4), {}, 7 * SEGMENTS, id="P2P not known"),
        pytest.param(
            job(nodes=2, local_ranks=8), {"p2p": True}, 8 * 33030528, id="two nodes with NVLink"
        ),
        pytest.param(job(nodes=2), {}, 33030528, id="two nodes, one rank on each"),
        pytest.param(
            job(local_ranks=2), {}, 2 * SEGMENTS + 2 * 33030528, id="nodes not told: may be several"
        ),
        pytest.param(
            job(nodes=1, workers=4, prefetch=2, batch_bytes=8 * MIB),
            {"held": 1, "jobs": 6},
            6 * 72 * MIB,
            id="six jobs side by side",
        ),
        pytest.param(
            job(nodes=1, local_ranks=2),
            {"p2p": False, "jobs": 3},
            6 * SEGMENTS,
            id="three jobs of two",
        ),
    ],
)
def test_need(told, more, need):
    assert shm_need(told, (2, 27), **more).bytes == need + BASE


def test_the_arithmetic_says_what_was_counted():
    lines = shm_need(job(local_ranks=8, workers=4, batch_bytes=MIB), (2, 27)).arithmetic

    assert lines == (
        "loaders: 8 ranks x 1 x (4 workers x 2 + 2) batches x 1 MiB = 80 MiB",
        "NCCL 2.27 proxy: 8 x 31.5 MiB = 252 MiB, unless all ranks are on this node",
        "NCCL without P2P: 14 edges x 2 channels x 9.1 MiB = 257 MiB",
        "other: 64 MiB",
    )
