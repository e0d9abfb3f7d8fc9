"""Who is slow, in synthetic clusters: rounds of pairs, then suspects with good nodes."""

import itertools
import random

import pytest

from gpudoctor.cluster.links.rounds import tournament
from gpudoctor.rules.suspects import Verdict, next_pairs, verdict


def cluster(count, *, slow=(), links=(), base=100.0, noise=0.0, dead=(), racks=0):
    """A function of two nodes: what a pair of them reaches."""
    chance = random.Random(7)
    figures = {}
    for a, b in itertools.combinations(range(count), 2):
        value = base * (1 + chance.uniform(-noise, noise))
        if a in slow or b in slow or (a, b) in links:
            value /= 2
        if racks and (a < racks) != (b < racks):
            value *= 0.6
        figures[a, b] = None if a in dead or b in dead else value
    return lambda a, b: figures[min(a, b), max(a, b)]


def name(index):
    return f"node{index}"


def all_pairs(count, reaches):
    pairs = itertools.combinations(range(count), 2)
    return {(name(a), name(b)): reaches(a, b) for a, b in pairs}


def first_pairs(count, reaches):
    """What disjoint pairs say, until each node has been in one."""
    rounds = tournament(count, 1 + count % 2).rounds
    return {(name(a), name(b)): reaches(a, b) for pairs in rounds for a, b in pairs}


def paired_again(count, reaches, most=4):
    """The first pairs, and then as many rounds as are asked for."""
    figures = first_pairs(count, reaches)
    rounds = 0
    while (pairs := next_pairs(figures)) and rounds < most:
        met = [node for pair in pairs for node in pair]
        assert len(set(met)) == len(met), "a node cannot be in two pairs at once"
        for a, b in pairs:
            assert (a, b) not in figures
            assert (b, a) not in figures
            figures[a, b] = reaches(int(a[4:]), int(b[4:]))
        rounds += 1
    assert rounds < most
    return verdict(figures)


NOISE = 0.1


@pytest.mark.parametrize("count", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("base", [100.0, 1.0], ids=["fast", "all slow"])
def test_alike_blames_nobody(count, base):
    reaches = cluster(count, noise=NOISE, base=base)

    for found in (verdict(all_pairs(count, reaches)), paired_again(count, reaches)):
        assert (found.nodes, found.links, found.unclear) == ((), (), ())
        assert found.usual == pytest.approx(base, rel=NOISE)


@pytest.mark.parametrize("count", [3, 4, 8, 64])
def test_slow_node(count):
    reaches = cluster(count, slow=(1,), noise=NOISE)
    found = verdict(all_pairs(count, reaches))

    assert (found.nodes, found.links, found.unclear) == (("node1",), (), ())


@pytest.mark.parametrize("count", [3, 4, 8, 64])
def test_slow_link(count):
    reaches = cluster(count, links=((0, 2),), noise=NOISE)
    found = verdict(all_pairs(count, reaches))

    assert (found.nodes, found.links, found.unclear) == ((), (("node0", "node2"),), ())


@pytest.mark.parametrize("count", [5, 8, 64])
def test_two_slow_nodes(count):
    reaches = cluster(count, slow=(0, 3), noise=NOISE)
    found = verdict(all_pairs(count, reaches))

    assert (found.nodes, found.links, found.unclear) == (("node0", "node3"), (), ())


def test_slow_node_and_slow_link():
    reaches = cluster(8, slow=(0,), links=((2, 5),), noise=NOISE)
    found = verdict(all_pairs(8, reaches))

    assert (found.nodes, found.links) == (("node0",), (("node2", "node5"),))


def test_half_of_the_nodes_accuses_nobody():
    found = verdict(all_pairs(4, cluster(4, slow=(0, 1))))

    assert (found.nodes, found.links) == ((), ())


@pytest.mark.parametrize("value", [100.0, None], ids=["measured", "failed"])
def test_of_two_nodes_nobody_can_be_named(value):
    found = verdict({("a", "b"): value})

    assert (found.nodes, found.links) == ((), ())
    assert next_pairs({("a", "b"): value}) == ()


def test_nothing_measured():
    assert verdict({}) == Verdict()
    assert next_pairs({}) == ()


def test_dead_node():
    found = verdict(all_pairs(4, cluster(4, dead=(2,))))

    assert found.nodes == ("node2",)


def test_all_failed_accuses_nobody():
    figures = all_pairs(4, cluster(4, dead=range(4)))
    found = verdict(figures)

    assert (found.nodes, found.links) == ((), ())
    assert found.unclear == tuple(figures)
    assert next_pairs(figures) == ()


@pytest.mark.parametrize("size", [2, 3, 4, 5], ids="{} in the first rack".format)
def test_a_slow_way_between_racks_is_nobodys_link(size):
    found = verdict(all_pairs(8, cluster(8, racks=size, noise=0.05)))

    assert (found.nodes, found.links) == ((), ())


@pytest.mark.parametrize("count", [4, 6, 8, 9, 64])
@pytest.mark.parametrize("slow", [0, 1, 3])
def test_suspects_are_paired_again_until_the_node_is_known(count, slow):
    found = paired_again(count, cluster(count, slow=(slow,), noise=NOISE))

    assert (found.nodes, found.links, found.unclear) == ((name(slow),), (), ())


@pytest.mark.parametrize("count", [6, 8, 64])
def test_suspects_are_paired_again_until_the_link_is_known(count):
    first = tournament(count, 1).rounds[0][1]
    found = paired_again(count, cluster(count, links=(first,), noise=NOISE))

    assert (found.nodes, found.links) == ((), ((name(first[0]), name(first[1])),))


@pytest.mark.parametrize("count", [8, 64])
def test_two_slow_nodes_that_met_each_other(count):
    first = tournament(count, 1).rounds[0][1]
    found = paired_again(count, cluster(count, slow=first, noise=NOISE))

    assert found.nodes == tuple(map(name, first))
    assert found.links == ()


def test_dead_node_is_found_in_pairs():
    assert paired_again(8, cluster(8, dead=(5,))).nodes == ("node5",)


@pytest.mark.parametrize(
    ("value", "nodes"),
    [pytest.param(84.0, (), id="within"), pytest.param(83.0, ("c",), id="below")],
)
def test_threshold(value, nodes):
    figures = {("a", "b"): 100.0, ("a", "c"): value, ("b", "c"): value}

    assert verdict(figures).nodes == nodes
