"""For a browser, a printer or a ticket: one file that needs nothing beside it."""

import functools
from collections.abc import Iterable

import jinja2
from markupsafe import Markup
from msgspec import Struct

from gpudoctor import registry, wording
from gpudoctor.facts.all_reduce import AllReduce
from gpudoctor.facts.gpus import Gpus
from gpudoctor.facts.network import Network
from gpudoctor.facts.rdma import Rdma
from gpudoctor.finding import Status
from gpudoctor.launch import LAUNCHERS
from gpudoctor.report import Node, Page, Report, Result, SpelledFix, Step, verdict
from gpudoctor.units import count_of

from . import drawings
from .page import SCRIPTS, STYLES, anchor, island, templates, without_margins
from .page.devices import gpu_table, nics
from .page.glance import cards, packages, variables
from .page.reading import read, rows_of

MOST_SLOW = 8  # probes in the table of the slowest
OWN_STYLES = (*STYLES, "report.css", "drawings.css", "print.css")
OWN_SCRIPTS = (*SCRIPTS, "table.js", "tabs.js")
# What `wording.tally` counts: the class that colours it, and where the page tells more.
TALLIED = {
    "ok": ("pass", "checks"),
    "warning": ("warn", "findings"),
    "warnings": ("warn", "findings"),
    "failed": ("fail", "findings"),
    "error": ("error", "errors"),
    "errors": ("error", "errors"),
    "not checked": ("skip", "skipped"),
    "ignored": ("skip", "ignored"),
}


class Shown(Struct, frozen=True):
    """A finding and the fragment under which it is found on the page."""

    anchor: str
    result: Result
    nodes: tuple[str, ...]


class Task(Struct, frozen=True):
    """What one owner does, and the findings that it settles."""

    who: str
    detail: str
    steps: tuple[Step, ...]
    settles: tuple[Shown, ...]


def render(report: Report, page: Page) -> str:
    """The whole page, the same whatever the terminal can show."""
    if is_shown_as_fleet(report):
        from .fleet import html as fleet  # rarely asked for

        return fleet.render_report(report, page)
    findings = _shown(wording.found(report, Status.FAIL, Status.WARN))
    text = (
        _templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            said=_said(report),
            tallied=_tallied(report),
            findings=findings,
            causes=wording.causes(wording.found(report, Status.ERROR)),
            skipped=wording.causes(wording.found(report, Status.SKIP)),
            ignored=wording.found(report, Status.FAIL, Status.WARN, Status.ERROR, ignored=True),
            tasks=_tasks(report, findings),
            ticket=_ticket(report),
            island=island(report),
            styles=OWN_STYLES,
            scripts=OWN_SCRIPTS,
        )
    )
    return without_margins(text)


def is_shown_as_fleet(report: Report) -> bool:
    """Whether it is of several machines, which have a page of another kind."""
    several = len(report.nodes) > 1 or (report.cluster is not None and report.nodes)
    return bool(several) and not wording.is_of_launches(report)


@functools.cache
def _templates() -> jinja2.Environment:
    return templates(
        bar=drawings.bar,
        cards=cards,
        fixes=_fixes,
        gpu_table=gpu_table,
        is_of_launches=wording.is_of_launches,
        nics=nics,
        on_nodes=wording.on_nodes,
        packages=packages,
        pictures=_pictures,
        rows_of=rows_of,
        share_bar=drawings.share_bar,
        slowest=_slowest,
        variables=variables,
        verdict=verdict,
    )


def _said(report: Report) -> list[str]:
    """The verdict in sentences."""
    failed, warned = report.counts["fail"], report.counts["warn"]
    said = wording.verdict_remarks(report)
    if report.status is Status.FAIL:
        said.insert(0, f"A job started here will break: {count_of(failed, 'check')} failed.")
    elif report.status is Status.WARN:
        said.insert(0, f"A job can run here, with {count_of(warned, 'warning')} to know of.")
    elif report.status is Status.PASS:
        said.insert(0, "Nothing that was checked stands in the way of a job here.")
    return said


def _tallied(report: Report) -> list[tuple[str, str, str, str]]:
    """Each count: its number, its words, the class that colours it, where there is more."""
    parts = [part.split(" ", 1) for part in wording.tally(report)]
    return [(number, words, *TALLIED[words]) for number, words in parts]


def _shown(entries: Iterable[wording.Found]) -> list[Shown]:
    """Findings with a fragment each: the check's id, numbered where it comes again."""
    shown: list[Shown] = []
    taken: dict[str, int] = {}
    for entry in entries:
        name = anchor(entry.result.id)
        taken[name] = taken.get(name, 0) + 1
        fragment = name if taken[name] == 1 else f"{name}-{taken[name]}"
        shown.append(Shown(fragment, entry.result, entry.nodes))
    return shown


def _tasks(report: Report, findings: Iterable[Shown]) -> list[Task]:
    """The next steps by who acts, each with the findings that it settles."""
    groups = wording.by_who(report.next_steps)
    settles: dict[tuple[str, str], list[Shown]] = {key: [] for key in groups}
    for shown in findings:
        same_owner = [key for key, steps in groups.items() if _owns(steps, shown.result)]
        exact = [key for key in same_owner if any(_says(s, shown.result) for s in groups[key])]
        for key in (exact or same_owner)[:1]:
            settles[key].append(shown)
    return [
        Task(who, detail, tuple(steps), tuple(settles[who, detail]))
        for (who, detail), steps in groups.items()
    ]


def _owns(steps: Iterable[Step], result: Result) -> bool:
    return any(step.owner == result.owner for step in steps)


def _says(step: Step, result: Result) -> bool:
    """Whether a step has a command of one of the result's fixes."""
    return any(c in step.command for fix in result.fixes for c in fix.commands)


def _fixes(result: Result, launcher: str) -> dict[str, list[SpelledFix]]:
    """Fixes by launcher, those for the one detected first."""
    order = sorted(("any", *LAUNCHERS), key=lambda name: name not in (launcher, "any"))
    fixes = {name: [fix for fix in result.fixes if fix.launcher == name] for name in order}
    return {name: found for name, found in fixes.items() if found}


def _pictures(node: Node) -> list[Markup]:
    """What can be drawn of a node: how it is wired, and how fast it is."""
    gpus, network = read(node.facts, Gpus), read(node.facts, Network)
    drawn = [drawings.topology(gpus, read(node.facts, Rdma), network)]
    if measured := read(node.facts, AllReduce):
        about = [count_of(measured.ranks, "rank"), measured.library or measured.backend]
        if measured.transports:
            about.append(f"over {', '.join(measured.transports)}")
        drawn.append(
            drawings.sweep(measured.points, measured.again, note=", ".join(filter(None, about)))
        )
    return [one for one in drawn if one]


def _slowest(node: Node) -> list[tuple[str, float]]:
    probes = sorted(node.probes.items(), key=lambda item: -item[1])
    return [(name.replace("_", " "), seconds) for name, seconds in probes[:MOST_SLOW]]


def _ticket(report: Report) -> Markup | None:
    """The report as Markdown, to be copied into an issue."""
    if "markdown" not in registry.formats():
        return None
    return island(registry.report_format("markdown").render(report, Page()))
