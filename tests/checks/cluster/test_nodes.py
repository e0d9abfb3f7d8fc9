"""checks/cluster/nodes.py: tables of members -> status, words, blame."""

import pytest
from msgspec.structs import replace

from gpudoctor import Job, Member, Members, Nodes, Status
from gpudoctor.registry import get
from tests.cluster_machines import members, node

CHECK = get("cluster-nodes")
SLURM = Nodes(snapshots=(node(1), node(2)))


def changed(count: int, **odd: dict) -> Members:
    """So many members; of those named some fields are others."""
    usual = members(count)
    found = tuple(replace(m, **odd.get(m.name, {})) for m in usual.members)
    return replace(usual, members=found)


def without(count: int, *gone: str, **more) -> Members:
    usual = members(count)
    kept = tuple(m for m in usual.members if m.name not in gone)
    return replace(usual, members=kept, waited_seconds=60.0, **more)


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_all_are_there(count):
    finding = CHECK(members(count), SLURM)

    assert finding.status is Status.PASS
    assert finding.summary == f"{count} nodes came within 0.0 s of each other"


@pytest.mark.parametrize(
    ("found", "status", "says", "blamed"),
    [
        pytest.param(
            without(64, "n7", "n9", names=tuple(f"n{n}" for n in range(1, 65))),
            Status.FAIL,
            "2 of 64 nodes did not come: n[7,9]",
            ("n7", "n9"),
            id="missing, by name",
        ),
        pytest.param(
            without(4, "n3"), Status.FAIL, "1 of 4 nodes did not come in 60 s", (), id="nameless"
        ),
        pytest.param(
            without(2, "n2", names=("n1.cluster.local", "N2.cluster.local")),
            Status.FAIL,
            "1 of 2 nodes did not come: N2.cluster.local",
            ("N2.cluster.local",),
            id="full names in the launcher's list",
        ),
        pytest.param(
            changed(8, n7={"lost": "no answer in 20 s", "step": "round 3"}),
            Status.FAIL,
            "n7 was lost at 'round 3': no answer in 20 s",
            ("n7",),
            id="died on the way",
        ),
        pytest.param(
            changed(8, n7={"refused": "facts of 5 MiB, more than 4 MiB"}),
            Status.FAIL,
            "n7 sent what cannot be used: facts of 5 MiB",
            ("n7",),
            id="sent what is too large",
        ),
        pytest.param(
            changed(8, n7={"arrived_seconds": 200.0}),
            Status.WARN,
            "n7 came 200 s after the first; torch waits 300 s",
            ("n7",),
            id="late",
        ),
        pytest.param(
            changed(8, n7={"arrived_seconds": 320.0}),
            Status.FAIL,
            "n7 came 320 s after the first",
            ("n7",),
            id="too late",
        ),
        pytest.param(
            changed(4, **{f"n{n}": {"arrived_seconds": 200.0} for n in (2, 3, 4)}),
            Status.WARN,
            "n[2-4] came 200 s",
            (),
            id="one was early: nobody is blamed",
        ),
        pytest.param(
            changed(8, n7={"arrived_seconds": 140.0}),
            Status.PASS,
            "within 140.0 s",
            (),
            id="healthy: slow, but in time",
        ),
        pytest.param(
            members(4, expected=None, told_by=""),
            Status.PASS,
            "4 nodes came",
            (),
            id="healthy: nobody said how many",
        ),
        pytest.param(
            members(1, expected=None), Status.SKIP, "nobody says that there are more", (), id="one"
        ),
        pytest.param(members(1), Status.SKIP, "SLURM_NNODES", (), id="one of one"),
        pytest.param(
            Members(members=(Member(name="n1"), Member(name="n1#2")), expected=2),
            Status.PASS,
            "2 nodes",
            (),
            id="healthy: two with one name",
        ),
    ],
)
def test_who_came(found, status, says, blamed):
    finding = CHECK(found, SLURM)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80
    assert finding.nodes == blamed
    if status in (Status.WARN, Status.FAIL):
        assert finding.fix.commands


@pytest.mark.parametrize(
    ("launcher", "command"),
    [
        pytest.param("slurm", "#SBATCH --exclude=n2", id="slurm"),
        pytest.param("kubernetes", "kubectl get pods -o wide", id="kubernetes"),
        pytest.param("plain", "ssh n2 true", id="by hand"),
    ],
)
def test_where_to_look_is_said_in_the_words_of_the_launcher(launcher, command):
    there = Nodes(snapshots=(node(1, Job(launcher=launcher)),))

    finding = CHECK(without(2, "n2", names=("n1", "n2")), there)

    assert command in finding.fix.commands


def test_a_hostile_name_cannot_leave_its_quotes():
    finding = CHECK(without(2, "n2", names=("n1", "x;reboot")), None)

    assert finding.fix.commands == ("ssh 'x;reboot' true",)


def test_64_that_are_lost_fit_on_a_page():
    lost = {f"n{n}": {"lost": "no answer", "step": "round 1"} for n in range(1, 65)}

    finding = CHECK(changed(64, **lost), None)

    assert finding.summary == "n[1-64] were lost at 'round 1': no answer"
    assert len(finding.evidence) <= 21
