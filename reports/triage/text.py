"""For people: the first cause, its fix, and in short what followed from it."""

from collections.abc import Iterable, Sequence

from gpudoctor import registry, wording
from gpudoctor.hostlist import fold, ranges
from gpudoctor.report import Page
from gpudoctor.sheet import BOLD, DIM, Sheet
from gpudoctor.triage.document import Nccl, Sighting, Spot, Triage
from gpudoctor.triage.look import UNKNOWN
from gpudoctor.triage.lookup import commands
from gpudoctor.units import count_of, size

HEADS = {
    "cause": ("FIRST CAUSE", "✗", "31"),
    "symptom": ("FIRST SYMPTOM", "!", "33"),
    "report": ("FIRST REPORT", "!", "33"),
}
MOST_OTHERS = 8  # all with -v
MOST_LINES = 3  # of a log, as wide as the page; all with -v


def render(triage: Triage, page: Page) -> str:
    """Plain lines; only lines to be pasted may be wider than the page."""
    if page.verbosity < -1:
        return ""
    sheet = Sheet(page)
    usual = page.verbosity >= 0
    if usual:
        _header(sheet, triage)
    if triage.first:
        _first(sheet, triage, triage.first)
    if usual:
        _blamed(sheet, triage)
        _others(sheet, triage)
        _notes(sheet, triage)
        _nccl(sheet, triage)
        _unread(sheet, triage)
    _verdict(sheet, triage)
    text = sheet.text()
    if triage.report:
        text += f"\n{registry.report_format('text').render(triage.report, page)}"
    return text


def _header(sheet: Sheet, triage: Triage) -> None:
    logs = triage.logs
    names = logs[0].name if len(logs) == 1 else count_of(len(logs), "log")
    lines = sum(log.lines for log in logs)
    amount = f"{count_of(lines, 'line')}, {size(sum(log.bytes for log in logs))}"
    words = f"fixes for {wording.WHERE[triage.launcher]}"
    sheet.pack([f"{triage.tool.name} triage", names, amount, words], "   ", style=BOLD)


def _first(sheet: Sheet, triage: Triage, first: Sighting) -> None:
    head, mark, color = HEADS[first.role]
    sheet.gap()
    who = f"who acts: {wording.WHO[first.owner]}"
    mark = mark if sheet.page.unicode else "[!]"
    sheet.line((f"{mark} {head}", f"1;{color}"), (f" {first.rule}", BOLD), right=(who, DIM))
    sheet.say(first.means, indent=2)
    sheet.say(_where(first), indent=2, label="Where:")
    _quote(sheet, first.first)
    if triage.only_report:
        only = "only reports it" if len(triage.only_report) == 1 else "only report it"
        sheet.say(f"{_ranks(triage.only_report)} {only}", indent=2)
    if first.why:
        sheet.say(first.why, indent=2, label="Why:")
    for fix in first.fixes:
        note = wording.root_note(fix)
        sheet.say(fix.text, indent=2, label=f"Fix ({note}):" if note else "Fix:")
        sheet.paste(_lines(fix.commands), indent=6)
    if first.checks:
        sheet.paste(_labelled("Would have been seen by:", first.checks), indent=2)


def _where(one: Sighting) -> str:
    spot = one.first
    parts = [f"{spot.file}:{spot.line}", _who(one), spot.time]
    parts += [f"{one.count} lines"] if one.count > 1 else []
    return ", ".join(filter(None, parts))


def _who(one: Sighting) -> str:
    spot = one.first
    rank = f"rank {spot.rank}" if spot.rank is not None else ""
    host = f"on {spot.host}" if spot.host else ""
    return " ".join(filter(None, (rank, host)))


def _quote(sheet: Sheet, spot: Spot) -> None:
    most = len(spot.text) if sheet.page.verbosity > 0 else MOST_LINES * (sheet.page.width - 4)
    text = spot.text if len(spot.text) <= most else f"{spot.text[: most - 3]}..."
    sheet.say(text, indent=4, style=DIM)


