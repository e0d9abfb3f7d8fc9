"""gpudoctor/fleet: what is summed up of many reports."""

import itertools
from collections import Counter

import pytest
from msgspec.structs import replace

from gpudoctor import fleet
from gpudoctor import report as reports
from gpudoctor.finding import Status
from gpudoctor.fleet.model import LETTER
from gpudoctor.hostlist import unfold
from gpudoctor.report import verdict
from gpudoctor.sharing import Redactor, redacted
from gpudoctor.snapshot import encode
from tests.fleet import clusters, synthetic


@pytest.fixture(scope="module")
def kinds():
    return synthetic.Kinds()


@pytest.fixture
def gathered(tmp_path, kinds):
    """Gather nodes given as (name, fault): `gathered(("n1", HEALTHY), expected="n[1-4]")`."""

    def gather(*nodes, expected=None, inventory=None, model="H100"):
        for number, (name, fault) in enumerate(nodes):
            raw = synthetic.named(kinds, name, model, fault)
            (tmp_path / f"{number:05}.json").write_bytes(raw)
        known = fleet.expected_nodes(expected) if expected else inventory
        return fleet.gather(fleet.pieces([str(tmp_path)]), expected=known)

    return gather


def problem(found, name):
    return next(each for each in found.problems if each.id == name)


def test_every_node_has_the_verdict_of_its_report(found, kinds):
    model = {name: (model, fault) for name, model, fault in synthetic.fleet(300)}

    for node in found.nodes:
        report = kinds.report(*model[node.name])
        letters = "".join(LETTER[result.status] for result in report.nodes[0].results)
        assert node.status is verdict(report.results), node.name
        assert found.results[node.results] == letters
    assert sum(found.counts.values()) == len(found.nodes) == 300
    assert found.status is Status.FAIL
    assert found.exit_code == 1


def test_the_stories_of_the_fleet_are_found(found):
    memlock, width = problem(found, "limits-memlock"), problem(found, "gpu-pcie-width")

    assert memlock.nodes.names == "gpu-002-[01-05,07-16]"
    assert [pattern.words for pattern in memlock.patterns] == ["all named gpu-002-*"]
    assert [pattern.words for pattern in width.patterns] == ["always GPU 3"]
    assert (memlock.owner, width.owner) == ("launch", "node")
    assert (width.status, width.failed) == (Status.WARN, 0)


def test_what_differs_from_the_majority_is_told_by_cohort(found):
    h100, mi300 = found.cohorts
    differ = {each.trait: each for each in h100.differ}

    assert (h100.name, mi300.name) == ("NVIDIA H100 80GB HBM3", "AMD Instinct MI300X")
    assert differ["memlock"].usual == "unlimited"
    assert differ["memlock"].others[0].value == "64 KiB"
    assert differ["memlock"].others[0].nodes.count == 15
    node = next(node for node in found.nodes if node.name == "gpu-002-01")
    assert node.unlike["memlock"] == "64 KiB"


def test_what_could_not_be_read_is_told_and_stops_nothing(found):
    reasons = {each.reason: (each.count, each.foreign) for each in found.unread}

    assert reasons == {
        "cut off: it ends too early": (2, False),
        "JSON, but not a report: it has no schema": (1, True),
    }


def test_of_two_runs_the_later_one_counts(found):
    node = next(node for node in found.nodes if node.name == "gpu-001-01")

    assert found.repeated.names == "gpu-001-01"
    assert node.started.startswith("2026-11-20")
    assert node.status is Status.PASS


