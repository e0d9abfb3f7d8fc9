"""reports/text.py for several nodes: folded, and no longer than a screen or two."""

import pytest
from msgspec.structs import replace

from gpudoctor.facts.members import Member, Members
from gpudoctor.registry import report_format
from gpudoctor.report import Cluster, Node, Page
from gpudoctor.run import concluded

text = report_format("text")
MOST = 60  # lines, for any number of nodes


def names(count):
    return [f"gpu-a-{number:03d}" for number in range(1, count + 1)]


@pytest.fixture
def made(samples):
    """`made(64, well=False)`: a cluster of so many nodes, of which many differ if not well."""
    healthy = samples["healthy"].nodes[0].results
    ill = (*healthy[:9], *samples["two-nodes"].nodes[1].results[-2:])
    whole = samples["two-nodes"]
    alike = replace(healthy[3], id="cluster-versions", topic="cluster", summary="64 nodes alike")

    def make(count, *, well, launcher="slurm"):
        nodes = []
        for number, name in enumerate(names(count)):
            results = healthy
            if not well and number % 3 == 0:
                results = (
                    *ill[:-1],
                    replace(ill[-1], summary=f"{number} KiB", evidence=("x " * 90,) * 9),
                    replace(ill[-1], id=f"odd-{number}", why="y " * 300),
                )
            nodes.append(Node(name=name, view=("host", "root"), results=results))
        slow = replace(
            ill[-1],
            id="cluster-mtu",
            topic="cluster",
            owner="network",
            summary="packets of more than 1500 bytes are lost",
            nodes=tuple(names(count)[1:count:7]),
            fixes=(),
        )
        members = Members(
            expected=count + 2, members=tuple(Member(name=name) for name in names(count))
        )
        exclude = () if well else (*slow.nodes, "gpu-a-900")
        lines = {"slurm": "--exclude=gpu-a-900"} if launcher == "slurm" else {}
        if launcher == "kubernetes":
            lines = {"kubernetes": "affinity:\n" + "\n".join(f"- {name}" for name in exclude)}
        cluster = Cluster(
            facts={"members": members},
            results=(alike,) if well else (slow, alike),
            missing=() if well else ("gpu-a-900",),
            exclude=exclude,
            exclude_lines=lines if exclude else {},
        )
        return concluded(replace(whole, cluster=cluster), nodes, ())

    return make


@pytest.mark.parametrize(
    ("count", "well", "file"),
    [
        pytest.param(64, True, "cluster", id="healthy"),
        pytest.param(3, False, "cluster-small", id="little is wrong"),
        pytest.param(64, False, "cluster-brief", id="much is wrong"),
    ],
)
def test_golden(made, as_in_golden, count, well, file):
    assert as_in_golden(text.render(made(count, well=well), Page()), f"{file}.txt")


@pytest.mark.parametrize("launcher", ["slurm", "kubernetes", "plain"])
@pytest.mark.parametrize("count", [2, 8, 64, 1000])
@pytest.mark.parametrize("verbosity", [-1, 0])
def test_no_longer_than_a_screen_or_two(made, count, launcher, verbosity):
    printed = text.render(made(count, well=False, launcher=launcher), Page(verbosity=verbosity))

    assert len(printed.splitlines()) <= MOST


def test_with_more_words_nothing_is_left_out(made):
    printed = text.render(made(64, well=False), Page(verbosity=1))

    assert all(f"odd-{number}" in printed for number in range(0, 64, 3))


def test_one_node_that_came_of_many_is_told_as_a_cluster(made):
    printed = text.render(made(1, well=True), Page())

    assert "1 of 3 nodes" in printed
    assert "gpu-a-001" in printed


def test_where_only_all_together_were_judged_there_is_no_row_of_nodes(made):
    whole = made(3, well=True)
    asked = replace(whole, nodes=tuple(replace(node, results=()) for node in whole.nodes))
    printed = text.render(asked, Page())

    assert "together" in printed
    assert "gpu-a-[001" not in printed
