"""For people, on a terminal: at most 60 lines, however many nodes there are."""

from collections.abc import Mapping

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.fleet import Fleet, saying
from gpudoctor.fleet.model import Action, Cohort, Difference, Figure, Problem
from gpudoctor.report import Page
from gpudoctor.sheet import BOLD, DIM, Sheet, Span, cut
from gpudoctor.units import count_of

COLOR = {
    Status.PASS: "32",
    Status.WARN: "33",
    Status.FAIL: "31",
    Status.SKIP: DIM,
    Status.ERROR: "35",
}
MOST_LINES = 60
MOST = {"unread": 3, "problems": 6, "differ": 6, "figures": 5, "actions": 6}  # times three with -v
# What tells most about nodes, of what a plain run measures.
TELLING = ("busbw", "h2d", "matmul", "temperature", "shm_free", "clock_error", "disk_free")


def render(fleet: Fleet, page: Page) -> str:
    """The fleet as plain lines; only lines to be pasted may be wider than the page."""
    if page.verbosity < -1:
        return ""
    most = {what: number * (3 if page.verbosity > 0 else 1) for what, number in MOST.items()}
    text = _lines(fleet, page, most)
    while page.verbosity <= 0 and text.count("\n") > MOST_LINES and max(most.values()) > 1:
        most = {what: max(1, number - 1) for what, number in most.items()}
        text = _lines(fleet, page, most)
    return text


def _lines(fleet: Fleet, page: Page, most: Mapping[str, int]) -> str:
    sheet = Sheet(page)
    usual = page.verbosity >= 0
    if usual:
        _header(sheet, fleet)
        _attendance(sheet, fleet, most["unread"])
    _problems(sheet, fleet, most["problems"])
    if usual:
        _differ(sheet, fleet, most["differ"])
        _figures(sheet, fleet, most["figures"])
        _actions(sheet, fleet, most["actions"])
    _verdict(sheet, fleet)
    return sheet.text()


def _header(sheet: Sheet, fleet: Fleet) -> None:
    tool = f"{fleet.tool.name} {fleet.tool.version}"
    sheet.pack([tool, saying.nodes(len(fleet.nodes)), saying.when(fleet)], "   ", style=BOLD)
    if fleet.redaction.level != "none":
        sheet.say(f"redaction: {fleet.redaction.level}", style=DIM)
    sheet.gap()


def _attendance(sheet: Sheet, fleet: Fleet, most: int) -> None:
    """Who is missing, and what could not be read."""
    if fleet.missing.count:
        _row(sheet, f"Missing {fleet.missing.count} of {fleet.expected}:", fleet.missing.names)
    if fleet.unexpected.count:
        _row(sheet, f"Not expected ({fleet.unexpected.count}):", fleet.unexpected.names)
    if fleet.repeated.count:
        _row(sheet, f"The latest counts of {fleet.repeated.count}:", fleet.repeated.names)
    if fleet.interrupted.count:
        _row(sheet, f"Interrupted ({fleet.interrupted.count}):", fleet.interrupted.names)
    for each in fleet.unread[:most]:
        _row(sheet, f"Not read ({each.count}):", f"{each.reason}; {', '.join(each.files)}")
    if rest := sum(each.count for each in fleet.unread[most:]):
        _row(sheet, "Not read:", f"{count_of(rest, 'more report')}")
    sheet.gap()


def _row(sheet: Sheet, label: str, text: str, indent: int = 0) -> None:
    sheet.line((" " * indent, ""), (label, BOLD), (f" {text}", ""))


def _mark(sheet: Sheet, status: Status) -> Span:
    word = wording.WORD[status]
    text = f"{wording.MARK[status]} {word}" if sheet.page.unicode else f"[{word}]"
    return text, COLOR[status]


def _problems(sheet: Sheet, fleet: Fleet, most: int) -> None:
    for problem in fleet.problems[:most]:
        _problem(sheet, problem)
    if rest := fleet.problems[most:]:
        names = ", ".join(f"{saying.name(p)} ({p.nodes.count})" for p in rest)
        sheet.line((f"  and {count_of(len(rest), 'more kind')}: {names}", DIM))
    sheet.gap()


