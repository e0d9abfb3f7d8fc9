"""Rounds of disjoint pairs: each pair at most once, at small numbers every pair."""

from collections import Counter

import pytest

from gpudoctor.cluster.links.rounds import tournament


@pytest.mark.parametrize("count", range(40))
@pytest.mark.parametrize("most", [None, 1, 3, 7, 1000])
def test_pairs_are_disjoint_and_meet_once(count, most):
    schedule = tournament(count, most)

    for pairs in schedule.rounds:
        nodes = [node for pair in pairs for node in pair]
        assert len(set(nodes)) == len(nodes) == count - count % 2
        assert all(0 <= a < b < count for a, b in pairs)
    met = Counter(pair for pairs in schedule.rounds for pair in pairs)
    assert set(met.values()) <= {1}
    assert schedule.pairs == len(met)


@pytest.mark.parametrize(
    ("count", "rounds", "pairs", "of"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (2, 1, 1, 1),
        (3, 3, 3, 3),
        (4, 3, 6, 6),
        (7, 7, 21, 21),
        (8, 7, 28, 28),
        (9, 7, 28, 36),
        (64, 7, 224, 2016),
        (1000, 7, 3500, 499500),
    ],
)
def test_all_pairs_of_few_and_a_part_of_many(count, rounds, pairs, of):
    schedule = tournament(count)

    assert (len(schedule.rounds), schedule.pairs, schedule.pairs_all) == (rounds, pairs, of)


@pytest.mark.parametrize("count", range(2, 30))
def test_as_many_rounds_as_there_are_cover_all(count):
    schedule = tournament(count, 1000)

    assert schedule.pairs == schedule.pairs_all


@pytest.mark.parametrize("count", [9, 16, 33, 64, 65, 100, 1000])
def test_few_rounds_join_all_nodes_and_vary_the_distance(count):
    schedule = tournament(count)
    pairs = [pair for pairs in schedule.rounds for pair in pairs]
    joined = {0}
    for _ in range(count):
        more = {node for pair in pairs if joined & set(pair) for node in pair}
        if more <= joined:
            break
        joined |= more

    assert len(joined) == count
    partners = [schedule.partner(number, 1) for number in range(len(schedule.rounds))]
    distances = {abs(partner - 1) for partner in partners if partner is not None}
    assert max(distances) > count / 4 > min(distances)


@pytest.mark.parametrize("count", [2, 5, 8, 64])
def test_partner_is_mutual(count):
    schedule = tournament(count)

    for number in range(len(schedule.rounds)):
        partners = [schedule.partner(number, index) for index in range(count)]
        assert partners.count(None) == count % 2
        for index, partner in enumerate(partners):
            assert partner is None or partners[partner] == index
