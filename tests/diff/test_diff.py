"""gpudoctor/diff: recorded faults are named at once, noise is not told, text stays text."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gpudoctor import registry, run, snapshot
from gpudoctor.diff import Difference, Given, compare
from gpudoctor.diff.facts import changes, plain
from gpudoctor.diff.fields import KEYS, LABELS, ORDERED, SHOWN_BY, VERSIONS
from gpudoctor.diff.noise import FIELDS, ITEMS, same_reason
from gpudoctor.finding import Status
from gpudoctor.report import Ignored, Node, Page
from tests.diff_faults import FAULTS, LINES
from tests.reported import report, result

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())
PAIRS = [(place, name) for place, known in RECORDED.items() for name in known["faults"]]
KINDS = {snapshot.name_of(kind): kind for kind in snapshot.builtin_kinds()}
CHECKS = registry.builtin_checks(launch=False, cluster=False)
NEEDS = {c.id: [snapshot.name_of(n.kind) for n in c.needs.values()] for c in CHECKS}
text, page, data = (registry.report_format(f"diff.{name}") for name in ("text", "html", "json"))


def judged(name: str, facts: dict[str, Any]) -> Given:
    """Facts as `collect` wrote them, judged."""
    raw = json.dumps({"schema": snapshot.SCHEMA, "nodes": [{"name": name, "facts": facts}]})
    request = run.Request(checks=tuple(CHECKS), catalogue=registry.Catalogue(tuple(CHECKS)))
    judged = run.judge_again(request, snapshot.load(raw.encode()))
    return Given(f"{name}.json", judged, judged.nodes[0])


def told(before: dict[str, Any], after: dict[str, Any], *nodes: str) -> Difference:
    one, other = nodes or ("node0", "node0")
    return compare(judged(one, before), judged(other, after), needs=NEEDS, kinds=KINDS)


def lines(before: Any, after: Any, fact: str = "plugin", same_node: bool = True) -> list[str]:
    found = changes({fact: before}, {fact: after}, same_node=same_node)
    return [change.text for change in found]


@pytest.mark.parametrize(("place", "name"), PAIRS, ids=[name for _, name in PAIRS])
def test_a_recorded_fault_is_named_first(place, name):
    healthy = RECORDED[place]["healthy"]
    found = told(healthy, {**healthy, **RECORDED[place]["faults"][name]})

    first = "\n".join(text.render(found, Page()).splitlines()[:LINES])
    assert re.search(FAULTS[name], first, re.MULTILINE), first


def test_every_fault_of_the_lab_is_recorded():
    assert {name for _, name in PAIRS} == {*FAULTS}


@pytest.mark.parametrize("place", RECORDED)
def test_the_same_facts_differ_in_nothing(place):
    healthy = RECORDED[place]["healthy"]

    assert told(healthy, healthy).same


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        pytest.param("clock.now", 1.0, 9.0, id="time"),
        pytest.param("gpus.devices.temperature_c", 34, 41, id="a few degrees"),
        pytest.param("gpus.devices.throttle", ["idle"], [], id="begins to work"),
        pytest.param("gpus.devices.memory_used_bytes", 4 << 20, 600 << 20, id="memory in use"),
        pytest.param("shm.free_bytes", 10 << 30, 9 << 30, id="free bytes"),
        pytest.param("system.uptime_seconds", 100, 99_999, id="time goes on"),
        pytest.param("cgroup.oom_kills", 3, 0, id="a counter begins anew"),
        pytest.param("kernel_log.lines", ["a", "b"], ["b"], id="old lines fall out"),
    ],
)
def test_noise(path, before, after):
    assert FIELDS[path].covers(before, after, same_node=True)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        pytest.param("gpus.devices.temperature_c", 34, 89, id="hot"),
        pytest.param("gpus.devices.throttle", ["idle"], ["hw slowdown"], id="slowed down"),
        pytest.param("gpus.devices.memory_used_bytes", 4 << 20, 60 << 30, id="taken"),
        pytest.param("shm.free_bytes", 10 << 30, 1 << 30, id="filled"),
        pytest.param("system.uptime_seconds", 99_999, 100, id="restarted"),
        pytest.param("cgroup.oom_kills", 0, 1, id="killed"),
        pytest.param("kernel_log.lines", ["a"], ["a", "NVRM: Xid"], id="a new line"),
        pytest.param("gpus.devices.links.errors", 0, 500, id="many errors"),
        pytest.param("names.addresses", ["10.0.0.1"], ["127.0.1.1"], id="address"),
        pytest.param("clock.max_error_seconds", "x", None, id="not what it should be"),
    ],
)
def test_no_noise(path, before, after):
    assert not FIELDS[path].covers(before, after, same_node=True)


def test_every_exception_is_of_a_field_that_there_is_and_has_a_reason():
    known = {path for name, kind in KINDS.items() for path in _paths(name, kind)}
    paths = {*FIELDS, *ITEMS, *KEYS, *SHOWN_BY, *ORDERED, *VERSIONS, *LABELS}

    assert {path.removesuffix(".*") for path in paths} - known - {"clock.synchronised"} == set()
    assert all(len(noise.reason) > 10 for noise in FIELDS.values())


def _paths(at: str, kind: Any) -> list[str]:
    """Every field of a fact, and of the records in it."""
    found = []
    for field in msgspec.structs.fields(kind):
        path = f"{at}.{field.name}"
        found.append(path)
        inner = [field.type, *_arguments(field.type)]
        for each in (one for one in inner if isinstance(one, type)):
            if issubclass(each, msgspec.Struct):
                found += _paths(path, each)
    return found


def _arguments(kind: Any) -> list[Any]:
    inner = getattr(kind, "__args__", ())
    return [*inner, *(deeper for one in inner for deeper in _arguments(one))]


@pytest.mark.parametrize(
    ("fact", "before", "after", "expected"),
    [
        pytest.param(
            "limits",
            {"memlock": {"soft": 65536, "hard": None}},
            {"memlock": {"soft": None, "hard": None}},
            ["limits: memlock soft 64 KiB -> unlimited"],
            id="limit",
        ),
        pytest.param(
            "environment",
            {"values": {}},
            {"values": {"NCCL_IB_DISABLE": "1", "SLURM_JOB_ID": "7"}},
            ["environment: NCCL_IB_DISABLE: unset -> 1"],
            id="variable, and one that numbers the job",
        ),
        pytest.param(
            "gpus",
            {"devices": [{"index": n, "uuid": f"GPU-{n}"} for n in range(8)]},
            {"devices": [{"index": n, "uuid": f"GPU-{n}"} for n in range(8) if n not in (2, 3)]},
            ["gpus[2-3]: gone"],
            id="GPUs gone",
        ),
        pytest.param(
            "gpus",
            {"devices": [{"index": n, "ecc_enabled": True} for n in range(4)]},
            {"devices": [{"index": n, "ecc_enabled": n == 1} for n in range(4)]},
            ["gpus[0,2-3]: ecc enabled yes -> no"],
            id="the same of several",
        ),
        pytest.param(
            "gpus",
            {
                "devices": [
                    {"index": 0, "links": [{"number": n, "active": True} for n in range(18)]}
                ]
            },
            {
                "devices": [
                    {"index": 0, "links": [{"number": n, "active": n < 9} for n in range(18)]}
                ]
            },
            ["gpus[0]: links[9-17] active yes -> no"],
            id="the same of several inside one",
        ),
        pytest.param(
            "gpus",
            {"devices": [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]},
            {"devices": [{"index": 0, "uuid": "GPU-b"}, {"index": 1, "uuid": "GPU-a"}]},
            ["gpus[1]: index 0 -> 1", "gpus[0]: index 1 -> 0"],
            id="moved",
        ),
        pytest.param(
            "network",
            {"interfaces": [{"name": "eth0", "pci": "3b", "mtu": 1500}]},
            {"interfaces": [{"name": "ens3", "pci": "3b", "mtu": 1500}]},
            ["network[ens3]: name eth0 -> ens3"],
            id="renamed",
        ),
        pytest.param(
            "network",
            {"interfaces": [{"name": "a"}, {"name": "b"}]},
            {"interfaces": [{"name": "b"}, {"name": "a"}]},
            ["network: order a, b -> b, a"],
            id="an order that means something",
        ),
        pytest.param(
            "rdma",
            {"devices": [{"name": "mlx5_0", "ports": [{"number": 1, "state": "ACTIVE"}]}]},
            {"devices": [{"name": "mlx5_0", "ports": [{"number": 1, "state": "DOWN"}]}]},
            ["rdma[mlx5_0]: ports[1] state ACTIVE -> DOWN"],
            id="a port",
        ),
        pytest.param(
            "rdma",
            {"devices": []},
            {"absent": "there is no RDMA device here", "broken": False},
            ["rdma: there -> not there: there is no RDMA device here"],
            id="absent, and why",
        ),
        pytest.param(
            "gpus",
            {"absent": "no GPU", "broken": False},
            {"absent": "no answer in 5 s", "broken": True},
            ["gpus: not there (no GPU) -> could not be read: no answer in 5 s"],
            id="looking fails",
        ),
        pytest.param("gpus.cuda", [13, 0], [12, 8], ["gpus.cuda: 13.0 -> 12.8"], id="version"),
        pytest.param("plugin", {"a": [3, 1]}, {"a": [1, 3]}, [], id="unordered"),
        pytest.param(
            "plugin",
            {"rows": [{"id": 7, "deep": {"x": 1.5}}], "on": True},
            {"rows": [{"id": 7, "deep": {"x": 2.5}}, {"id": 8}], "on": False},
            ["plugin: rows[7] deep x 1.5 -> 2.5", "plugin: rows[8] new", "plugin: on yes -> no"],
            id="a fact that nobody knows",
        ),
        pytest.param("plugin", [1, "a"], {"x": None}, ['plugin: 1, a -> {"x": null}'], id="shape"),
        pytest.param(
            "shm",
            {"total_bytes": 1 << 30},
            {"total_bytes": (1 << 30) + 1},
            [],
            id="alike but for what the kernel keeps",
        ),
    ],
)
def test_words(fact, before, after, expected):
    assert lines(before, after, fact) == expected


def test_between_nodes_what_is_each_ones_own_is_left_out():
    one = {"hostname": "a", "addresses": ["10.0.0.1"], "hosts_lines": ["10.0.0.1 a"]}
    other = {"hostname": "b", "addresses": ["10.0.0.2"], "hosts_lines": ["10.0.0.2 b"]}

    assert lines(one, other, "names", same_node=False) == []
    assert len(lines(one, other, "names")) == 3
    bad = {**other, "addresses": ["127.0.1.1"]}
    assert lines(one, bad, "names", same_node=False) == ["names: addresses 10.0.0.1 -> 127.0.1.1"]


def test_the_master_itself_asks_nobody():
    asked = {"attempts": [{"ip": "10.0.0.1", "error": "ECONNREFUSED"}]}
    unheard = {"attempts": [{"ip": "10.0.0.1", "error": "ETIMEDOUT"}]}

    assert lines({"attempts": []}, asked, "master", same_node=False) == []
    assert lines({"attempts": []}, unheard, "master", same_node=False) == [
        "master: attempts[10.0.0.1] new"
    ]
    assert lines(asked, unheard, "master", same_node=False) == [
        "master: attempts[10.0.0.1] error ECONNREFUSED -> ETIMEDOUT"
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        pytest.param("no answer in 27 s", "no answer in 26.5 s", True, id="seconds"),
        pytest.param("held by pid 7", "held by pid 9", True, id="pid"),
        pytest.param("no GPU", "no driver", False, id="another reason"),
    ],
)
def test_reasons(one, other, alike):
    assert same_reason(one, other) is alike


PASS, SKIP, WARN, ERROR, FAIL = Status.PASS, Status.SKIP, Status.WARN, Status.ERROR, Status.FAIL


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        pytest.param(PASS, FAIL, "worse", id="fails"),
        pytest.param(WARN, FAIL, "worse", id="fails now"),
        pytest.param(PASS, ERROR, "worse", id="error"),
        pytest.param(FAIL, PASS, "better", id="put right"),
        pytest.param(FAIL, WARN, "better", id="better"),
        pytest.param(PASS, SKIP, "unchecked", id="skipped"),
        pytest.param(SKIP, PASS, "checked", id="no longer skipped"),
        pytest.param(FAIL, FAIL, None, id="as before"),
        pytest.param(None, FAIL, "worse", id="not run before"),
        pytest.param(None, PASS, None, id="not run before, and well"),
    ],
)
def test_findings(before, after, kind):
    sides = [report((result("a-b", status),) if status else ()) for status in (before, after)]
    given = [Given("x.json", each, each.nodes[0]) for each in sides]

    found = compare(*given, needs={}, kinds={})

    assert [turn.kind for turn in found.findings] == ([kind] if kind else [])
    assert found.same is (kind is None)


def test_what_is_ignored_now_is_better():
    failing = result("a-b", FAIL)
    sides = [report((each,)) for each in (failing, replace(failing, ignored=Ignored("known")))]
    found = compare(*(Given("x", r, r.nodes[0]) for r in sides), needs={}, kinds={})

    assert [turn.kind for turn in found.findings] == ["better"]
    assert "ignored" in text.render(found, Page())


def test_the_page_of_a_terminal():
    known = RECORDED["gpus"]
    after = {**known["healthy"], **known["faults"]["thermal slowdown"]}
    after["environment"] = {"values": {"NCCL_IB_DISABLE": "1"}, "names": []}
    found = told({**known["healthy"], "environment": {}}, after)

    assert text.render(found, Page(verbosity=-1)) == SLOWED
    marked = text.render(found, Page(verbosity=-1, color=True))
    assert "\x1b[31m✗ FAIL\x1b[0m\x1b[1m gpu-throttle \x1b[0m" in marked
    assert re.sub(r"\x1b\[\d*m", "", marked) == SLOWED


SLOWED = """\
gpudoctor diff   node0.json -> node0.json

