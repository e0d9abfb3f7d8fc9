"""What the judging node makes of what others leave on the board, whatever that is."""

import re

import pytest

from gpudoctor import Snapshot, System
from gpudoctor.cluster.board import LIMIT, Alone
from gpudoctor.cluster.board.messages import Beat, Joined, Toured
from gpudoctor.cluster.gather import MOST_BYTES, Gather
from gpudoctor.cluster.place import Place
from gpudoctor.facts.links import PortTry, Way
from gpudoctor.snapshot import dump, encode

HOST = "0123456789abcdef"
GOOD = dump([Snapshot("b", {"system": System(hostname="b", kernel="6.8", architecture="x86_64")})])


def gather(board, **place):
    found = Gather(board, Place(**{"nodes": 2, **place}))
    found.own = 0
    join(board, "a", 0)
    return found


def join(board, name, rank, **more):
    index = board.add("joined") - 1
    raw = encode(Joined(name=name, host=HOST, rank=rank, **more))
    board.put(f"joined/{index}", raw)
    return index


def swept(found):
    found._swept = found._looked = 0.0
    found.sweep()
    return {one.index: one for one in found.seen.values()}


def test_facts_come_under_the_name_that_is_unique():
    board = Alone()
    found = gather(board)
    for rank in (2, 1):
        index = join(board, "a", rank)
        board.put(f"facts/{index}", GOOD)
    swept(found)
    found.close()

    assert [(one.name, one.joined.rank) for one in found.by_rank] == [
        ("a", 0),
        ("a#2", 1),
        ("a#3", 2),
    ]
    assert [one.facts.name for one in found.by_rank if one.facts] == ["a#2", "a#3"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(GOOD[: len(GOOD) // 2], "not JSON", id="truncated"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"\x00\xff" * 100, "not JSON", id="no text"),
        pytest.param(b"x" * (MOST_BYTES + 1), "more than 1 MiB", id="huge"),
        pytest.param(b"[" * 100_000, "nested|not a facts file", id="deep"),
        pytest.param(b'{"schema": "other/1", "nodes": []}', "schema", id="another schema"),
        pytest.param(
            b'{"schema": "gpudoctor.facts/9", "nodes": []}', "schema", id="a newer schema"
        ),
        pytest.param(dump([]), "0 nodes", id="nobody"),
        pytest.param(dump([Snapshot("b"), Snapshot("c")]), "2 nodes", id="another's too"),
        pytest.param(
            GOOD.replace(b'"kernel":"6.8"', b'"kernel":[]'), 'fact "system"', id="wrong shape"
        ),
    ],
)
def test_facts_that_cannot_be_used(raw, said):
    board = Alone()
    found = gather(board)
    bad, good = join(board, "b", 1), join(board, "c", 2)
    board.put(f"facts/{bad}", raw)
    board.put(f"facts/{good}", GOOD)
    seen = swept(found)

    assert seen[bad].facts is None
    assert re.search(said, seen[bad].refused)
    assert seen[good].facts is not None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"name": 5}', id="wrong shape"),
        pytest.param(encode(Joined(name="x\x1b[31m; rm -rf /", host=HOST)), id="no host's name"),
        pytest.param(encode(Joined(name="--exclude", host=HOST)), id="an option"),
        pytest.param(encode(Joined(name="b", host="../../etc")), id="no host's sign"),
        pytest.param(encode(Joined(name="b", host=HOST, rank=-1)), id="no rank"),
        pytest.param(encode(Joined(name="b" * 1000, host=HOST)), id="far too long"),
    ],
)
def test_one_who_does_not_say_who_it_is(raw):
    board = Alone()
    found = gather(board)
    index = board.add("joined") - 1
    board.put(f"joined/{index}", raw)
    seen = swept(found)

    assert seen[index].refused
    assert seen[index].name == f"node-{index}"
    assert found.members().members[0].refused == ""


def test_a_bad_card_is_refused():
    board = Alone()
    found = gather(board)
    index = join(board, "b", 1)
    board.put(f"card/{index}", b"{}")
    board.put(f"facts/{index}", GOOD)

    assert "card" in swept(found)[index].refused


THERE = Way(source="b", target="a")


