"""checks/cluster/clock.py: offsets between pairs -> status, words, blame."""

import pytest

from gpudoctor import Links, Nodes, Status
from gpudoctor.registry import get
from gpudoctor.rules.clock_spread import deviations
from tests.cluster_machines import clock, failing, links, node, nodes, way

CHECK = get("cluster-clock")


def clocks(count: int, *, uncertainty: float = 0.0001, **off: float) -> Links:
    """Links between nodes whose clocks are off by these seconds."""
    usual = links(count)
    found = [
        way(
            int(w.source[1:]),
            int(w.target[1:]),
            clock_offset_seconds=off.get(w.target, 0.0) - off.get(w.source, 0.0),
            clock_uncertainty_seconds=uncertainty,
        )
        for w in usual.ways
    ]
    return links(count, *found)


@pytest.mark.parametrize(
    ("found", "status", "says", "blamed"),
    [
        pytest.param(clocks(2), Status.PASS, "2 nodes within 0.0 ms", (), id="two"),
        pytest.param(clocks(8, n3=0.004), Status.PASS, "8 nodes within 4.0 ms", (), id="eight"),
        pytest.param(clocks(64, n3=0.4), Status.PASS, "64 nodes within 400.0 ms", (), id="64"),
        pytest.param(
            clocks(4, n3=30.0), Status.FAIL, "n3: 30.0 s ahead of the others", ("n3",), id="ahead"
        ),
        pytest.param(
            clocks(3, n3=-30.0), Status.FAIL, "n3: 30.0 s behind the others", ("n3",), id="behind"
        ),
        pytest.param(
            clocks(64, n3=-3600.0, n9=-3600.0),
            Status.FAIL,
            "n[3,9]: 3600.0 s behind",
            ("n3", "n9"),
            id="an hour, two nodes",
        ),
        pytest.param(
            clocks(4, n2=2.5), Status.WARN, "n2: 2.5 s ahead of the others", ("n2",), id="logs"
        ),
        pytest.param(
            clocks(2, n2=30.0),
            Status.FAIL,
            "2 nodes disagree on the time by 30.0 s",
            (),
            id="a tie of two",
        ),
        pytest.param(
            clocks(4, n3=30.0, n4=30.0),
            Status.FAIL,
            "4 nodes disagree on the time by 30.0 s",
            (),
            id="a tie of four",
        ),
        pytest.param(
            clocks(2, n2=3.0), Status.WARN, "disagree on the time by 3.0 s", (), id="a mild tie"
        ),
        pytest.param(
            clocks(4, n2=2.5, uncertainty=2.0),
            Status.PASS,
            "4 nodes within 2.5 s",
            (),
            id="never below the uncertainty",
        ),
        pytest.param(
            clocks(4, n2=16.0, uncertainty=2.0),
            Status.WARN,
            "n2: 16.0 s ahead",
            ("n2",),
            id="surely above one threshold only",
        ),
        pytest.param(Links(), Status.SKIP, "on every node of the job", (), id="nothing tried"),
        pytest.param(
            links(2, failing(1, 2), failing(2, 1)),
            Status.SKIP,
            "no two nodes answered",
            (),
            id="nobody answered",
        ),
    ],
)
def test_clocks(found, status, says, blamed):
    finding = CHECK(found, nodes(2))

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert finding.nodes == blamed
    if status in (Status.WARN, Status.FAIL):
        assert finding.fix.commands
        assert finding.fix.needs_root


def test_the_fix_speaks_to_the_daemon_of_the_node_that_is_off():
    there = nodes(4, {3: (clock(daemons=("systemd-timesyncd",)),)})

    finding = CHECK(clocks(4, n3=30.0), there)

    assert finding.fix.commands[0] == "sudo systemctl restart systemd-timesyncd"
    assert finding.fix.text.startswith("On n3: let systemd-timesyncd")


def test_nodes_that_never_met_are_compared_over_others():
    """n1 met n2, n2 met n3: that is enough, and the errors add up."""
    met = Links(
        ways=(
            way(1, 2, clock_offset_seconds=30.0, clock_uncertainty_seconds=0.1),
            way(2, 3, clock_offset_seconds=-30.0, clock_uncertainty_seconds=0.2),
        )
    )

    found = deviations(met.ways)

    assert found["n2"].seconds == 30.0
    assert found["n3"].seconds == 0.0
    assert found["n1"].uncertainty == pytest.approx(0.3)


def test_the_surest_way_is_taken():
    """Straight from n1 to n3 it took seconds; by n2 it is known to a millisecond."""
    met = Links(
        ways=(
            way(1, 3, clock_offset_seconds=4.0, clock_uncertainty_seconds=5.0),
            way(1, 2, clock_offset_seconds=0.0, clock_uncertainty_seconds=0.001),
            way(2, 3, clock_offset_seconds=0.0, clock_uncertainty_seconds=0.001),
        )
    )

    assert CHECK(met, None).status is Status.PASS


def test_two_islands_are_not_compared():
    apart = Links(
        ways=(
            way(1, 2, clock_offset_seconds=0.0),
            way(2, 3, clock_offset_seconds=0.0),
            way(4, 5, clock_offset_seconds=0.0),
        )
    )

    assert set(deviations(apart.ways)) == {"n1", "n2", "n3"}


def test_no_clock_fact_is_no_obstacle():
    finding = CHECK(clocks(4, n3=30.0), Nodes(snapshots=(node(3, without=("clock",)),)))

    assert finding.fix.commands == (
        "sudo timedatectl set-ntp true || sudo systemctl enable --now chronyd",
    )
