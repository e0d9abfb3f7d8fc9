"""For GitHub Actions: workflow commands, which become annotations of the run and its files."""

from collections.abc import Iterable

from msgspec import Struct

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Page, Place, Report, Result
from gpudoctor.sheet import clean

MOST = 10  # of a kind that GitHub shows of one step
STDIN = "-"


class Annotation(Struct, frozen=True):
    """`kind` is error or warning; GitHub shows the title in bold above the lines."""

    kind: str
    title: str
    lines: list[str]
    place: Place | None = None


def render(report: Report, page: Page) -> str:
    """A line for each annotation, and one with the verdict, which is plain text."""
    annotations = [*_findings(report), *_not_checked(report)]
    lines = [_command(annotation) for annotation in _at_most(annotations)]
    if page.verbosity >= 0:
        lines.append(
            f"gpudoctor: {wording.verdict_word(report)}: {', '.join(wording.tally(report))}"
        )
    return "".join(f"{line}\n" for line in lines)


def _findings(report: Report) -> Iterable[Annotation]:
    for entry in wording.found(report, Status.FAIL, Status.WARN):
        result = entry.result
        is_error = result.status is Status.FAIL or report.run.strict
        where = "" if result.place else wording.on_nodes(entry, report)
        said = f"{result.summary}{where}"
        lines = [said, *wording.fix_lines(result, report.run.launcher)]
        yield Annotation("error" if is_error else "warning", result.id, lines, result.place)


def _not_checked(report: Report) -> Iterable[Annotation]:
    """One for each reason: a driver that hangs blinds many checks."""
    for reason, entries in wording.causes(wording.found(report, Status.ERROR)).items():
        yield Annotation("warning", "not checked", [reason, _ids(e.result for e in entries)])


def _at_most(annotations: Iterable[Annotation]) -> list[Annotation]:
    """As many of a kind as will be shown; the last one names those that would not be."""
    shown = []
    kinds: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        kinds.setdefault(annotation.kind, []).append(annotation)
    for kind, found in kinds.items():
        room = MOST if len(found) <= MOST else MOST - 1
        shown += found[:room]
        if rest := found[room:]:
            lines = [f"{one.title}: {one.lines[0]}" for one in rest]
            shown.append(Annotation(kind, f"{len(rest)} more", lines))
    return shown


def _ids(results: Iterable[Result]) -> str:
    return ", ".join(dict.fromkeys(result.id for result in results))


def _command(annotation: Annotation) -> str:
    properties = {"title": f"gpudoctor: {annotation.title}"}
    place = annotation.place
    if place and place.file != STDIN:
        properties = {"file": place.file, "line": str(place.line), **properties}
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    text = "\n".join(map(clean, annotation.lines))
    return f"::{annotation.kind} {told}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(clean(text)).replace(":", "%3A").replace(",", "%2C")
