"""The formats for other programs: to the letter, and as their readers take them.

`UPDATE_GOLDEN=1 pytest tests/reports` writes the pages in golden/ anew: read their diff.
"""

import json
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gpudoctor import Status
from gpudoctor.registry import formats, report_format
from gpudoctor.report import Page, Place, Report, Result, verdict
from gpudoctor.sheet import clean

KINDS = ["github", "junit", "nagios", "npd", "prometheus", "sarif"]
github, junit, nagios, npd, prometheus, sarif = map(report_format, KINDS)

NODE_IS_WELL = Result(
    id="clock-sync",
    topic="clock",
    title="The clock is synchronised",
    status=Status.PASS,
    owner="node",
)
ODD = [
    *map(chr, range(0x180)),
    *("\u200b", "\u2028", "\u2029", "\u202e", "\ufdd0", "\ufffe", "\uffff", "\ud800", "\udcff"),
    *("\U0001f600", "中", "::error::x", "##[error]x", "\n::error::x", "]]>", "-->", "<?x", "&#0;"),
    *('"} 1', "\\n", "\\", "%0A", "%", "| fail=0", "\r\nOK", "${x}", "{0}", "*" * 5000),
]


def saying(report: Report, texts: list[str]) -> Report:
    """The report with a failed result for each text, which is everywhere in it."""
    [node] = report.nodes
    model = next(result for result in node.results if result.status is Status.FAIL)
    results = tuple(
        replace(
            model,
            id=f"env-{number}",
            title=text,
            summary=text,
            why=text,
            evidence=(text,),
            place=Place(text.replace("\ud800", ""), 7),  # no name of a file can have it
            fixes=tuple(replace(fix, text=text, commands=(text,)) for fix in model.fixes),
        )
        for number, text in enumerate(texts)
    )
    return replace(report, nodes=(replace(node, name="".join(texts), results=results),))


@pytest.fixture
def odd(samples) -> Report:
    return saying(samples["lint"], ODD)


@pytest.mark.parametrize("name", ["container", "unknown", "two-nodes", "lint"])
@pytest.mark.parametrize("kind", KINDS)
def test_golden(samples, kind, name, as_in_golden):
    assert as_in_golden(report_format(kind).render(samples[name], Page()), f"{name}.{kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_can_be_encoded_and_ends_its_last_line(report, odd, kind):
    for one in (report, odd):
        assert report_format(kind).render(one, Page()).encode().endswith(b"\n")


DOCS = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["nagios", "prometheus"])
def test_docs_show_what_is_printed(samples, kind):
    [shown] = re.findall(rf"^## {kind}\n\n```\n(.*?)```", DOCS, re.MULTILINE | re.DOTALL)
    printed = report_format(kind).render(samples["container"], Page())

    assert set(shown.splitlines()) <= set(printed.splitlines())


def test_docs_name_every_format():
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)) >= set(formats())


# Nagios


def plugin(printed: str) -> tuple[str, dict[str, str], list[str]]:
    """Text, figures and long text of a plug-in's output, as the plug-in guidelines cut it."""
    first, *long = printed.removesuffix("\n").split("\n")
    text, bar, figures = first.partition("|")
    pairs = re.fullmatch(r" (?:([a-z]+)=([\d.]+s?)(?: |$))+", figures)

    assert bar
    assert pairs
    assert not [line for line in long if "|" in line]
    return text, dict(re.findall(r"([a-z]+)=([\d.]+)", figures)), long


def test_nagios_gets_its_line(report, odd):
    for one, page in ((report, Page()), (odd, Page()), (report, Page(verbosity=1))):
        printed = nagios.render(one, page)
        text, figures, long = plugin(printed)

        assert len(printed.encode()) <= nagios.LIMIT
        assert printed.count("\n") == 1 + len(long)
        assert text.startswith(f"GPUDOCTOR {nagios.WORDS[nagios.exit_code(one)]}: ")
        assert {name: int(figures[name]) for name in one.counts} == dict(one.counts)


def test_nagios_says_how_much_did_not_fit(odd):
    printed = nagios.render(odd, Page(verbosity=1))
    *_, last = printed.splitlines()

    assert len(printed.encode()) <= nagios.LIMIT
    assert len(printed.splitlines()) - 2 + int(last.split()[1]) == len(ODD)


@pytest.mark.parametrize(
    ("statuses", "strict", "for_nagios", "for_npd"),
    [
        pytest.param("pass skip", False, 0, 0, id="well"),
        pytest.param("pass warn", False, 1, 0, id="warning"),
        pytest.param("pass warn", True, 2, 1, id="warning, strict"),
        pytest.param("fail warn error", False, 2, 1, id="failed"),
        pytest.param("pass error", False, 3, 2, id="error"),
        pytest.param("warn error", True, 3, 2, id="error and warning, strict"),
        pytest.param("skip", False, 3, 2, id="nothing seen"),
        pytest.param("", False, 3, 2, id="no node"),
    ],
)
def test_exit_codes_that_hosts_expect(samples, statuses, strict, for_nagios, for_npd):
    report = judged(samples["strict"], statuses.split(), owner="node", strict=strict)

    assert (nagios.exit_code(report), npd.exit_code(report)) == (for_nagios, for_npd)


