"""For people, on a terminal or in a log."""

from collections.abc import Iterable, Sequence

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Page, Report, Result, SpelledFix, verdict
from gpudoctor.sheet import BOLD, DIM, Sheet, Span, columns, cut
from gpudoctor.units import count_of

COLOR = {
    Status.PASS: "32",
    Status.WARN: "33",
    Status.FAIL: "31",
    Status.SKIP: DIM,
    Status.ERROR: "35",
}
MOST_EVIDENCE = 3  # lines of one finding; all with -v
MOST_FIX = 5  # lines of one finding's fix; a longer one stands only in the merged plan
MOST_REASONS = 10  # lines of "not checked"; all with -v
MOST_NAME = 24  # columns of a topic or node in the overview
MARK_WIDTH = len("? ERROR")
STOPS = "<-- stops here"
RUNG_WIDTH = len("✗ FAIL")


def render(report: Report, page: Page) -> str:
    """The report as plain lines; only lines to be pasted may be wider than the page."""
    if page.verbosity < -1:
        return ""
    sheet = Sheet(page)
    usual = page.verbosity >= 0
    if usual:
        _header(sheet, report)
        _overview(sheet, report)
    for finding in wording.found(report, Status.FAIL, Status.WARN):
        _finding(sheet, finding, report)
    _errors(sheet, report)
    if page.verbosity > 0:
        _passed(sheet, report)
    if usual:
        _not_checked(sheet, report)
        _ignored(sheet, report)
        _remarks(sheet, report)
    _verdict(sheet, report)
    if usual:
        _plan(sheet, report)
        _hints(sheet, report)
    return sheet.text()


def _mark(sheet: Sheet, status: Status) -> Span:
    """The status as a mark and a word, equally wide with and without Unicode."""
    word = wording.WORD[status]
    text = f"{wording.MARK[status]} {word}" if sheet.page.unicode else f"[{word}]"
    return text, COLOR[status]


def _header(sheet: Sheet, report: Report) -> None:
    tool = f"{report.tool.name} {report.tool.version}"
    nodes = report.nodes
    several = f"{len(nodes)} {'launches' if wording.is_of_launches(report) else 'nodes'}"
    name = nodes[0].name if len(nodes) == 1 else several
    sheet.pack([tool, name, f"profile {report.run.profile}"], "   ", style=BOLD)
    if len(nodes) == 1 and nodes[0].view:
        sheet.say(f"view: {', '.join(nodes[0].view)}", style=DIM)
    sheet.gap()


def _overview(sheet: Sheet, report: Report) -> None:
    """One line per topic in which something was seen, or per node when there are several."""
    if len(report.nodes) == 1:
        topics = wording.topics(report.nodes[0].results)
        groups = [(name, results, "") for name, results in topics.items()]
        groups = [group for group in groups if verdict(tuple(group[1])) is not Status.SKIP]
    else:
        groups = [(node.name, list(node.results), ", ".join(node.view)) for node in report.nodes]
    most = 2 * MOST_NAME if wording.is_of_launches(report) else MOST_NAME
    wide = min(max((columns(sheet.words(name)) for name, _, _ in groups), default=0), most)
    for name, results, view in groups:
        mark, style = _mark(sheet, verdict(tuple(results)))
        name = cut(sheet.words(name), wide)
        seen = sum(r.status is not Status.SKIP and r.ignored is None for r in results)
        start = (
            " " * (MARK_WIDTH - len(mark)) + f"  {name}{' ' * (wide - columns(name))} {seen:3}   "
        )
        room = sheet.page.width - 2 - len(mark) - columns(start)
        gist = _trouble(results) or view or _state(results, room)
        sheet.line(("  ", ""), (mark, style), (start + gist, ""))
    sheet.gap()


def _trouble(results: Iterable[Result]) -> str:
    """How many of a group are not well, and which; empty when all are."""
    counted = [result for result in results if result.ignored is None]
    parts = []
    for status, noun, nouns in (
        (Status.FAIL, "failed", "failed"),
        (Status.ERROR, "error", "errors"),
        (Status.WARN, "warning", "warnings"),
    ):
        ids = [result.id for result in counted if result.status is status]
        if ids:
            parts.append(f"{count_of(len(ids), noun, nouns)}: {', '.join(ids)}")
    return "; ".join(parts)


