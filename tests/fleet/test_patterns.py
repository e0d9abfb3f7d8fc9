"""gpudoctor/fleet/patterns.py: a pattern is named where there is one, and nowhere else."""

import random

import pytest

from gpudoctor.fleet import patterns
from gpudoctor.fleet.tables import Column

RACKS = [f"gpu-{rack:03d}-{place:02d}" for rack in range(1, 33) for place in range(1, 17)]


def column(values):
    made = Column()
    for node, value in enumerate(values):
        made.put(node, value)
    return made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("GPU 3: PCIe x8 of x16", {"GPU": {"3"}}),
        ("GPUs 1, 2, 5: 90 °C", {"GPU": {"1", "2", "5"}}),
        ("GPU 3 (0000:33:00.0): H100", {"GPU": {"3"}, "GPU bus id": {"0000:33:00.0"}}),
        ("mlx5_4:1 runs at 200 Gb/s", {"NIC": {"mlx5_4"}}),
        ("rdmap16s27 and bnxt_re0 are down", {"NIC": {"rdmap16s27", "bnxt_re0"}}),
        ("no GPU is here, 8 GPUs expected", {}),
        ("64 MiB, this job needs 653 MiB", {}),
    ],
)
def test_devices_are_read_off_texts(text, found):
    assert patterns.devices(text) == found


EIGHT = {"GPU": 8, "NIC": 8, "GPU bus id": 8}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        pytest.param([{"GPU": {"3"}}] * 6, "always GPU 3", id="always one"),
        pytest.param([{"NIC": {"mlx5_4"}}] * 5, "always mlx5_4", id="a NIC"),
        pytest.param([{"GPU": {"3"}}] * 9 + [{"GPU": {"1"}}], "GPU 3 on 9 of 10", id="nearly"),
        pytest.param([{"GPU": {"3"}}] * 2, None, id="two are no pattern"),
        pytest.param([{"GPU": {str(n)}} for n in range(8)], None, id="each once"),
        pytest.param([{"GPU": set("01234567")}] * 20, None, id="all eight on each"),
        pytest.param([{"GPU": {"3"}}] * 4 + [{"GPU": {"5"}}] * 4, None, id="two of them"),
        pytest.param([{}] * 8, None, id="none named"),
    ],
)
def test_a_device_is_named_where_it_is_nearly_always_that_one(named, words):
    found = patterns.device(named, EIGHT)

    assert (found and found.words) == words


def test_the_only_gpu_of_a_node_is_no_pattern():
    assert patterns.device([{"GPU": {"0"}}] * 50, {"GPU": 1}) is None


def on(nodes, values, affected):
    racks = column(values)
    judged = patterns.shared("rack", affected, racks.cells, racks.told, racks.tally())
    return judged and judged[1].words


@pytest.mark.parametrize(
    ("values", "affected", "words"),
    [
        pytest.param(
            ["c1"] * 16 + ["c2"] * 16 + ["c3"] * 480, range(16, 30), "all on rack c2", id="one rack"
        ),
        pytest.param(
            ["c1"] * 16 + ["c2"] * 16 + ["c3"] * 480,
            [*range(16, 29), 400],
            "13 of 14 on rack c2",
            id="but for one",
        ),
        pytest.param(["c1", "c2"] * 256, range(0, 512, 40), None, id="half of all are there"),
        pytest.param(["c1"] * 500 + ["c2"] * 12, range(100), None, id="nearly all are there"),
        pytest.param(["c1"] * 4 + ["c2"] * 4, range(4), None, id="too few to tell from chance"),
        pytest.param(["c1"] * 16 + ["c2"] * 16, range(2), None, id="two nodes"),
        pytest.param(["c1"] * 16 + ["c2"] * 16, range(32), None, id="all nodes"),
        pytest.param([""] * 32, range(16), None, id="not known"),
    ],
)
def test_a_place_is_named_where_most_are_and_few_others(values, affected, words):
    assert on(len(values), values, list(affected)) == words


@pytest.mark.parametrize(
    ("affected", "words"),
    [
        pytest.param(range(20, 30), "all in gpu-002-[05-14]", id="a run"),
        pytest.param([*range(20, 29), 300], "9 of 10 in gpu-002-[05-13]", id="and one far away"),
        pytest.param([20, 22, 23, 25, 26, 27], "all in gpu-002-[05-12]", id="with gaps"),
        pytest.param([20, 21], None, id="two"),
        pytest.param(range(0, 512, 37), None, id="all over"),
    ],
)
def test_neighbours_are_found_by_their_names(affected, words):
    (order,) = patterns.orders(RACKS)
    judged = patterns.neighbours(list(affected), order, RACKS)

    assert (judged and judged[1].words) == words


def test_accidents_are_not_named():
    """Nodes struck at random, two thousand times: a pattern is named as rarely as it says."""
    luck, named = random.Random(7), 0
    racks = column([name.rpartition("-")[0] for name in RACKS])
    (order,) = patterns.orders(RACKS)
    for _ in range(2000):
        affected = luck.sample(range(len(RACKS)), luck.randint(3, 12))
        found = (
            patterns.shared("rack", affected, racks.cells, racks.told, racks.tally()),
            patterns.neighbours(affected, order, RACKS),
        )
        named += any(found)

    assert named <= 2000 * 2 * patterns.LUCK


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("gpu-002-05", ["gpu-*", "gpu-002-*"]),
        ("r12n03", ["r*", "r12n*"]),
        ("node7", ["node*"]),
        ("10-0-3-17", ["10-*", "10-0-*", "10-0-3-*"]),
        ("login", []),
    ],
)
def test_groups_of_a_name(name, groups):
    assert patterns.name_groups(name) == groups