def _blamed(sheet: Sheet, triage: Triage) -> None:
    sheet.gap()
    if triage.found in ("symptom", "report") and triage.first and triage.first.rule != UNKNOWN.id:
        sheet.say(_look_at(triage))
    blamed = triage.blamed
    if blamed is not None:
        host = f" on {blamed.host}" if blamed.host not in ("", "localhost") else ""
        code = f", exit code {blamed.exit_code}" if blamed.exit_code is not None else ""
        sheet.say(f"torchrun saw rank {blamed.rank}{host} end first{code}.")
    if triage.unfinished:
        words = f"{_ranks(triage.unfinished)} began to set up NCCL and did not come to its end"
        absent = f"; {_ranks(triage.absent).lower()} did not begin" if triage.absent else ""
        sheet.say(f"{words}{absent}.")


def _look_at(triage: Triage) -> str:
    first, blamed = triage.first, triage.blamed
    rank = blamed.rank if blamed else first.first.rank if first else None
    what = f"the log of rank {rank}" if rank is not None else "the logs of the other ranks"
    return f"These logs do not tell its cause. Look in {what} and in the kernel's log (dmesg)."


def _others(sheet: Sheet, triage: Triage) -> None:
    if not triage.others:
        return
    sheet.gap()
    sheet.say("Also said", style=BOLD)
    most = len(triage.others) if sheet.page.verbosity > 0 else MOST_OTHERS
    for one in triage.others[:most]:
        _short(sheet, one)
    if len(triage.others) > most:
        sheet.bullet(f"{len(triage.others) - most} more, shown with -v")


def _short(sheet: Sheet, one: Sighting) -> None:
    ranks = f"on {fold(one.hosts)}, " if one.hosts else ""
    ranks = f"{_ranks(one.ranks).lower()}, " if one.ranks else ranks
    times = f", {one.count} lines" if one.count > 1 else ""
    where = f"{ranks}{one.first.file}:{one.first.line}{times}"
    sheet.bullet(f"{one.role}: {one.means} ({where}) [{one.rule}]")


def _notes(sheet: Sheet, triage: Triage) -> None:
    if triage.notes:
        sheet.gap()
        sheet.say("Worth knowing", style=BOLD)
        for one in triage.notes:
            _short(sheet, one)


def _nccl(sheet: Sheet, triage: Triage) -> None:
    nccl = triage.nccl
    if nccl is None:
        return
    sheet.gap()
    sheet.say(_chose(nccl), label=f"{(nccl.chosen.library or 'NCCL').split()[0]}:")
    for remark in nccl.remarks:
        sheet.bullet(remark)


def _chose(nccl: Nccl) -> str:
    chosen = nccl.chosen
    parts = [chosen.library.partition(" ")[2]]
    parts += [f"data by {', '.join(chosen.transports)}"] if chosen.transports else []
    parts += [f"over {chosen.interface}"] if chosen.interface else []
    parts += [f"found each other over {', '.join(chosen.bootstrap)}"] if chosen.bootstrap else []
    return "; ".join(filter(None, parts))


def _unread(sheet: Sheet, triage: Triage) -> None:
    unread = [log for log in triage.logs if log.reason]
    if unread:
        sheet.gap()
        for log in unread:
            sheet.say(f"{log.name}: not read to its end: {log.reason}")


def _verdict(sheet: Sheet, triage: Triage) -> None:
    sheet.gap()
    if triage.first is None:
        sheet.say("Nothing that is known to go wrong stands in these logs.")
    elif sheet.page.verbosity >= 0 and triage.checks and not triage.report:
        sheet.paste(_labelled("Look now:", triage.checks))


def _labelled(label: str, ids: Iterable[str]) -> list[str]:
    lines = commands(ids)
    return [f"{label} {lines[0]}", *(f"{'':{len(label)}} {line}" for line in lines[1:])]


def _ranks(ranks: Sequence[int]) -> str:
    return f"{'Rank' if len(ranks) == 1 else 'Ranks'} {ranges(ranks)}"


def _lines(commands: Iterable[str]) -> list[str]:
    return [line for command in commands for line in command.split("\n")]
