"""rules/blame.py: ways that fail -> who is to blame."""

import pytest

from gpudoctor.rules.blame import faults
from tests.cluster_machines import failing, links


def blame(count: int, *ends: tuple[int, int]):
    broken = [failing(source, target) for source, target in ends]
    return faults(links(count, *broken).ways, broken)


@pytest.mark.parametrize(
    ("count", "ends", "kind", "nodes"),
    [
        pytest.param(2, [(1, 2)], "in", ("n2",), id="two nodes, one way"),
        pytest.param(2, [(1, 2), (2, 1)], "all", (), id="two nodes, both ways"),
        pytest.param(3, [(1, 3), (2, 3)], "in", ("n3",), id="nobody reaches n3"),
        pytest.param(3, [(3, 1), (3, 2)], "out", ("n3",), id="n3 reaches nobody"),
        pytest.param(
            4, [(4, 1), (4, 2), (4, 3), (1, 4), (2, 4), (3, 4)], "both", ("n4",), id="cut off"
        ),
        pytest.param(3, [(1, 2)], "in", ("n2",), id="one way between two good nodes"),
        pytest.param(4, [(1, 2), (2, 1)], "link", ("n1", "n2"), id="a link, both ways"),
        pytest.param(8, [(1, 7), (2, 7), (3, 7), (4, 7), (5, 7)], "in", ("n7",), id="most"),
        pytest.param(
            3, [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)], "all", (), id="everything"
        ),
    ],
)
def test_one_fault(count, ends, kind, nodes):
    (found,) = blame(count, *ends)

    assert (found.kind, found.nodes) == (kind, nodes)
    assert len(found.ways) == len(ends)


def test_two_nodes_of_eight():
    ends = [(n, bad) for bad in (3, 7) for n in range(1, 9) if n != bad]

    found = blame(8, *ends)

    assert [(f.kind, f.nodes) for f in found] == [("in", ("n3",)), ("in", ("n7",))]


def test_a_node_and_a_link():
    ends = [(n, 7) for n in range(1, 7)] + [(1, 2), (2, 1)]

    found = blame(8, *ends)

    assert found[0].blamed == ("n7",)
    assert ("link", ("n1", "n2")) in [(fault.kind, fault.nodes) for fault in found]


def test_nothing_is_broken():
    assert blame(4) == []


def test_a_route_that_is_missing_is_the_sources():
    broken = [failing(1, 2, "ENETUNREACH")]

    (found,) = faults(links(3, *broken).ways, broken)

    assert (found.kind, found.blamed) == ("out", ("n1",))
