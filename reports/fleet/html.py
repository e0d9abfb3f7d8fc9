"""For a browser: one page of any number of nodes. What matters is static; scripts only find."""

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from gpudoctor import fleet as fleets
from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.fleet import Fleet, saying
from gpudoctor.fleet.model import LETTER, Action, Cohort, Difference, FleetNode
from gpudoctor.report import Page, Report

from .. import drawings
from ..page import SCRIPTS, STYLES, island, templates
from .cluster import cluster_view

OWN_STYLES = (*STYLES, "report.css", "drawings.css", "fleet.css", "print.css")
OWN_SCRIPTS = (*SCRIPTS, "fleet.js")
ISLAND_BYTES = 3 << 20  # beyond it the page leaves out details of single nodes, and says so
REPORT_BYTES = 1 << 20  # a larger report does not stand in the page
# Table rows: with those of the drawings at most 300 before a click.
MOST_ACTIONS, MOST_PROBLEMS, MOST_DIFFERENCES, MOST_FIGURES = 24, 40, 40, 30
MOST_DRAWN = 4
MOST_NODES = 50  # of the static table, the worst first
ORDER = (Status.FAIL, Status.ERROR, Status.WARN, Status.SKIP, Status.PASS)


def render(fleet: Fleet, page: Page) -> str:
    """The whole page, the same whatever the terminal can show."""
    return _page(fleet, None)


def render_report(report: Report, page: Page) -> str:
    """The page of one report of several nodes, or of a cluster; the report itself is in it."""
    return _page(fleets.of_report(report), report)


def _page(fleet: Fleet, report: Report | None) -> str:
    whole = island(report) if report else Markup("{}")
    if len(whole) > REPORT_BYTES:
        report, whole = None, Markup("{}")
    data, left_out = _island(fleet)
    nodes = sorted(fleet.nodes, key=lambda node: (ORDER.index(node.status), -len(node.findings)))
    return (
        _templates()
        .get_template("fleet.html.j2")
        .render(
            fleet=fleet,
            actions=fleet.actions[:MOST_ACTIONS],
            problems=fleet.problems[:MOST_PROBLEMS],
            differences=_differences(fleet.cohorts),
            figures=[each for each in fleet.figures if not saying.flat(each)][:MOST_FIGURES],
            same=[each for each in fleet.figures if saying.flat(each)][:MOST_FIGURES],
            drawn=_drawn(fleet),
            nodes=nodes[:MOST_NODES],
            cluster=cluster_view(fleet),
            left_out=left_out,
            data=data,
            has_report=report is not None,
            island=whole,
            styles=OWN_STYLES,
            scripts=OWN_SCRIPTS,
        )
    )


@functools.cache
def _templates() -> jinja2.Environment:
    return templates(
        MOST_NODES=MOST_NODES,
        bar=drawings.bar,
        commands=_commands,
        cohort_name=cohort_name,
        fleet_tally=saying.tally,
        fleet_verdict=saying.verdict,
        fleet_verdict_word=saying.verdict_word,
        in_nodes=saying.nodes,
        problem_name=saying.name,
        quantity=saying.quantity,
        share_bar=drawings.share_bar,
        when=saying.when,
        who=saying.who,
    )


def cohort_name(name: str) -> str:
    """A cohort's name for people."""
    return name or "GPUs not known"


def _commands(action: Action) -> list[str]:
    return [each.command for each in action.commands]


def _differences(cohorts: Sequence[Cohort]) -> list[tuple[Cohort, list[Difference]]]:
    """Cohorts with what differs in them: all told not more than the page bears."""
    left, found = MOST_DIFFERENCES, []
    for cohort in cohorts:
        shown = [each for each in cohort.differ if each.usual][:left]
        shown += [each for each in cohort.differ if not each.usual][: max(0, left - len(shown))]
        left -= len(shown)
        if cohort.nodes.count > 1:  # one alone is like itself
            found.append((cohort, shown))
    return found[:MOST_DIFFERENCES]


