"""For a browser, a printer or a ticket: one file that needs nothing beside it."""

import base64
import functools
import hashlib
import json
import pkgutil
import re
from collections.abc import Iterable
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup
from msgspec import Struct

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.launch import LAUNCHERS
from gpudoctor.report import Node, Page, Report, Result, SpelledFix, verdict
from gpudoctor.sheet import clean
from gpudoctor.units import count_of, size

MOST_SLOW = 8  # probes in the table of the slowest
MOST_ITEMS = 20  # of a list in a fact; all are in the JSON
BASIS = {
    "vendor": "the vendor's documentation",
    "measured": "a measurement",
    "rule-of-thumb": "a rule of thumb, not a hard limit",
    "site": "this site's configuration",
}


class Shown(Struct, frozen=True):
    """A finding and the fragment under which it is found on the page."""

    anchor: str
    result: Result
    nodes: tuple[str, ...]


def render(report: Report, page: Page) -> str:
    """The whole page, the same whatever the terminal can show."""
    names: dict[str, int] = {}
    template = _templates().get_template("report.html.j2")
    return template.render(
        report=report,
        said=_said(report),
        findings=_shown(wording.found(report, Status.FAIL, Status.WARN), names),
        causes=wording.causes(wording.found(report, Status.ERROR)),
        skipped=wording.causes(wording.found(report, Status.SKIP)),
        ignored=wording.found(report, Status.FAIL, Status.WARN, Status.ERROR, ignored=True),
        plan=wording.by_who(report.next_steps),
        island=_island(report),
    )


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gpudoctor.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        BASIS=BASIS,
        MARK=wording.MARK,
        WHERE=wording.WHERE,
        WHO=wording.WHO,
        WORD=wording.WORD,
        asset=_asset,
        facts=_facts,
        fixes=_fixes,
        glance=_glance,
        hash_of=_hash_of,
        root_note=wording.root_note,
        several=wording.several,
        slowest=_slowest,
        tally=wording.tally,
        verdict=verdict,
        verdict_word=wording.verdict_word,
    )
    environment.filters.update(duration=wording.duration, spoken=_spoken)
    return environment


def _visible(value: Any) -> Any:
    """Whatever a template prints, without characters that a browser would obey."""
    return clean(value) if type(value) is str else value


def _asset(name: str) -> Markup:
    """A style sheet or script of ours, to stand inline."""
    return Markup((pkgutil.get_data("gpudoctor.reports.templates", name) or b"").decode())


def _hash_of(name: str) -> str:
    """What the content security policy says of an inlined file."""
    digest = hashlib.sha256(_asset(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _island(report: Report) -> Markup:
    """The report as JSON that may stand inside a script element, all in ASCII."""
    text = json.dumps(msgspec.to_builtins(report), separators=(",", ":"))
    return Markup(re.sub(r"[<>&\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text))


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


def _shown(entries: Iterable[wording.Found], names: dict[str, int]) -> list[Shown]:
    """Findings with a fragment each: the check's id, numbered where it comes again."""
    shown = []
    for entry in entries:
        name = re.sub(r"[^a-z0-9-]", "-", entry.result.id.lower())
        names[name] = names.get(name, 0) + 1
        anchor = name if names[name] == 1 else f"{name}-{names[name]}"
        shown.append(Shown(anchor, entry.result, entry.nodes))
    return shown


def _fixes(result: Result, launcher: str) -> dict[str, list[SpelledFix]]:
    """Fixes by launcher, those for the one detected first."""
    order = sorted(("any", *LAUNCHERS), key=lambda name: name not in (launcher, "any"))
    fixes = {name: [fix for fix in result.fixes if fix.launcher == name] for name in order}
    return {name: found for name, found in fixes.items() if found}


def _spoken(pattern: str) -> str:
    """A pattern of a later error, as somebody would read it out."""
    text = re.sub(r"\(\?[a-z]+\)|\\b|^\^|(?<!\\)\$$", "", pattern).replace("(?:", "(")
    text = re.sub(r"(\\[dDsSwW]|(?<!\\)\[[^\]]*\]|(?<!\\)\.(?=[*+]))([*+]\??)?", "…", text)
    return re.sub(r"\\(.)", r"\1", text)


def _slowest(node: Node) -> list[tuple[str, float]]:
    probes = sorted(node.probes.items(), key=lambda item: -item[1])
    return [(name.replace("_", " "), seconds) for name, seconds in probes[:MOST_SLOW]]


def _facts(node: Node) -> dict[str, list[tuple[str, list[str]]]]:
    """Every fact as rows of a name and its lines."""
    facts = {}
    for name, fact in msgspec.to_builtins(node.facts).items():
        fields = fact if isinstance(fact, dict) else {"value": fact}
        if "absent" in fields:
            fields = {"looking failed" if fields.get("broken") else "not there": fields["absent"]}
        rows = [(key.replace("_", " "), _lines(key, value)) for key, value in fields.items()]
        facts[name.replace("_", " ")] = [(key, lines) for key, lines in rows if lines]
    return facts


def _lines(name: str, value: Any) -> list[str]:
    """A field of a fact, one line for each item; none when there is nothing to say."""
    if isinstance(value, list):
        lines = [_words(name, item) for item in value[:MOST_ITEMS]]
        return lines + [f"and {len(value) - MOST_ITEMS} more"] * (len(value) > MOST_ITEMS)
    if isinstance(value, dict):
        return _lines("", [f"{key}: {_words(key, item)}" for key, item in value.items()])
    return [] if value is None or value == "" else [_words(name, value)]


def _words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name.endswith("_bytes") or name == "bytes"):
        return size(value)
    if isinstance(value, dict):
        said = [(key, _words(key, item)) for key, item in value.items() if item not in (None, "")]
        return ", ".join(f"{key.replace('_', ' ')} {words}" for key, words in said)
    if isinstance(value, list):
        return ", ".join(_words(name, item) for item in value)
    return "none" if value is None else str(value)


def _glance(node: Node) -> list[tuple[str, str]]:
    """The facts that a reader asks for first."""
    facts: dict[str, Any] = msgspec.to_builtins(node.facts)

    def get(fact: str, field: str) -> Any:
        return (facts.get(fact) or {}).get(field)

    memory, cpus = get("system", "memory_bytes"), get("system", "cpus")
    usable, python = get("system", "cpus_usable"), get("job_python", "path")
    ranks, nodes = get("workload", "local_ranks"), get("workload", "nodes") or 1
    shm = get("shm", "total_bytes")
    rows = [
        ("Seen from", ", ".join(node.view)),
        ("System", get("system", "distribution")),
        ("Kernel", get("system", "kernel")),
        ("CPUs", cpus and f"{usable} usable of {cpus}"),
        ("Memory", memory and size(memory)),
        ("/dev/shm", shm and size(shm)),
        ("Job's Python", python and f"{python}, chosen by {get('job_python', 'chosen_by')}"),
        ("Job", ranks and f"{count_of(ranks, 'rank')} here, {count_of(nodes, 'node')}"),
    ]
    return [(name, str(value)) for name, value in rows if value]