def _problem(sheet: Sheet, problem: Problem) -> None:
    acts = f"who acts: {wording.WHO[problem.owner]}"
    sheet.line(
        _mark(sheet, problem.status),
        (f" {saying.name(problem)}", BOLD),
        (f"  {saying.nodes(problem.nodes)}", ""),
        right=(acts, DIM),
    )
    said = problem.said[0]
    others = f" (and {problem.more + len(problem.said) - 1} other wordings)"
    sheet.line((f"    {said.summary}{others if len(problem.said) > 1 else ''}", ""))
    pattern = saying.where(problem)
    sheet.line(("    ", ""), (f"{pattern}: " if pattern else "", BOLD), (problem.nodes.names, DIM))


def _differ(sheet: Sheet, fleet: Fleet, most: int) -> None:
    """Outliers against a majority; of a tie nobody can say who is right."""
    found = [
        (cohort, difference)
        for cohort in fleet.cohorts
        for difference in cohort.differ
        if difference.usual
    ]
    found.sort(key=lambda each: each[1].matters == "said")
    if not found:
        return
    sheet.say("Unlike the others", style=BOLD)
    for cohort, difference in found[:most]:
        _difference(sheet, cohort, difference)
    if rest := found[most:]:
        sheet.line((f"  and {count_of(len(rest), 'more difference')}", DIM))
    sheet.gap()


def _difference(sheet: Sheet, cohort: Cohort, difference: Difference) -> None:
    other = difference.others[0]
    more = f" and {count_of(len(difference.others) - 1, 'other value')}"
    words = f"{difference.trait}: {other.value}{more if len(difference.others) > 1 else ''}"
    usual = f" on {other.nodes.names}, not {difference.usual} as on {difference.count}"
    sheet.line((f"  {words}", ""), (usual if len(usual) < 60 else "", DIM))
    if len(usual) >= 60:
        sheet.line(
            (f"    not {difference.usual} as on {difference.count}: {other.nodes.names}", DIM)
        )


def _figures(sheet: Sheet, fleet: Fleet, most: int) -> None:
    largest = fleet.cohorts[0].name if fleet.cohorts else ""
    found = [f for f in fleet.figures if f.key in TELLING and f.cohort == largest]
    found = [figure for figure in found if not saying.flat(figure)]
    if not found:
        return
    label = cut(f"Figures, {largest}" if largest else "Figures", 29)
    sheet.line((f"{label:30}{'p1':>10}{'p50':>11}{'p99':>11}  farthest", BOLD))
    for figure in found[:most]:
        _figure(sheet, figure)
    sheet.gap()


def _figure(sheet: Sheet, figure: Figure) -> None:
    far = figure.low if figure.low_is_bad else figure.high
    p1, p50, p99 = (saying.quantity(v, figure.unit) for v in (figure.p1, figure.p50, figure.p99))
    label = cut(figure.label, 29)
    value = saying.quantity(far.value, figure.unit)
    sheet.line((f"{label:30}{p1:>10}{p50:>11}{p99:>11}  {value} {far.node}", ""))


def _actions(sheet: Sheet, fleet: Fleet, most: int) -> None:
    if not fleet.actions:
        return
    sheet.say("What to do", style=BOLD)
    for action in sorted(fleet.actions, key=lambda each: -each.nodes.count)[:most]:
        _action(sheet, action)
    rest = len(fleet.actions) - most
    if rest > 0:
        sheet.line((f"  and {count_of(rest, 'more step')}, in -f html and -f json", DIM))
    sheet.gap()


def _action(sheet: Sheet, action: Action) -> None:
    start = f"{saying.who(action).capitalize()}, {saying.nodes(action.nodes)}:"
    sheet.line(("  ", ""), (start, BOLD), (f" {action.text}", ""))
    if action.commands and "\n" not in action.commands[0].command:
        first, more = action.commands[0], len(action.commands) - 1 + action.more
        sheet.line((f"      {first.command}{f'  (and {more} more)' if more else ''}", ""))


def _verdict(sheet: Sheet, fleet: Fleet) -> None:
    style = COLOR[Status.ERROR if fleet.status is Status.SKIP else fleet.status]
    tally = ", ".join(words for _, words in saying.tally(fleet))
    sheet.line((saying.verdict_word(fleet), f"1;{style}"), (f"   {tally}", ""))
    for sentence in saying.verdict(fleet):
        sheet.say(sentence)
    if fleet.exclude.count:
        sheet.say(f"To do without {saying.nodes(fleet.exclude)}:")
        for line in fleet.exclude_lines.values():
            long = len(line) > saying.LONG
            sheet.paste(
                ["gpudoctor report IN... -f json | jq .exclude"] if long else [line], indent=2
            )
