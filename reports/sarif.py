"""For code scanning: SARIF 2.1.0, made for what `lint` finds in files."""

from typing import Any
from urllib.parse import quote

import msgspec

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.hostlist import fold
from gpudoctor.report import Page, Report, Result
from gpudoctor.sheet import clean

VERSION = "2.1.0"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVEL = {Status.FAIL: "error", Status.WARN: "warning"}


def render(report: Report, page: Page) -> str:
    """One document with one run."""
    found = [
        (node.name, result)
        for node in report.nodes
        for result in node.results
        if result.status in LEVEL
    ]
    if report.cluster:
        results = [result for result in report.cluster.results if result.status in LEVEL]
        found += [(fold(result.nodes) or "cluster", result) for result in results]
    rules = {result.id: _rule(result) for _, result in found}
    places = {identity: number for number, identity in enumerate(rules)}
    driver = {
        "name": report.tool.name,
        "semanticVersion": report.tool.version,
        "rules": list(rules.values()),
    }
    document = {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "invocations": [_invocation(report)],
                "results": [
                    {"ruleIndex": places[result.id], **_result(result, node, report)}
                    for node, result in found
                ],
            }
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _rule(result: Result) -> dict[str, Any]:
    why = clean(result.why or result.title)
    return {
        "id": clean(result.id),
        "shortDescription": {"text": clean(result.title)},
        "fullDescription": {"text": why},
        "help": {"text": f"{why} gpudoctor explain {clean(result.id)} says more."},
        "properties": {"tags": sorted({clean(result.topic), result.owner})},
    }


def _result(result: Result, node: str, report: Report) -> dict[str, Any]:
    lines = [result.summary, *wording.fix_lines(result, report.run.launcher)]
    found: dict[str, Any] = {
        "ruleId": clean(result.id),
        "level": LEVEL[result.status],
        "message": {"text": "\n".join(map(clean, lines))},
        "locations": [_location(result, node)],
    }
    if result.ignored:
        reason = clean(result.ignored.reason)
        found["suppressions"] = [{"kind": "external", "justification": reason}]
    return found


def _location(result: Result, node: str) -> dict[str, Any]:
    """A line of a file; what was found on a machine has only the machine's name."""
    logical = [{"name": clean(node), "kind": "resource"}]
    if result.place is None:
        return {"logicalLocations": logical}
    place = result.place
    uri = quote(place.file.encode("utf-8", "surrogateescape"))
    artifact = {"uri": f"file://{uri}" if uri.startswith("/") else uri}
    return {
        "physicalLocation": {"artifactLocation": artifact, "region": {"startLine": place.line}},
        "logicalLocations": logical,
    }


def _invocation(report: Report) -> dict[str, Any]:
    """That it ran to its end, and what it could not look at."""
    causes = wording.causes(wording.found(report, Status.ERROR))
    return {
        "executionSuccessful": report.run.complete,
        "exitCode": report.exit_code,
        "startTimeUtc": report.run.started,
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": clean(f"not checked: {reason}")}}
            for reason in causes
        ],
    }
