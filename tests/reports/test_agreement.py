"""Every format says the same of the same report, each as its own reader takes it."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest
import xmlschema
from markdown_it import MarkdownIt
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gpudoctor import Status
from gpudoctor import report as reports
from gpudoctor.fleet.model import LETTER
from gpudoctor.hostlist import fold
from gpudoctor.registry import formats, report_format
from gpudoctor.report import LEVELS, Cluster, Page, Redaction, Report, counts, exit_code, verdict
from gpudoctor.sharing import redacted
from gpudoctor.sheet import clean
from gpudoctor.wording import WORD
from tests.reported import result

Told = Counter[tuple[str, str, str]]  # node (empty: the only one, or the cluster), check, status

OF_CLUSTER = (
    result("cluster-kernel", Status.WARN, nodes=("gpu-a-018", "gpu-a-019"), owner="cluster"),
    result("cluster-driver", Status.FAIL, nodes=("gpu-a-018",), owner="node"),
    result("cluster-links", Status.SKIP),
)
STATUS = {word: status.value for status, word in WORD.items()}


def of_cluster(report: Report) -> Report:
    """The report of several nodes, judged together too."""
    cluster = Cluster(
        results=OF_CLUSTER, missing=("gpu-a-020",), facts={"members": {"expected": 4}}
    )
    report = replace(report, cluster=cluster, redaction=Redaction(level="public"))
    status = verdict(report.results)
    code = exit_code(status, strict=report.run.strict)
    return replace(report, counts=counts(report.results), status=status, exit_code=code)


@pytest.fixture(params=["alone", "cluster"])
def told(report: Report, request) -> Report:
    """Each sample, and each with a cluster's results."""
    return report if request.param == "alone" else of_cluster(report)


def rendered(name: str, report: Report) -> str:
    return report_format(name).render(report, Page(verbosity=1))


def wanted(report: Report) -> Told:
    several = len(report.nodes) > 1
    found = [(node.name if several else "", r) for node in report.nodes for r in node.results]
    found += [("", r) for r in (report.cluster.results if report.cluster else ())]
    return Counter((clean(node), result.id, _status(result)) for node, result in found)


def _status(result) -> str:
    return "ignored" if result.ignored else result.status.value


def _of(results, node: str = "") -> list[tuple[str, str, str]]:
    return [(node, r["id"], "ignored" if r.get("ignored") else r["status"]) for r in results]


def in_json(text: str) -> Told:
    document = json.loads(text)
    several = len(document["nodes"]) > 1
    found = [
        told
        for node in document["nodes"]
        for told in _of(node["results"], clean(node["name"]) if several else "")
    ]
    return Counter(found + _of((document["cluster"] or {}).get("results", ())))


def in_jsonl(text: str) -> Told:
    events = [json.loads(line) for line in text.splitlines()]
    return Counter(
        told
        for event in events
        if event["event"] == "result"
        for told in _of([event], clean(event.get("node", "")))
    )


def in_html(text: str) -> Told:
    page = Tags("script")
    page.feed(text)
    return in_json(page.found[0]) if 'id="report"' in text else _in_fleet(json.loads(page.found[0]))


def _in_fleet(island: dict) -> Told:
    """The page of several nodes: a letter for each check of a node."""
    words = {letter: status.value for status, letter in LETTER.items()} | {"i": "ignored"}
    checks = [about[0] for about in island["checks"]]
    several = len(island["nodes"]) > 1
    return Counter(
        (clean(node[0]) if several else "", check, words[letter])
        for node in island["nodes"]
        for check, letter in zip(checks, island["results"][node[3]], strict=False)
        if letter in words
    )


def in_junit(text: str) -> Told:
    suites = ElementTree.fromstring(text.encode()).findall("testsuite")
    names = [suite.get("hostname", "") for suite in suites]
    several = len([name for name in names if name != "cluster"]) > 1
    outcomes = {"failure": "fail", "error": "error", "skipped": "skip", "system-out": "warn"}
    found: Told = Counter()
    for suite, name in zip(suites, names, strict=True):
        for case in suite.findall("testcase"):
            status = next((outcomes[child.tag] for child in case), "pass")
            status = "warn" if case.find("failure[@type='warn']") is not None else status
            skipped = case.find("skipped")
            if skipped is not None and skipped.get("message", "").startswith("ignored ("):
                status = "ignored"
            where = name if several and name != "cluster" else ""
            found[where, case.get("name", ""), status] += 1
    return found


def in_prometheus(text: str) -> Told:
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    labels = [sample.labels for sample in families.get("gpudoctor_check", ())]
    return Counter((one.get("node", ""), one["check"], one["status"]) for one in labels)


def in_markdown(text: str) -> Told:
    """The tables of all checks; an ignored one is told apart in a table of its own."""
    page = Tags("summary", "td")
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    found: Told = Counter()
    cells: list[str] = []
    node, kind, ignored = "", "", set()
    for tag, said in page.told:
        if tag == "summary":
            name = re.match(r"All checks(?: of (.*))? \(\d+\)", said)
            node, kind = (name[1] or "", "all") if name else ("", said.partition(" (")[0])
            node = "" if node == "cluster" else node
            cells = []
            continue
        cells.append(said)
        if kind == "all" and len(cells) == 4:
            found[node, cells[1], STATUS[cells[0]]] += 1
            cells = []
        elif kind == "Ignored" and len(cells) == 3:
            ignored.add(cells[0])
            cells = []
    return Counter({(n, i, "ignored" if i in ignored else s): c for (n, i, s), c in found.items()})


