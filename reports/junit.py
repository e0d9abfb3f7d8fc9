"""For CI servers (GitLab, Jenkins, ...): JUnit's XML, a suite for each node."""

from xml.etree import ElementTree

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Node, Page, Report, Result
from gpudoctor.sheet import clean

CLUSTER = "cluster"  # the suite of what was judged over all nodes
# JUnit knows no warnings: one passes, and says so in its output.
OUTCOME = {Status.FAIL: "failure", Status.ERROR: "error", Status.SKIP: "skipped"}


def render(report: Report, page: Page) -> str:
    """One document; it begins with the XML declaration."""
    suites = ElementTree.Element("testsuites", {"name": "gpudoctor"})
    nodes = list(report.nodes)
    if report.cluster:
        nodes.append(Node(name=CLUSTER, results=report.cluster.results))
    for node in nodes:
        suites.append(_suite(node, report))
    for name in ("tests", "failures", "errors"):  # Jenkins wants no more of them here
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    suites.set("time", f"{report.run.seconds:.6f}")
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(node: Node, report: Report) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": clean(f"gpudoctor on {node.name}")})
    outcomes = [_outcome(result, report) for result in node.results]
    suite.attrib |= {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(result.seconds for result in node.results):.6f}",
        "timestamp": report.run.started.removesuffix("Z"),
        "hostname": clean(node.name),
    }
    for result, outcome in zip(node.results, outcomes, strict=True):
        suite.append(_case(result, outcome, node, report))
    return suite


def _outcome(result: Result, report: Report) -> str:
    """The element that says how it ended; empty: it passed."""
    if result.ignored:
        return "skipped"
    if result.status is Status.WARN and report.run.strict:
        return "failure"
    return OUTCOME.get(result.status, "")


def _case(result: Result, outcome: str, node: Node, report: Report) -> ElementTree.Element:
    # Servers tell cases apart by class and name alone, whatever the suite.
    where = f"{node.name}." if len(report.nodes) > 1 else ""
    attributes = {"classname": clean(f"{where}{result.topic}"), "name": clean(result.id)}
    if result.place:
        attributes |= {"file": clean(result.place.file), "line": str(result.place.line)}
    case = ElementTree.Element("testcase", attributes | {"time": f"{result.seconds:.6f}"})
    said = result.summary or result.reason
    if outcome:
        if result.ignored:
            said = f"ignored ({result.ignored.reason}): {said}"
        message = {"message": clean(said)}
        if outcome != "skipped":
            message["type"] = result.status.value
        ended = ElementTree.SubElement(case, outcome, message)
        ended.text = _text(_details(result, report)) if outcome == "failure" else None
    elif result.status is Status.WARN:
        lines = [f"warning: {said}", *_details(result, report)]
        ElementTree.SubElement(case, "system-out").text = _text(lines)
    return case


def _details(result: Result, report: Report) -> list[str]:
    later = [f"Later: {result.why}"] if result.why else []
    return [*result.evidence, *later, *wording.fix_lines(result, report.run.launcher)]


def _text(lines: list[str]) -> str:
    return "\n".join(map(clean, lines))