def judged(report: Report, statuses: list[str], *, owner: str, strict: bool = False) -> Report:
    """The report as if its one result had come out so."""
    [node] = report.nodes
    [model] = node.results
    results = tuple(replace(model, status=Status(word), owner=owner) for word in statuses)
    return replace(
        report,
        run=replace(report.run, strict=strict),
        status=verdict(results),
        nodes=(replace(node, results=results),),
    )


# node-problem-detector


def test_npd_gets_a_short_line(report, odd):
    for one in (report, odd, judged_by_owner(odd, "node")):
        printed = npd.render(one, Page())

        assert printed.isascii()
        assert printed.isprintable() or printed.removesuffix("\n").isprintable()
        assert 1 < len(printed) <= npd.LIMIT + 1


def judged_by_owner(report: Report, owner: str) -> Report:
    nodes = tuple(
        replace(node, results=tuple(replace(result, owner=owner) for result in node.results))
        for node in report.nodes
    )
    return replace(report, nodes=nodes)


def test_a_job_s_fault_is_no_condition_of_the_node(samples):
    of_job = judged(samples["strict"], ["fail", "pass"], owner="job")
    both = replace(of_job.nodes[0], results=(*of_job.nodes[0].results, NODE_IS_WELL))

    assert npd.exit_code(of_job) == npd.UNKNOWN  # nothing of the node was seen
    assert npd.exit_code(replace(of_job, nodes=(both,))) == 0


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ("pass", "no fault of this node"),
        ("pass warn", "no fault of this node"),
        ("skip", "nothing could be checked"),
        ("fail warn", "shm-free: 300 MiB in 2 files of dead processes"),
        ("fail fail error", "shm-free: 300 MiB in 2 files of dead processes (+1 more)"),
    ],
)
def test_npd_says_what_is_worst(samples, statuses, said):
    report = judged(samples["strict"], statuses.split(), owner="node")

    assert npd.render(report, Page()) == f"{said}\n"


# Prometheus

SERIES = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*"(?:,|(?=\})))*\})? ([\d.e+-]+)')


def test_prometheus_reads_it(report, odd):
    for one in (report, odd):
        printed = prometheus.render(one, Page())
        series = [line for line in printed.splitlines() if not line.startswith("#")]
        families = list(text_string_to_metric_families(printed))

        assert all(SERIES.fullmatch(line) for line in series)
        assert len({line.rpartition(" ")[0] for line in series}) == len(series)
        assert sum(len(family.samples) for family in families) == len(series)
        assert {family.type for family in families} == {"gauge"}
        assert not [s for family in families for s in family.samples if s.timestamp is not None]


def test_prometheus_has_every_check_and_one_verdict(report):
    families = {
        f.name: f.samples for f in text_string_to_metric_families(prometheus.render(report, Page()))
    }
    checks = {
        (s.labels.get("node"), s.labels["check"], s.labels["status"])
        for s in families["gpudoctor_check"]
    }
    several = len(report.nodes) > 1

    assert checks == {
        (clean(node.name) if several else None, r.id, "ignored" if r.ignored else r.status.value)
        for node in report.nodes
        for r in node.results
    }
    assert {s.labels["status"]: s.value for s in families["gpudoctor_verdict"]} == {
        status.value: float(status is report.status) for status in Status
    }


# GitHub


def annotations(printed: str) -> list[tuple[str, dict[str, str], str]]:
    """Kind, properties and message of each workflow command, as the runner takes them."""
    found = []
    for line in printed.splitlines():
        if match := re.fullmatch(r"::(error|warning) (.*?)::(.*)", line):
            pairs = [pair.split("=", 1) for pair in match[2].split(",")]
            properties = {name: unquote(value) for name, value in pairs}
            found.append((match[1], properties, unquote(match[3])))
        else:
            assert line.startswith("gpudoctor: ")
            assert "::" not in line
            assert "##[" not in line
    return found


def test_github_gets_annotations_and_nothing_that_it_obeys(report, odd):
    for one in (report, odd):
        found = annotations(github.render(one, Page()))

        for kind in ("error", "warning"):
            assert sum(each == kind for each, _, _ in found) <= github.MOST
        for _, properties, message in found:
            assert set(properties) in ({"title"}, {"title", "file", "line"})
            assert message.replace("\n", "").isprintable()


def test_github_shows_every_finding_or_names_it(odd):
    *first, (_, properties, message) = annotations(github.render(odd, Page()))

    assert [p["title"] for _, p, _ in first] == [f"gpudoctor: env-{n}" for n in range(9)]
    assert properties["title"] == f"gpudoctor: {len(ODD) - 9} more"
    assert len(message.split("\n")) == len(ODD) - 9


