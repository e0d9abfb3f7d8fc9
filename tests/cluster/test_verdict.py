"""Which nodes a job should do without, and in whose words that is said."""

import pytest

from gpudoctor import Status
from gpudoctor.cluster.verdict import exclude_lines, excluded
from gpudoctor.facts.members import Member
from gpudoctor.report import Ignored, Node, Result

NAMES = ("a1", "a2", "a3", "a4", "a5")


def result(owner="node", status=Status.FAIL, **more):
    return Result(id="t-x", topic="t", title="", status=status, owner=owner, **more)


@pytest.mark.parametrize(
    ("of_nodes", "of_cluster", "members", "missing", "wanted"),
    [
        pytest.param({}, (), (), (), (), id="all well"),
        pytest.param({"a2": result()}, (), (), (), ("a2",), id="a GPU of a node"),
        pytest.param({"a2": result("launch")}, (), (), (), (), id="the job can mend it"),
        pytest.param({"a2": result(status=Status.WARN)}, (), (), (), (), id="a warning"),
        pytest.param({"a2": result(ignored=Ignored("why"))}, (), (), (), (), id="ignored"),
        pytest.param({}, (result("network", nodes=("a4",)),), (), (), ("a4",), id="the network"),
        pytest.param({}, (result("image", nodes=("a4",)),), (), (), (), id="another image"),
        pytest.param({}, (), (Member(name="a5", lost="gone"),), (), ("a5",), id="lost"),
        pytest.param({}, (), (Member(name="a5", refused="odd"),), (), ("a5",), id="refused"),
        pytest.param({}, (), (), ("b1",), ("b1",), id="missing"),
        pytest.param({"a1": result(), "a2": result()}, (), (), ("b1",), (), id="half of them"),
        pytest.param(
            {name: result() for name in NAMES}, (), (), (), (), id="all alike: no node is to blame"
        ),
    ],
)
def test_excluded(of_nodes, of_cluster, members, missing, wanted):
    nodes = [
        Node(name=name, results=(of_nodes[name],) if name in of_nodes else ()) for name in NAMES
    ]

    assert excluded(nodes, of_cluster, members, missing) == wanted


@pytest.mark.parametrize(
    ("names", "launcher", "wanted"),
    [
        pytest.param((), "slurm", {}, id="nobody"),
        pytest.param(
            ("gpu-a-012", "gpu-a-007"), "slurm", {"slurm": "--exclude=gpu-a-[007,012]"}, id="Slurm"
        ),
        pytest.param(("a1#2", "a1"), "slurm", {"slurm": "--exclude=a1"}, id="twice on one host"),
        pytest.param(
            ("a.b", "c"),
            "openmpi",
            {"openmpi": r"grep -vwE 'a\.b|c' HOSTFILE > HOSTFILE.without"},
            id="Open MPI",
        ),
        pytest.param(("a1",), "torchrun", {}, id="a launcher that has no such words"),
    ],
)
def test_exclude_lines(names, launcher, wanted):
    assert exclude_lines(names, launcher) == wanted


def test_kubernetes_by_the_names_of_its_nodes():
    import yaml

    lines = exclude_lines(("worker-2", "worker-1"), "kubernetes")["kubernetes"]
    rule = yaml.safe_load(lines)["affinity"]["nodeAffinity"]
    (term,) = rule["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    assert term["matchExpressions"] == [
        {
            "key": "kubernetes.io/hostname",
            "operator": "NotIn",
            "values": ["worker-1", "worker-2"],
        }
    ]