@pytest.mark.parametrize("first", ["2026-11-19", "2026-11-21"])
def test_the_later_one_counts_in_any_order(tmp_path, kinds, first):
    raws = [
        synthetic.named(kinds, "n1", "H100", fault).replace(b'"2026-11-20', f'"{day}'.encode())
        for day, fault in ((first, synthetic.MEMLOCK), ("2026-11-20", synthetic.HEALTHY))
    ]
    for number, raw in enumerate(raws):
        (tmp_path / f"{number}.json").write_bytes(raw)

    found = fleet.gather(fleet.pieces([str(tmp_path)]))

    (node,) = found.nodes
    later = first > "2026-11-20"
    assert node.status is (Status.FAIL if later else Status.PASS)
    assert bool(found.cohorts[0].alike["memlock"] == "64 KiB") is later


def test_two_machines_of_one_name_are_two_nodes(tmp_path, kinds):
    raw = synthetic.named(kinds, "localhost", "H100", synthetic.HEALTHY)
    for number in range(2):
        own = raw.replace(b'"uuid": ""', f'"uuid": "GPU-{number}"'.encode())
        (tmp_path / f"{number}.json").write_bytes(own)

    found = fleet.gather(fleet.pieces([str(tmp_path)]))

    assert [node.name for node in found.nodes] == ["localhost", "localhost#2"]
    assert found.repeated.count == 0


def test_tokens_of_two_files_are_two_nodes(tmp_path, kinds):
    for number, run in enumerate(("one", "two", "two")):
        raw = synthetic.named(kinds, f"gpu-{run}", "H100", synthetic.HEALTHY)
        shared = redacted(reports.load(raw), "public")
        shared = replace(shared, run=replace(shared.run, id=run))
        (tmp_path / f"{number}.json").write_bytes(encode(shared))

    found = fleet.gather(fleet.pieces([str(tmp_path)]))

    assert [node.name for node in found.nodes] == ["host-01", "host-01#2"]
    assert found.repeated.names == "host-01#2"


def test_ordinary_names_are_hidden_alike(tmp_path, kinds):
    for name in ("vm", "node", "gpu-a-7"):
        raw = synthetic.named(kinds, name, "H100", synthetic.MEMLOCK)
        (tmp_path / f"{name}.json").write_bytes(raw)

    found = fleet.gather(fleet.pieces([str(tmp_path)]), redactor=Redactor("public"))

    assert [node.name for node in found.nodes] == ["host-01", "host-02", "host-03"]
    assert {problem.nodes.names for problem in found.problems} == {"host-[01-03]"}


@pytest.mark.parametrize(
    ("expected", "missing", "unexpected", "status"),
    [
        pytest.param("n[1-2]", "", "", Status.PASS, id="all there"),
        pytest.param("n[1-4]", "n[3-4]", "", Status.ERROR, id="two missing"),
        pytest.param("n1", "", "n2", Status.PASS, id="one more"),
        pytest.param("n1.site.org,N2", "", "", Status.PASS, id="by their full names"),
        pytest.param("a.site,n1,n2", "a.site", "", Status.ERROR, id="another"),
    ],
)
def test_missing_nodes(gathered, expected, missing, unexpected, status):
    nodes = [(name, synthetic.HEALTHY) for name in ("n1", "n2")]

    found = gathered(*nodes, expected=expected)

    assert (found.missing.names, found.unexpected.names) == (missing, unexpected)
    assert found.status is status
    assert found.exit_code == (3 if status is Status.ERROR else 0)


def test_a_rack_of_the_inventory_is_named(gathered):
    places = {f"n{number}": {"rack": f"c{number // 8}"} for number in range(64)}
    nodes = [
        (name, synthetic.NIC if place["rack"] == "c2" and name != "n20" else synthetic.HEALTHY)
        for name, place in places.items()
    ]

    found = gathered(*nodes, inventory=fleet.Expected({**places, "n64": {"rack": "c8"}}))

    words = [pattern.words for pattern in problem(found, "rdma-ports").patterns]
    assert words == ["always mlx5_4", "all on rack c2"]
    assert found.missing_places == {"rack": {"c8": 1}}