def _drawn(fleet: Fleet) -> list[Markup]:
    """The figures that tell most, of the largest cohort that has them, drawn."""
    drawn: list[Markup] = []
    seen: set[str] = set()
    places = {key.key: place for place, key in enumerate(fleet.figure_keys)}
    for figure in fleet.figures:
        if figure.key in seen or saying.flat(figure) or figure.count < 5:
            continue
        seen.add(figure.key)
        cohort = next(n for n, each in enumerate(fleet.cohorts) if each.name == figure.cohort)
        told = [
            value
            for node in fleet.nodes
            if node.cohort == cohort and (value := node.figures[places[figure.key]]) is not None
        ]
        far = figure.low if figure.low_is_bad else figure.high
        drawn.append(
            drawings.distribution(
                figure.label,
                told,
                say=lambda value, unit=figure.unit: saying.quantity(value, unit),  # type: ignore[misc]
                named={far.node: far.value},
                note=f"{saying.nodes(figure.count)}, {cohort_name(figure.cohort)}",
            )
        )
        if len(drawn) == MOST_DRAWN:
            break
    return drawn


def _island(fleet: Fleet) -> tuple[Markup, list[str]]:
    """What the scripts find nodes in: numbers into lists of texts; what it lacks for its size."""
    left_out = []
    text = _json(_compact(fleet))
    if len(text) > ISLAND_BYTES:
        left_out.append("evidence and fixes of single nodes")
        text = _json(_compact(fleet, details=False))
    if len(text) > ISLAND_BYTES:
        left_out.append("what single nodes find, their figures and places")
        text = _json(_compact(fleet, details=False, findings=False))
    return Markup(text), left_out


def _json(document: Any) -> str:
    """JSON that may stand inside a script element, all in ASCII."""
    text = json.dumps(document, separators=(",", ":"))
    return re.sub(r"[<>&\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text)


class _Numbers(dict[Any, int]):
    """A number for each thing, in the order in which they come."""

    def __missing__(self, key: Any) -> int:
        self[key] = len(self)
        return self[key]


def _compact(fleet: Fleet, *, details: bool = True, findings: bool = True) -> dict[str, Any]:
    texts, found, words = _Numbers(), _Numbers(), _Numbers()
    nodes = [_row(node, found, words, findings=findings) for node in fleet.nodes]
    lines = [
        [
            finding.check,
            LETTER[finding.status],
            words[wording.WHO[finding.owner]],
            texts[finding.summary],
            [texts[line] for line in finding.evidence] if details else [],
            [texts[line] for line in finding.advice] if details else [],
            [texts[line] for line in finding.commands] if details else [],
        ]
        for finding in found
    ]
    return {
        "schema": "gpudoctor.fleet-page/1",
        "checks": [[about.id, about.title, about.why] for about in fleet.checks],
        "cohorts": [cohort_name(cohort.name) for cohort in fleet.cohorts],
        "results": fleet.results,
        "figures": [[key.label, key.unit] for key in fleet.figure_keys],
        "nodes": nodes,
        "findings": lines,
        "texts": [fleet.texts[number] for number in texts],
        "words": list(words),
    }


def _row(node: FleetNode, found: _Numbers, words: _Numbers, *, findings: bool) -> list[Any]:
    """A node: [name, verdict, cohort, results, started, findings, figures, unlike, place]."""
    row: list[Any] = [node.name, LETTER[node.status], node.cohort, node.results]
    row.append(words[node.started])
    if findings:
        row.append([found[finding] for finding in node.findings])
        row.append([None if value is None else _short(value) for value in node.figures])
        row.append([[words[trait], words[value]] for trait, value in node.unlike.items()])
        row.append([[words[key], words[value]] for key, value in node.place.items()])
        while row[-1] == []:
            row.pop()
    return row


def _short(value: float) -> float | int:
    """Five digits: more than anybody reads."""
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() else short
