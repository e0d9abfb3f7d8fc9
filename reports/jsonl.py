"""For programs that read along: one JSON object on each line, in the order of a run."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gpudoctor.report import Node, Page, Report
from gpudoctor.snapshot import encode

SCHEMA = "gpudoctor.events/1"


def render(report: Report, page: Page) -> str:
    """The events of a finished run; only a running one can tell what it is looking at."""
    return "".join(map(line, events(report)))


def line(event: dict[str, Any]) -> str:
    return encode(event).decode() + "\n"


def began(tool: Any, argv: Any, started: str) -> dict[str, Any]:
    """The first event."""
    return {"event": "run", "schema": SCHEMA, "tool": tool, "argv": argv, "started": started}


def fact(name: str, value: Any, node: str = "") -> dict[str, Any]:
    """What was found; `node` stands there only where there are several."""
    return {"event": "fact", "name": name, **_of(node), "fact": value}


def events(report: Report) -> Iterator[dict[str, Any]]:
    """All events in their order."""
    yield began(report.tool, report.run.argv, report.run.started)
    for node in report.nodes:
        yield from _of_node(node, node.name if len(report.nodes) > 1 else "")
    if report.cluster:
        for name, value in report.cluster.facts.items():
            yield {"event": "fact", "name": name, "of": "cluster", "fact": value}
        for result in report.cluster.results:
            yield {"event": "result", "of": "cluster", **msgspec.to_builtins(result)}
    rest = msgspec.to_builtins(report)
    cluster = rest["cluster"] and {
        key: value for key, value in rest["cluster"].items() if key not in ("facts", "results")
    }
    named = ("run", "status", "exit_code", "counts", "redaction", "next_steps")
    yield {"event": "end", **{name: rest[name] for name in named}, "cluster": cluster}


def _of_node(node: Node, name: str) -> Iterator[dict[str, Any]]:
    yield {"event": "node", "name": node.name, "view": node.view}
    for key, value in node.facts.items():
        yield fact(key, value, name)
    for result in node.results:
        yield {"event": "result", **_of(name), **msgspec.to_builtins(result)}


def _of(node: str) -> dict[str, str]:
    return {"node": node} if node else {}
