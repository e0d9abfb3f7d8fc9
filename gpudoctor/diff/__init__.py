"""What changed between two runs, or differs between two nodes."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

import gpudoctor
from gpudoctor.diff.facts import Change, changes, plain
from gpudoctor.diff.findings import Turn, explained, turns
from gpudoctor.report import Node, Report, Tool
from gpudoctor.snapshot import Fact

SCHEMA = "gpudoctor.diff/1"


class Given(Struct, frozen=True):
    """A file's name, the report in it, and the node that is meant."""

    file: str
    report: Report
    node: Node


class Side(Struct, frozen=True, kw_only=True):
    """One of the two: a node of a report."""

    file: str
    node: str
    started: str
    version: str
    profile: str
    view: tuple[str, ...] = ()
    redaction: str = "none"


class Difference(Struct, frozen=True, kw_only=True):
    """Findings and facts that are not alike, the most telling first.

    Attributes:
        same: there are none.
        findings: checks that ended otherwise.
        facts: what differs in them.
        remarks: what must be known to read it rightly.
    """

    schema: str = SCHEMA
    tool: Tool
    same: bool
    before: Side
    after: Side
    findings: tuple[Turn, ...] = ()
    facts: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()


def compare(
    before: Given,
    after: Given,
    *,
    needs: Mapping[str, Sequence[str]],
    kinds: Mapping[str, type[Fact]],
) -> Difference:
    """Tell two nodes apart.

    Args:
        before: one side.
        after: the other.
        needs: the facts that a check looks at, by its id.
        kinds: facts by name; of others nothing is known beforehand.
    """
    facts = plain(before.node.facts, kinds), plain(after.node.facts, kinds)
    same_node = before.node.name == after.node.name
    found = turns(before.node.results, after.node.results)
    results = {result.id: result for result in after.node.results}
    findings, changed = explained(found, changes(*facts, same_node=same_node), needs, results)
    return Difference(
        tool=Tool("gpudoctor", gpudoctor.__version__),
        same=not findings and not changed,
        before=_side(before),
        after=_side(after),
        findings=tuple(findings),
        facts=tuple(changed),
        remarks=tuple(_remarks(before, after)),
    )


def _side(given: Given) -> Side:
    report, node = given.report, given.node
    return Side(
        file=given.file,
        node=node.name,
        started=report.run.started,
        version=report.tool.version,
        profile=report.run.profile,
        view=node.view,
        redaction=report.redaction.level,
    )


def _remarks(before: Given, after: Given) -> Iterator[str]:
    first, second, was, now = before.report, after.report, before.node, after.node
    if first.tool.version != second.tool.version:
        yield (
            f"A is by version {first.tool.version}, B by {second.tool.version}: what checks find"
            " may differ with their rules"
        )
    if first.run.profile != second.run.profile:
        yield f"A was judged for profile {first.run.profile}, B for {second.run.profile}"
    if first.redaction.level != second.redaction.level:
        yield "names were taken out of only one, or more of one: they look changed"
    for letter, report in (("A", first), ("B", second)):
        if not report.run.complete:
            yield f"{letter} was interrupted: what is missing there is not known"
    for letter, here, there in (("A", was, now), ("B", now, was)):
        facts = sorted(str(name) for name in here.facts if name not in there.facts)
        ids = {result.id for result in here.results} - {result.id for result in there.results}
        if facts:
            yield f"looked at only in {letter}: {', '.join(facts)}"
        if ids:
            yield f"judged only in {letter}: {', '.join(sorted(ids))}"