def toured(raw):
    """What is made of what node b found."""
    board = Alone()
    found = gather(board)
    index = join(board, "b", 1)
    board.put(f"facts/{index}", GOOD)
    swept(found)
    found.close()
    found.touring = True
    board.put(f"toured/{index}", raw)
    return swept(found)[index]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(Toured(ways=(Way(source="a", target="b"),)), "elsewhere", id="another's way"),
        pytest.param(Toured(port_try=PortTry(source="a")), "another", id="another's connection"),
        pytest.param(Toured(ways=(THERE, THERE)), "twice", id="one way twice"),
        pytest.param(
            Toured(ways=(Way(source="b", target="nobody"),)), "nowhere", id="nobody is there"
        ),
        pytest.param(Toured(ways=(Way(source="b", target="b"),)), "nowhere", id="to itself"),
    ],
)
def test_a_node_speaks_for_itself_only(found, said):
    one = toured(encode(found))

    assert said in one.refused
    assert one.toured is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(encode(Toured(ways=(THERE,)))[:-5], id="truncated"),
        pytest.param(b'{"ways": [{"source": "b"}]}', id="wrong shape"),
        pytest.param(b'{"ways": [], "rounds": -1}', id="no number of rounds"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"unfinished": "' + b"x" * 1000 + b'"}', id="far too long"),
        pytest.param(b"x" * (LIMIT + 1), id="huge"),
    ],
)
def test_what_was_found_of_ways_and_cannot_be_used(raw):
    one = toured(raw)

    assert "cannot be used" in one.refused
    assert one.toured is None


def test_ways_that_can_be_used():
    assert toured(encode(Toured(ways=(THERE,)))).toured == Toured(ways=(THERE,))


def test_one_who_says_that_it_ends_is_lost_at_its_step():
    board = Alone()
    found = gather(board)
    index = join(board, "b", 1)
    board.put(f"beat/{index}", encode(Beat(count=1, step="facts sent", ended="it was interrupted")))
    swept(found)
    member = found.members().members[1]

    assert (member.step, member.lost) == ("facts sent", "it was interrupted")


def test_one_who_does_not_move_is_lost_after_the_time_that_it_gave():
    board = Alone()
    found = gather(board)
    index = join(board, "b", 1)
    board.put(f"beat/{index}", encode(Beat(count=1, step="round 3 with n7", patience=0.0)))
    swept(found)
    board.put(f"beat/{index}", b"garbage")
    swept(found)
    member = found.members().members[1]

    assert member.step == "round 3 with n7"
    assert "nothing came from it" in member.lost


def test_who_comes_after_the_roll_comes_late():
    board = Alone()
    found = gather(board)
    swept(found)
    found.close()
    join(board, "a", 1)
    swept(found)
    member = found.members().members[1]

    assert member.name == "a#2"
    assert "already paired" in member.lost


def test_one_that_has_taken_a_number_and_nothing_more_is_waited_for():
    board = Alone()
    found = gather(board, nodes=3)
    board.add("joined")
    join(board, "c", 2)

    assert set(swept(found)) == {0, 2}
    assert not found.complete
    board.put("joined/1", encode(Joined(name="b", host=HOST, rank=1)))
    assert set(swept(found)) == {0, 1, 2}
    assert found.complete


@pytest.mark.parametrize(
    ("place", "ranks", "complete", "expected"),
    [
        pytest.param({"nodes": 2}, (1, 1), True, 2, id="all"),
        pytest.param({"nodes": 4}, (1, 1), False, 4, id="two of four"),
        pytest.param({"nodes": None, "world": 16}, (8, 8), True, 2, id="by ranks, all"),
        pytest.param({"nodes": None, "world": 16}, (8, 4), False, 3, id="by ranks, one missing"),
        pytest.param({"nodes": None, "world": 20}, (8, 8), False, 3, id="by ranks, a small one"),
        pytest.param({"nodes": None, "world": None}, (1, 1), False, None, id="nobody says"),
    ],
)
def test_how_many_are_expected(place, ranks, complete, expected):
    board = Alone()
    found = Gather(board, Place(**place))
    for rank, count in enumerate(ranks):
        join(board, f"n{rank}", rank, ranks=count)
    swept(found)

    assert found.complete is complete
    assert found.members().expected == expected


def test_ranks_that_are_counted_as_they_come():
    board = Alone()
    found = Gather(board, Place(nodes=None, world=3, ranks=None))
    join(board, "a", 0, ranks=None)
    board.add(f"ranks/{HOST}", 2)
    swept(found)

    assert found.members().members[0].ranks == 2
    assert not found.complete
    board.add(f"ranks/{HOST}")
    assert found.complete


def test_progress_names_those_that_the_launcher_lists():
    board = Alone()
    names = ("gpu-a-001", "gpu-a-002", "gpu-a-007")
    found = Gather(board, Place(nodes=3, names=names))
    join(board, "gpu-a-002.cluster.local", 1)
    swept(found)

    assert found.progress() == "1/3 nodes, waiting for gpu-a-[001,007]"
    assert found.missing() == ["gpu-a-001", "gpu-a-007"]


def test_who_waited_for_the_judge_came_first():
    board = Alone()
    found = gather(board)
    join(board, "b", 1, waited=30.0)
    swept(found)
    first, second = found.members().members

    assert second.arrived_seconds == 0.0
    assert first.arrived_seconds > 29
