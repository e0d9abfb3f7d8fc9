"""For people, on a terminal or in a log: what got worse and why, first of all."""

from gpudoctor import registry
from gpudoctor.diff import Difference
from gpudoctor.diff.facts import Change
from gpudoctor.diff.findings import Turn
from gpudoctor.diff.wording import about, because, by_reason, of_kind, rest, tally, word
from gpudoctor.finding import Status
from gpudoctor.report import Page
from gpudoctor.sheet import BOLD, DIM, Sheet
from gpudoctor.units import count_of
from gpudoctor.wording import MARK, several

MOST_BECAUSE = 5  # facts told of one finding; all with -v
MOST_REST = 20  # lines under a heading; all with -v
MOST_REASONS = 5
MOST_IDS = 4
MOST_NAME = 30  # columns of a file's name in the first line


def render(difference: Difference, page: Page) -> str:
    """The difference as plain lines."""
    if page.verbosity < -1:
        return ""
    sheet = Sheet(page)
    _header(sheet, difference)
    worse, better = (of_kind(difference, kind) for kind in ("worse", "better"))
    unknown = [t for t in worse if t.after and t.after.status is Status.ERROR and not t.because]
    for turn in [*worse, *better]:
        if turn not in unknown:
            _finding(sheet, difference, turn)
    _unknown(sheet, unknown)
    for heading, changes in rest(difference).items():
        sheet.gap()
        sheet.say(heading, style=BOLD)
        _facts(sheet, changes, 2, MOST_REST)
    _sides(sheet, "Not checked any more", of_kind(difference, "unchecked"))
    _sides(sheet, "Checked now", of_kind(difference, "checked"))
    if difference.remarks:
        sheet.gap()
        sheet.say("Remarks", style=BOLD)
        for remark in difference.remarks:
            sheet.bullet(remark)
    sheet.gap()
    sheet.say(", ".join(tally(difference)).capitalize(), style=BOLD)
    if page.verbosity >= 0:
        for letter, side in (("A", difference.before), ("B", difference.after)):
            sheet.say(about(side), indent=2, label=f"{letter}:", style=DIM)
    return sheet.text()


def _header(sheet: Sheet, difference: Difference) -> None:
    names = [_short(side.file) for side in (difference.before, difference.after)]
    if difference.before.node != difference.after.node:
        names = [side.node[:MOST_NAME] for side in (difference.before, difference.after)]
    sheet.line((f"gpudoctor diff   {names[0]} -> {names[1]}", BOLD))
    sheet.gap()


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else f"...{name[3 - MOST_NAME :]}"


def _finding(sheet: Sheet, difference: Difference, turn: Turn) -> None:
    after = turn.after
    status = after.status if after else Status.SKIP
    color = registry.report_format("text").COLOR[status]
    mark = f"{MARK[status]} {word(after)}" if sheet.page.unicode else f"[{word(after)}]"
    said = f": {after.said}" if after and after.said else ""
    head = f" {turn.id} "
    was = f"(was {word(turn.before)})"
    if sheet.page.verbosity > 0:
        sheet.line((mark, color), (head, BOLD), (was, DIM))
        sheet.say(said.removeprefix(": "), indent=2)
    else:
        sheet.line((mark, color), (head, BOLD), (was, DIM), (said, ""))
    _facts(sheet, because(difference, turn), 4, MOST_BECAUSE)


def _facts(sheet: Sheet, changes: list[Change], indent: int, most: int) -> None:
    shown = changes if sheet.page.verbosity > 0 else changes[:most]
    for change in shown:
        sheet.say(change.text, indent=indent)
    if len(shown) < len(changes):
        sheet.say(f"({len(changes) - len(shown)} more with -v)", indent=indent, style=DIM)


def _unknown(sheet: Sheet, turns: list[Turn]) -> None:
    """What can no longer be looked at, once for each cause."""
    color = registry.report_format("text").COLOR[Status.ERROR]
    for reason, some in by_reason(turns).items():
        mark = f"{MARK[Status.ERROR]} ERROR" if sheet.page.unicode else "[ERROR]"
        sheet.line((mark, color), (f" {_ids(sheet, some)}", BOLD))
        sheet.say(reason, indent=4)


def _sides(sheet: Sheet, heading: str, turns: list[Turn]) -> None:
    """Checks that only one side could be asked, by what is said now."""
    if not turns:
        return
    sheet.gap()
    sheet.say(f"{heading} ({len(turns)})", style=BOLD)
    reasons = by_reason(turns) if turns[0].kind == "unchecked" else {"": turns}
    most = len(reasons) if sheet.page.verbosity > 0 else MOST_REASONS
    for reason, some in list(reasons.items())[:most]:
        sheet.bullet(f"{_ids(sheet, some)}{f': {reason}' if reason else ''}")
    if len(reasons) > most:
        sheet.bullet(f"{count_of(len(reasons) - most, 'more reason')}, shown with -v")


def _ids(sheet: Sheet, turns: list[Turn]) -> str:
    most = len(turns) if sheet.page.verbosity > 0 else MOST_IDS
    return several([turn.id for turn in turns], most)