def _state(results: Iterable[Result], room: int) -> str:
    """What was measured in a group that is well: as much of it as there is room for."""
    state = ""
    for result in results:
        if result.status is Status.PASS and result.summary and result.ignored is None:
            what = result.id.removeprefix(f"{result.topic}-")
            longer = f"{state}; {what}: {result.summary}".removeprefix("; ")
            state = longer if not state or columns(longer) <= room else state
    return state


def _finding(sheet: Sheet, finding: wording.Found, report: Report) -> None:
    result = finding.result
    mark, style = _mark(sheet, result.status)
    sheet.gap()
    who = f"who acts: {wording.WHO[result.owner]}"
    sheet.line((mark, style), (f" {result.id}", BOLD), right=(who, DIM))
    if result.place:
        sheet.say(f"{result.place.file}:{result.place.line}", indent=2, style=BOLD)
    else:
        _on(sheet, finding.nodes, report)
    sheet.say(result.summary, indent=2)
    _ladder(sheet, result)
    _evidence(sheet, result)
    if result.basis == "rule-of-thumb":
        sheet.say("(judged by a rule of thumb, not by a hard limit)", indent=4, style=DIM)
    if result.why:
        sheet.say(result.why, indent=2, label="Later:")
    fixes = wording.fixes_for(result, report.run.launcher)
    for fix in fixes:
        _fix(sheet, fix)
    if not fixes:
        sheet.paste([f"gpudoctor explain {result.id}"], indent=2)


def _on(sheet: Sheet, nodes: Sequence[str], report: Report) -> None:
    if len(report.nodes) > 1:
        label = "Node:" if len(nodes) == 1 else "Nodes:"
        sheet.say(wording.several(nodes), indent=2, label=label)


def _ladder(sheet: Sheet, result: Result) -> None:
    """How far it got, layer by layer, and where it stops."""
    wide = max((columns(sheet.words(rung.name)) for rung in result.ladder), default=0)
    stop = next((rung for rung in result.ladder if rung.status is Status.FAIL), None)
    for rung in result.ladder:
        mark, style = _mark(sheet, rung.status)
        name = sheet.words(rung.name)
        gap = " " * (RUNG_WIDTH - columns(mark))
        start = f"{gap} {name}{' ' * (wide - columns(name))}  "
        room = sheet.page.width - 4 - columns(mark + start) - columns(STOPS) - 2
        detail = cut(sheet.words(rung.detail), max(room, 8))
        here = (STOPS, BOLD) if rung is stop else ("", "")
        sheet.line(("    ", ""), (mark, style), (start + detail, ""), right=here)


def _evidence(sheet: Sheet, result: Result) -> None:
    lines = result.evidence
    most = len(lines) if sheet.page.verbosity > 0 else MOST_EVIDENCE
    for line in lines[:most]:
        sheet.say(line, indent=4, style=DIM)
    if len(lines) > most:
        sheet.say(f"({len(lines) - most} more with -v)", indent=4, style=DIM)


def _fix(sheet: Sheet, fix: SpelledFix) -> None:
    note, lines = wording.root_note(fix), _lines(fix.commands)
    label = f"Fix ({note}):" if note else "Fix:"
    if sheet.page.verbosity == 0 and len(lines) > MOST_FIX:
        sheet.say('merged with the others under "What to do"', indent=2, label=label)
    elif fix.text or len(lines) != 1:
        sheet.say(fix.text, indent=2, label=label)
        sheet.paste(lines, indent=6)
    else:
        sheet.paste([f"{label} {lines[0]}"], indent=2)


def _errors(sheet: Sheet, report: Report) -> None:
    """What could not be looked at, once for each cause."""
    for reason, errors in wording.causes(wording.found(report, Status.ERROR)).items():
        ids = list(dict.fromkeys(error.result.id for error in errors))
        nodes = list(dict.fromkeys(node for error in errors for node in error.nodes))
        mark, style = _mark(sheet, Status.ERROR)
        name = ids[0] if len(ids) == 1 else f"{len(ids)} checks"
        sheet.gap()
        sheet.line((mark, style), (f" {name}", BOLD), right=("could not be checked", DIM))
        _on(sheet, nodes, report)
        sheet.say(reason, indent=2)
        if len(ids) == 1:
            sheet.say(errors[0].result.title, indent=2, label="Not known whether:")
        else:
            sheet.say(", ".join(ids), indent=2, label="Not known:")
        for error in errors:
            _evidence(sheet, error.result)