class Tags(HTMLParser):
    """The text of some elements."""

    def __init__(self, *tags: str) -> None:
        super().__init__()
        self.tags, self.open = tags, ""
        self.told: list[tuple[str, str]] = []

    @property
    def found(self) -> list[str]:
        return [text for _, text in self.told]

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.tags:
            self.told.append((tag, ""))
            self.open = tag

    def handle_endtag(self, tag: str) -> None:
        self.open = "" if tag == self.open else self.open

    def handle_data(self, data: str) -> None:
        if self.open:
            self.told[-1] = (self.open, self.told[-1][1] + data)


READERS = {
    "json": in_json,
    "jsonl": in_jsonl,
    "html": in_html,
    "junit": in_junit,
    "prometheus": in_prometheus,
    "markdown": in_markdown,
}
GISTS = {"text", "github", "nagios", "npd", "sarif"}  # do not tell every check


def test_no_format_is_left_out():
    assert {*READERS, *GISTS} == set(formats())


@pytest.mark.parametrize("name", READERS)
def test_every_check_of_every_node_with_its_status(told, name):
    text = rendered(name, told)
    found, expected = READERS[name](text), wanted(told)
    if name == "prometheus":  # a series can be there only once
        found, expected = Counter(set(found)), Counter(set(expected))
    if name == "html" and 'id="fleet"' in text:  # has what is of the cluster as text alone
        assert all(result.id in text for result in (told.cluster.results if told.cluster else ()))
        found, expected = (
            Counter({key: n for key, n in each.items() if not key[1].startswith("cluster-")})
            for each in (found, expected)
        )

    assert found == expected


def test_findings_in_sarif(told):
    [run] = json.loads(rendered("sarif", told))["runs"]
    found = [(each["ruleId"], each["level"], *_where(each)) for each in run["results"]]
    levels = {Status.FAIL: "error", Status.WARN: "warning"}
    expected = [
        (r.id, levels[r.status], clean(node.name))
        for node in told.nodes
        for r in node.results
        if r.status in levels
    ]
    results = told.cluster.results if told.cluster else ()
    expected += [(r.id, levels[r.status], fold(r.nodes)) for r in results if r.status in levels]

    assert found == expected
    assert run["invocations"][0]["exitCode"] == told.exit_code


def _where(found: dict) -> list[str]:
    return [found["locations"][0]["logicalLocations"][0]["name"]]


def test_findings_in_github(told):
    said = unquote(rendered("github", told))
    serious = (Status.FAIL, Status.WARN)
    found = [r.id for r in told.results if r.status in serious and not r.ignored]

    assert all(f"gpudoctor: {check}" in said or f"{check}:" in said for check in found)


def test_counts(told):
    expected = {status.value: told.counts[status.value] for status in Status}
    nagios = dict(re.findall(r"(\w+)=(\d+)", rendered("nagios", told).splitlines()[0]))
    text = rendered("text", told)
    words = {"pass": "ok", "fail": "failed", "skip": "not checked"}
    tally = "".join(
        f"(?=.*\\b{told.counts[key]} {word})" for key, word in words.items() if told.counts[key]
    )

    assert {name: int(nagios[name]) for name in expected} == expected
    assert re.search(f"^(PASS|WARN|FAIL|NO VERDICT) {tally}", text, re.MULTILINE)
    assert json.loads(rendered("json", told))["counts"] == expected
    for told_in in ("github", "markdown", "text"):
        assert f"{told.counts['pass']} ok" in rendered(told_in, told)


def test_verdicts(told):
    events = rendered("jsonl", told).splitlines()
    families = {
        f.name: f.samples for f in text_string_to_metric_families(rendered("prometheus", told))
    }
    [now] = [s.labels["status"] for s in families["gpudoctor_verdict"] if s.value]
    nagios = report_format("nagios").exit_code(told)

    assert now == told.status.value
    assert json.loads(rendered("json", told))["status"] == told.status.value
    assert json.loads(events[-1])["status"] == told.status.value
    assert (nagios == 2) == (told.exit_code == 1)


@pytest.mark.parametrize("name", ["text", "markdown", "json", "jsonl", "html"])
def test_the_level_is_said(samples, name):
    hidden = Redaction(level="public", replaced={"host name": 3})

    assert "public" in rendered(name, replace(samples["container"], redaction=hidden))


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_no_level_is_said_of_what_hides_nothing(samples, name):
    assert "edaction" not in rendered(name, samples["container"])


def test_json_is_as_published(told):
    schema = msgspec.json.schema(Report)

    jsonschema.validate(json.loads(rendered("json", told)), schema)
    fields = schema["$defs"]["Report"]["properties"]
    assert {"cluster", "redaction"} <= set(fields)
    assert "nodes" in schema["$defs"]["Result"]["properties"]


def test_junit_is_as_its_readers_want_it(told):
    schema = xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd")))

    schema.validate(rendered("junit", told))


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_changes_what_was_found(told, level):
    shared = redacted(replace(told, redaction=Redaction()), level)

    assert reports.load(rendered("json", shared).encode()) == shared
    assert shared.redaction.level == level
    for field in ("status", "exit_code", "counts"):
        assert getattr(shared, field) == getattr(told, field)
    assert [(r.id, r.status, r.title, r.owner) for r in shared.results] == [
        (r.id, r.status, r.title, r.owner) for r in told.results
    ]
    assert redacted(shared, level) == shared


def test_a_node_s_condition_in_npd(told):
    npd = report_format("npd")
    of_node = [r for r in told.results if r.owner in npd.OF_NODE and not r.ignored]
    failed = [r.id for r in of_node if r.status is Status.FAIL]
    problems = failed or [r.id for r in of_node if r.status is Status.WARN and told.run.strict]

    assert (npd.exit_code(told) == 1) == bool(problems)
    if problems:
        assert rendered("npd", told).startswith(f"{problems[0]}:"[:70]) or told.cluster