✗ FAIL gpu-throttle (was ok): GPU 1: slowed down now: hw slowdown, hw thermal
    gpus[1]: throttle new hw slowdown, hw thermal; gone idle
! WARN gpu-temperature (was ok): GPU 1: 89 °C, it slows down at 90 °C
    gpus[1]: temperature 34 °C -> 89 °C

Other facts that checks look at
  environment: NCCL_IB_DISABLE: unset -> 1

2 findings worse, 3 facts changed
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, {"a": [1]}, id="nothing and something"),
        pytest.param({"absent": 5, "broken": "x"}, {"absent": None}, id="odd absences"),
        pytest.param({"devices": [{"uuid": []}, 1]}, {"devices": {"uuid": {}}}, id="odd lists"),
        pytest.param({"devices": [{"index": "9" * 5000}]}, {"devices": []}, id="odd index"),
    ],
)
@pytest.mark.parametrize("fact", ["gpus", "shm_files", "system", "plugin"])
def test_facts_of_no_known_shape_are_compared_all_the_same(fact, before, after):
    for one, other in ((before, after), (after, before)):
        sides = [plain({fact: side}, KINDS) for side in (one, other)]

        assert changes(*sides, same_node=False)


def test_fields_of_older_and_newer_versions():
    older, newer = {"total_bytes": 1}, {"total_bytes": 1, "filesystem": "", "huge_pages": "never"}
    sides = [plain({"shm": side}, KINDS) for side in (older, newer)]

    found = changes(*sides, same_node=True)
    assert [change.text for change in found] == ["shm: huge pages unset -> never"]