def test_github_points_at_the_line(samples):
    [_, (kind, properties, message)] = annotations(github.render(samples["lint"], Page()))

    assert kind == "error"
    assert properties == {
        "file": "jobs/train, 50%.sh",
        "line": "4",
        "title": "gpudoctor: limits-memlock",
    }
    assert message.splitlines()[-1] == "docker run --ulimit memlock=-1:-1 IMAGE"


def test_github_cannot_point_into_stdin(samples):
    report = saying(samples["lint"], ["x"])
    [node] = report.nodes
    results = tuple(replace(result, place=Place("-", 1)) for result in node.results)

    printed = github.render(replace(report, nodes=(replace(node, results=results),)), Page())

    assert "file=" not in printed


# JUnit

OUTCOMES = {"fail": "failure", "error": "error", "skip": "skipped"}


def test_junit_is_xml_with_a_case_for_each_result(report, odd):
    for one in (report, odd):
        suites = ElementTree.fromstring(junit.render(one, Page()).encode())
        cases = suites.findall("testsuite/testcase")
        results = [result for node in one.nodes for result in node.results]
        checks = {(node.name, result.id) for node in one.nodes for result in node.results}

        assert [case.get("name") for case in cases] == [result.id for result in results]
        assert len({(c.get("classname"), c.get("name")) for c in cases}) == len(checks)
        for attribute, outcome in (
            *(("failures", "failure"), ("errors", "error")),
            *(("skipped", "skipped"), ("tests", None)),
        ):
            counted = [c for c in cases if outcome is None or c.find(outcome) is not None]
            suite = sum(int(each.get(attribute, "")) for each in suites)
            assert suite == len(counted)
            assert suites.get(attribute) in (None, str(suite))
        for case, result in zip(cases, results, strict=True):
            strict_warning = result.status is Status.WARN and one.run.strict
            outcome = "failure" if strict_warning else OUTCOMES.get(result.status.value)
            outcome = "skipped" if result.ignored else outcome
            ended = case.find(outcome) if outcome else None
            assert {child.tag for child in case} <= {outcome, "system-out"}
            assert (ended is None) == (outcome is None)
            if ended is not None:
                assert clean(result.summary or result.reason) in ended.get("message", "")


def test_junit_shows_a_warning_though_it_passes(samples):
    suites = ElementTree.fromstring(junit.render(samples["container"], Page()))
    [told] = [case for case in suites.iter("testcase") if case.find("system-out") is not None]

    assert told.get("name") == "shm-free"
    assert told.findtext("system-out", "").startswith("warning: 300 MiB in 2 files")
    assert "rm -f /dev/shm/torch_77_1_0" in told.findtext("system-out", "")


# SARIF


def test_sarif_has_what_code_scanning_asks_for(report, odd):
    for one in (report, odd):
        document = json.loads(sarif.render(one, Page()))
        [run] = document["runs"]
        rules = run["tool"]["driver"]["rules"]
        wanted = [r for r in one.results if r.status in (Status.FAIL, Status.WARN)]

        assert document["version"] == "2.1.0"
        assert len({rule["id"] for rule in rules}) == len(rules)
        assert all(rule["shortDescription"]["text"] for rule in rules)
        assert [found["ruleId"] for found in run["results"]] == [r.id for r in wanted]
        for found, result in zip(run["results"], wanted, strict=True):
            assert rules[found["ruleIndex"]]["id"] == found["ruleId"]
            assert found["level"] == ("error" if result.status is Status.FAIL else "warning")
            assert found["message"]["text"].startswith(clean(result.summary))
            [location] = found["locations"]
            assert ("physicalLocation" in location) == (result.place is not None)


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("jobs/train, 50%.sh", "jobs/train%2C%2050%25.sh"),
        ("/srv/a b.yaml", "file:///srv/a%20b.yaml"),
        ("\udcff.sh", "%FF.sh"),
    ],
)
def test_sarif_names_files_as_uris(samples, file, uri):
    report = saying(samples["lint"], ["x"])
    [node] = report.nodes
    [result] = node.results
    placed = replace(node, results=(replace(result, place=Place(file, 12)),))

    [run] = json.loads(sarif.render(replace(report, nodes=(placed,)), Page()))["runs"]

    [location] = run["results"][0]["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": uri},
        "region": {"startLine": 12},
    }


def test_sarif_keeps_what_is_ignored_apart(samples):
    report = samples["unknown"]

    [run] = json.loads(sarif.render(report, Page()))["runs"]

    suppressed = [found for found in run["results"] if "suppressions" in found]
    assert [found["ruleId"] for found in suppressed] == ["storage-space"]
    assert [
        note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]
    ] == [
        "not checked: gpu_driver: no answer in 5 s; its process 4181 (state D) cannot be killed",
        "not checked: ImportError: No module named 'site_rules'",
    ]