def _passed(sheet: Sheet, report: Report) -> None:
    sheet.gap()
    for entry in wording.found(report, Status.PASS):
        sheet.line(_mark(sheet, Status.PASS), (f" {entry.result.id}", BOLD))
        _on(sheet, entry.nodes, report)
        sheet.say(entry.result.summary or entry.result.title, indent=2)
        _evidence(sheet, entry.result)


def _not_checked(sheet: Sheet, report: Report) -> None:
    skipped = wording.found(report, Status.SKIP)
    if not skipped:
        return
    reasons: dict[str, list[str]] = {}
    for entry in skipped:
        where = (
            f" ({wording.several(entry.nodes, 3)})" if len(entry.nodes) < len(report.nodes) else ""
        )
        reasons.setdefault(entry.result.reason, []).append(entry.result.id + where)
    most = len(reasons) if sheet.page.verbosity > 0 else MOST_REASONS
    if len(report.nodes) > 1 and skipped[0].result.place:
        most = most if sheet.page.verbosity > 0 else 0  # of launches, the same for most of them
    sheet.gap()
    sheet.say(f"Not checked ({report.counts['skip']})", style=BOLD)
    for reason, ids in list(reasons.items())[:most]:
        sheet.bullet(f"{', '.join(ids)}: {reason or 'no reason given'}")
    rest = sum(len(ids) for ids in list(reasons.values())[most:])
    if rest:
        sheet.bullet(f"{rest} more, shown with -v")


def _ignored(sheet: Sheet, report: Report) -> None:
    ignored = wording.found(report, Status.FAIL, Status.WARN, Status.ERROR, ignored=True)
    if not ignored:
        return
    sheet.gap()
    sheet.say(f"Ignored ({sum(len(entry.nodes) for entry in ignored)})", style=BOLD)
    for entry in ignored:
        result, why = entry.result, entry.result.ignored
        until = f" (until {why.expires})" if why and why.expires else ""
        text = f"{wording.WORD[result.status]} {result.id}, {result.summary or result.reason}"
        sheet.bullet(f"{text}: ignored because {why.reason if why else ''}{until}")


def _remarks(sheet: Sheet, report: Report) -> None:
    if report.run.remarks:
        sheet.gap()
        sheet.say("Remarks", style=BOLD)
        for remark in report.run.remarks:
            sheet.bullet(remark)


def _verdict(sheet: Sheet, report: Report) -> None:
    sheet.gap()
    style = COLOR[Status.ERROR if report.status is Status.SKIP else report.status]
    sheet.line(
        (wording.verdict_word(report), f"1;{style}"),
        (f"   {', '.join(wording.tally(report))}", ""),
        right=(wording.duration(report.run.seconds), DIM),
    )
    for remark in wording.verdict_remarks(report):
        sheet.say(remark)


def _plan(sheet: Sheet, report: Report) -> None:
    """What each owner does, in one go."""
    if not report.next_steps:
        return
    sheet.gap()
    sheet.say("What to do", style=BOLD)
    for (who, detail), steps in wording.by_who(report.next_steps).items():
        sheet.say(f"{who.capitalize()}{f' ({detail})' if detail else ''}:", indent=2, style=BOLD)
        for step in steps:
            if step.text:
                sheet.say(step.text, indent=4)
            sheet.paste(_lines([step.command] if step.command else []), indent=6)


def _hints(sheet: Sheet, report: Report) -> None:
    told = wording.found(report, Status.FAIL, Status.WARN)
    sheet.gap()
    if told:
        sheet.paste([f"Explain one: gpudoctor explain {told[0].result.id}"])
    if wording.is_of_launches(report):
        sheet.paste(["All corrections at once: gpudoctor lint --diff FILE"] if told else [])
    else:
        sheet.paste(["Share it: gpudoctor check -o html=report.html"])


def _lines(commands: Iterable[str]) -> list[str]:
    return [line for command in commands for line in command.split("\n")]
