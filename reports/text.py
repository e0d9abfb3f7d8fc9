"""For people, on a terminal or in a log."""

from collections.abc import Iterable, Sequence

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.hostlist import fold
from gpudoctor.report import Cluster, Page, Report, Result, SpelledFix, verdict
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
MOST_LINES = 60  # of a cluster, however many nodes it has; all with -v
MOST_GROUPS, MOST_BRIEF = 6, 5  # of nodes and of findings, where that would be more lines
MARK_WIDTH = len("? ERROR")
STOPS = "<-- stops here"
RUNG_WIDTH = len("✗ FAIL")


def render(report: Report, page: Page) -> str:
    """The report as plain lines; only lines to be pasted may be wider than the page."""
    if page.verbosity < -1:
        return ""
    text = _whole(report, page)
    if report.cluster and page.verbosity < 1 and text.count("\n") > MOST_LINES:
        return _brief(report, page)
    return text


def _whole(report: Report, page: Page) -> str:
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
    _exclude(sheet, report)
    if usual:
        _plan(sheet, report)
        _hints(sheet, report)
    return sheet.text()


def _brief(report: Report, page: Page) -> str:
    """A cluster in which much is wrong: a few lines of each finding, and not of all."""
    sheet = Sheet(page)
    usual = page.verbosity >= 0
    if usual:
        _header(sheet, report)
        _overview(sheet, report, MOST_GROUPS)
    groups: dict[tuple[str, Status], list[wording.Found]] = {}
    for finding in wording.found(report, Status.FAIL, Status.ERROR, Status.WARN):
        groups.setdefault((finding.result.id, finding.result.status), []).append(finding)
    for alike in list(groups.values())[:MOST_BRIEF]:
        _in_short(sheet, alike, report)
    left = [check_id for check_id, _ in list(groups)[MOST_BRIEF:]]
    sheet.gap()
    if left:
        text = f"{len(left)} more with -v: {', '.join(left)}"
        sheet.line((cut(sheet.words(text), page.width), BOLD))
    _verdict(sheet, report)
    _exclude(sheet, report, most=1)
    if usual:
        _hints(sheet, report)
    return sheet.text()


def _in_short(sheet: Sheet, findings: Sequence[wording.Found], report: Report) -> None:
    """One check, whatever it says on which node; in full the first that it says."""
    result = findings[0].result
    nodes = [name for finding in findings for name in finding.nodes]
    others = f" (and {len(findings) - 1} other values)" if len(findings) > 1 else ""
    mark, style = _mark(sheet, result.status)
    sheet.gap()
    who = f"who acts: {wording.WHO[result.owner]}"
    sheet.line((mark, style), (f" {result.id}", BOLD), right=(who, DIM))
    if nodes:
        label = "Node:" if len(nodes) == 1 else "Nodes:"
        sheet.line(("  ", ""), (label, BOLD), (f" {fold(nodes)}", ""))
    said = cut(sheet.words(result.summary or result.reason), sheet.page.width - 2 - len(others))
    sheet.line((f"  {said}{others}", ""))
    fixes = wording.fixes_for(result, report.run.launcher)
    for fix in fixes[:1]:
        lines = _lines(fix.commands)
        text = fix.text or (lines.pop(0) if len(lines) == 1 else "")
        lines = lines if len(lines) < MOST_FIX / 2 else [f"gpudoctor explain {result.id}"]
        sheet.line(("  ", ""), ("Fix:", BOLD), (f" {text}", ""))
        sheet.paste(lines, indent=6)


def _mark(sheet: Sheet, status: Status) -> Span:
    """The status as a mark and a word, equally wide with and without Unicode."""
    word = wording.WORD[status]
    text = f"{wording.MARK[status]} {word}" if sheet.page.unicode else f"[{word}]"
    return text, COLOR[status]