def test_what_is_nested_deeply_takes_one_line():
    deep: list[Any] = ["a", "b"]
    for _ in range(900):
        deep = [{"x": inner} for inner in deep]

    assert len(lines(*deep)) == 1


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\"&'" + "x" * 10_000


@pytest.fixture
def hostile() -> Difference:
    facts = [{"plugin": {HOSTILE: value, "list": [{"name": value}]}} for value in ("a", HOSTILE)]
    nodes = [
        Node(name=HOSTILE, facts=one, results=(result("a-b", status, summary=HOSTILE),))
        for one, status in zip(facts, (PASS, FAIL), strict=True)
    ]
    given = [Given(HOSTILE, replace(report(()), nodes=(node,)), node) for node in nodes]
    return compare(*given, needs={"a-b": ["plugin"]}, kinds={})


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("verbosity", [0, 1])
def test_hostile_text_stays_text_in_a_terminal(hostile, width, verbosity):
    printed = text.render(hostile, Page(width=width, verbosity=verbosity))

    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert max(map(len, printed.splitlines())) <= width


def test_hostile_text_stays_text_on_the_page(hostile):
    printed = page.render(hostile, Page())

    assert "<script>alert" not in printed
    assert "\u202e" not in printed
    assert "&lt;script&gt;alert" in printed


def test_json_is_the_whole_difference(hostile):
    assert msgspec.json.decode(data.render(hostile, Page()), type=Difference) == hostile


@pytest.mark.parametrize("unicode", [True, False])
def test_lines_fit(unicode):
    healthy = RECORDED["gpus"]["healthy"]
    for fault in RECORDED["gpus"]["faults"].values():
        printed = text.render(told(healthy, {**healthy, **fault}), Page(unicode=unicode))

        assert max(map(len, printed.splitlines())) <= 80
        assert unicode or printed.isascii()


def test_many_changes_are_folded():
    before = {f"name_{n}": 1 for n in range(100)}
    given = [
        Given("x", report(()), Node(name="n", facts={"plugin": fact}))
        for fact in (before, dict.fromkeys(before, 2))
    ]
    found = compare(*given, needs={}, kinds={})

    assert "(80 more with -v)" in text.render(found, Page())
    assert text.render(found, Page(verbosity=1)).count(" 1 -> 2") == 100