def test_a_version_that_comes_with_the_problem_is_named(gathered):
    both = synthetic.Fault(
        "driver and heat",
        lambda facts: synthetic.OLD_DRIVER.spoil(synthetic.HOT[0].spoil(facts)),
    )
    luck = [both if number % 9 == 0 else synthetic.HEALTHY for number in range(90)]
    names = [f"x{a}y{b}" for a, b in itertools.product(range(9), range(10))]

    found = gathered(*zip(names, luck, strict=True))

    words = [pattern.words for pattern in problem(found, "gpu-throttle").patterns]
    assert "all have NVIDIA driver 550.54.15" in words


def test_a_driver_that_hangs_is_one_problem_not_twenty(gathered):
    found = gathered(("n1", synthetic.SILENT), ("n2", synthetic.HEALTHY), ("n3", synthetic.SILENT))

    (only,) = found.problems
    assert only.status is Status.ERROR
    assert len(only.checks) > 10
    assert only.nodes.names == "n[1,3]"
    assert found.unjudged.names == "n[1,3]"
    assert found.exit_code == 3


def test_a_tie_blames_nobody(gathered):
    found = gathered(("n1", synthetic.OLD_KERNEL), ("n2", synthetic.HEALTHY))

    (kernel,) = [each for each in found.cohorts[0].differ if each.trait == "kernel"]
    assert kernel.usual == ""
    assert not any(node.unlike for node in found.nodes)


def test_the_same_advice_is_given_once(gathered):
    faults = [synthetic.SHM, synthetic.SHM, synthetic.ECC[1], synthetic.ECC[2]]
    found = gathered(*((f"n{number}", fault) for number, fault in enumerate(faults)))

    (docker,) = [each for each in found.actions if each.owner == "launch"]
    (reset,) = [each for each in found.actions if "reset" in each.text]
    assert docker.nodes.names == "n[0-1]"
    assert [each.command for each in docker.commands] == ["docker run --shm-size=8g IMAGE COMMAND"]
    assert reset.nodes.names == "n[2-3]"
    assert len(reset.commands) == 2
    assert found.exclude.names == "n[2-3]"
    assert found.exclude_lines == {"slurm": "sbatch --exclude=n[2-3]"}


def test_figures_are_those_of_the_nodes(found):
    (hot,) = [f for f in found.figures if f.key == "temperature" and "H100" in f.cohort]
    place = [key.key for key in found.figure_keys].index("temperature")
    told = {
        n.name: n.figures[place] for n in found.nodes if found.cohorts[n.cohort].name == hot.cohort
    }
    ordered = sorted(told.values())

    assert hot.count == len(told)
    assert (hot.low.value, hot.high.value) == (ordered[0], ordered[-1])
    assert told[hot.low.node] == ordered[0]
    assert hot.p50 == ordered[(len(ordered) - 1) // 2]
    assert hot.low_is_bad is False


def test_nothing_to_read_is_no_verdict(tmp_path):
    found = fleet.gather(fleet.pieces([str(tmp_path)]))

    assert (found.status, found.exit_code) == (Status.SKIP, 3)


def test_host_lists_name_the_nodes_that_have_the_problem(found):
    having = Counter(f.check for node in found.nodes for f in node.findings)

    for each in found.problems:
        if len(each.checks) == 1:
            assert len(unfold(each.nodes.names)) == each.nodes.count == having[each.checks[0]]


def test_a_cluster_blames_its_nodes():
    found = fleet.of_report(clusters.report())
    status = {node.name: node.status for node in found.nodes}

    assert found.cluster is not None
    assert found.missing.names == "gpu-a-09"
    assert (found.expected, len(found.nodes)) == (9, 8)
    assert status[clusters.DEAD] is Status.FAIL
    assert status[clusters.SLOW] is Status.WARN
    assert problem(found, "cluster-links").of_cluster
    assert found.exclude.names == clusters.DEAD
    assert {a.nodes.names for a in found.actions} == {f"gpu-a-0{n}" for n in (3, 5, 6, 7)}