def _header(sheet: Sheet, report: Report) -> None:
    tool = f"{report.tool.name} {report.tool.version}"
    nodes = report.nodes
    several = f"{len(nodes)} {'launches' if wording.is_of_launches(report) else 'nodes'}"
    if report.cluster:
        several = _came(report.cluster, len(nodes))
    name = several if wording.spans_nodes(report) else "".join(node.name for node in nodes)
    sheet.pack([tool, name, f"profile {report.run.profile}"], "   ", style=BOLD)
    if len(nodes) == 1 and nodes[0].view and not report.cluster:
        sheet.say(f"view: {', '.join(nodes[0].view)}", style=DIM)
    sheet.gap()


def _came(cluster: Cluster, seen: int) -> str:
    """ "61 of 64 nodes"."""
    expected = getattr(cluster.facts.get("members"), "expected", None)
    return count_of(seen, "node") if expected in (None, seen) else f"{seen} of {expected} nodes"


def _overview(sheet: Sheet, report: Report, most_groups: int = 0) -> None:
    """One line per topic in which something was seen, or per node when there are several."""
    if not wording.spans_nodes(report):
        topics = wording.topics(report.nodes[0].results)
        groups = [(name, results, "") for name, results in topics.items()]
        groups = [group for group in groups if verdict(tuple(group[1])) is not Status.SKIP]
    else:
        groups = [(node.name, list(node.results), ", ".join(node.view)) for node in report.nodes]
        if report.cluster:
            asked = [group for group in groups if group[1]]  # else: only of all together
            groups = [("together", list(report.cluster.results), ""), *_alike(asked)]
    most = 2 * MOST_NAME if wording.is_of_launches(report) or report.cluster else MOST_NAME
    left = groups[most_groups:] if most_groups else []
    groups = groups[: len(groups) - len(left)]
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
    if left:
        sheet.line((f"  and {count_of(len(left), 'group')} of nodes more, with -v", ""))
    sheet.gap()


Group = tuple[str, list[Result], str]


def _alike(nodes: Iterable[Group]) -> list[Group]:
    """Nodes of which the same is to be said, those first that are worst off."""
    groups: dict[tuple[str, str, str], tuple[list[str], Group]] = {}
    for name, results, view in nodes:
        trouble = _trouble(results)
        key = (verdict(tuple(results)).value, trouble, "" if trouble else view)
        groups.setdefault(key, ([], (name, results, view)))[0].append(name)
    worst = [Status.FAIL, Status.ERROR, Status.WARN, Status.PASS, Status.SKIP]
    found = sorted(groups.items(), key=lambda item: worst.index(Status(item[0][0])))
    return [(fold(names), results, view) for _, (names, (_, results, view)) in found]


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
    if wording.spans_nodes(report) and nodes:
        label = "Node:" if len(nodes) == 1 else "Nodes:"
        names = fold(nodes) if report.cluster else wording.several(nodes)
        sheet.say(names, indent=2, label=label)


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
        on_all = len(entry.nodes) in (0, len(report.nodes))
        where = "" if on_all else f" ({wording.several(entry.nodes, 3)})"
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


def _exclude(sheet: Sheet, report: Report, most: int = 100) -> None:
    """How to do without the nodes at fault, if that takes no more lines."""
    if report.cluster and report.cluster.exclude:
        sheet.gap()
        names = cut(sheet.words(fold(report.cluster.exclude)), sheet.page.width - 16)
        sheet.line(("To go without: ", BOLD), (names, ""))
        for said in map(str.splitlines, report.cluster.exclude_lines.values()):
            sheet.paste(said if len(said) <= most else [], indent=6)


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
    if report.redaction.level != "none":
        sheet.say(wording.redaction(report.redaction))
    if told:
        sheet.paste([f"Explain one: gpudoctor explain {told[0].result.id}"])
    if wording.is_of_launches(report):
        sheet.paste(["All corrections at once: gpudoctor lint --diff FILE"] if told else [])
    else:
        again = "check --cluster" if report.cluster else "check"
        sheet.paste([f"Share it: gpudoctor {again} -o html=report.html"])


def _lines(commands: Iterable[str]) -> list[str]:
    return [line for command in commands for line in command.split("\n")]
