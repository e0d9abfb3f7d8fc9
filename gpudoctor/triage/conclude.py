"""What was seen -> what went wrong first, who only reports it, and the way out."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from gpudoctor import __version__
from gpudoctor.finding import Fix
from gpudoctor.judge import spelled
from gpudoctor.redact import cut_secrets
from gpudoctor.report import Tool
from gpudoctor.rules import nccl_choice
from gpudoctor.triage.document import Nccl, Sighting, Triage
from gpudoctor.triage.look import BETRAYS, Seen, Story
from gpudoctor.units import brief

_YEAR = 366 * 86400.0
_ROLES = ("cause", "symptom", "report")


def conclude(story: Story, launcher: str = "", here: Callable[[], str] = lambda: "host") -> Triage:
    """The document.

    Args:
        story: what logs told.
        launcher: whose words fixes are in; empty: of the one that the logs betray.
        here: asked where they do not.
    """
    launcher = launcher or next((one for one in BETRAYS if one in story.betrayed), "") or here()
    seen = ordered(story.seen.values())
    told = [_sighting(one, story, launcher) for one in seen]
    first = _first(told, [one.rule.ending for one in seen], story)
    others = [one for one in told if one is not first and one.role != "note"]
    unfinished, absent = _unfinished(story)
    nccl = _nccl(story)
    checks = [name for one in (first, *others) if one for name in one.checks]
    return Triage(
        tool=Tool("gpudoctor", __version__),
        logs=tuple(story.logs),
        launcher=launcher,
        found=first.role if first else "nothing",
        exit_code=int(first is not None),
        first=first,
        only_report=_only_report(first, others, story),
        others=tuple(others),
        notes=tuple(one for one in told if one.role == "note"),
        blamed=story.failures.blamed,
        nccl=nccl,
        unfinished=unfinished,
        absent=absent,
        checks=tuple(dict.fromkeys([*checks, *(nccl.checks if nccl else ())])),
    )


def ordered(seen: Iterable[Seen]) -> list[Seen]:
    """In the order in which it happened, as far as that can be known.

    Lines of one log stand in their order. Logs whose times are of one kind of clock are merged by
    time; the rest, and what a kernel counts from its boot, follows in the order of the logs. But
    what a kernel tells of a process stands before what that process tells.
    """
    by_file: dict[int, list[Seen]] = {}
    for one in sorted(seen, key=lambda one: (one.first.file, one.first.spot.line)):
        by_file.setdefault(one.first.file, []).append(one)
    merged: dict[tuple[str, int], list[tuple[float, Seen]]] = {}
    for file, inside in by_file.items():
        clock = inside[0].first.clock
        timed = clock in ("local", "utc")
        latest = 0.0
        for one in inside:
            same = one.first.clock == clock
            latest = max(latest, one.first.when) if same else latest
            merged.setdefault((clock, -1 if timed else file), []).append((latest, one))
    parts = [_in_time(part) if key[1] < 0 else part for key, part in merged.items()]
    parts.sort(key=lambda part: part[0][1].first.clock == "boot")
    return _killed_last([one for part in parts for _, one in part])


def _in_time(part: list[tuple[float, Seen]]) -> list[tuple[float, Seen]]:
    whens = [when for when, _ in part]
    over_new_year = max(whens) - min(whens) > _YEAR / 2
    if over_new_year:
        part = [(when + _YEAR * (when < _YEAR / 2), one) for when, one in part]
    return sorted(part, key=lambda timed: timed[0])


def _killed_last(seen: list[Seen]) -> list[Seen]:
    """What a kernel says of processes first, where others speak of the same ones."""
    kernel = [one for one in seen if one.first.clock == "boot" and one.groups.get("pid")]
    for one in kernel:
        others = (other for other in seen if other not in kernel)
        about = next((o for o in others if _same_process(one, o)), None)
        if about is not None:
            seen.remove(one)
            seen.insert(seen.index(about), one)
    return seen


def _same_process(one: Seen, other: Seen) -> bool:
    pids = other.groups.get("pid", "").replace(",", " ").split()
    return one.groups["pid"] in [*pids, str(other.first.spot.pid)]


def _sighting(seen: Seen, story: Story, launcher: str) -> Sighting:
    rule, spot = seen.rule, seen.first.spot
    who = list(seen.who)
    ranks = {story.ranks.get((host, pid or 0)) if r is None else r for r, host, pid in who}
    if spot.rank is None:
        spot = replace(spot, rank=story.ranks.get((spot.host, spot.pid or 0)))
    spot = replace(spot, text=cut_secrets(spot.text))
    commands = tuple(_pasted(command, seen.groups) for command in rule.commands)
    settings = rule.settings
    do = Fix(text=_filled(rule.do, seen.groups), commands=commands, needs_root=rule.needs_root)
    fixes = (*spelled(do), *spelled(Fix(*settings)))
    return Sighting(
        rule=rule.id,
        role=rule.role,
        means=_filled(rule.means, seen.groups),
        why=rule.why,
        owner=rule.owner,
        first=spot,
        count=seen.count,
        ranks=tuple(sorted(rank for rank in ranks if rank is not None)),
        hosts=tuple(sorted({host for _, host, _ in who if host})),
        settings=settings,
        fixes=tuple(fix for fix in fixes if fix.launcher in (launcher, "any")),
        checks=rule.checks,
        source=rule.source,
    )


def _first(told: Sequence[Sighting], endings: Sequence[bool], story: Story) -> Sighting | None:
    """What came first; where all only report, what is told of the rank that says nothing."""
    first = next((one for role in _ROLES for one in told if one.role == role), None)
    blamed = story.failures.blamed
    if first is None or first.role != "report" or blamed is None:
        return first
    both = list(zip(told, endings, strict=True))
    speak = {rank for one, ending in both if not ending for rank in one.ranks}
    if not speak or blamed.rank in speak:
        return first
    return next((one for one, ending in both if ending), first)


def _filled(text: str, groups: dict[str, str]) -> str:
    def value(field: re.Match[str]) -> str:
        found = groups.get(field[1])
        return field[0] if found is None else brief(cut_secrets(found.strip()))

    return re.sub(r"\{(\w+)\}", value, text)


def _pasted(command: str, groups: dict[str, str]) -> str:
    """The command with its words filled in: whatever a log says, each stays one word."""

    def word(field: re.Match[str]) -> str:
        found = groups.get(field[1] or field[2])
        return field[0] if found is None else shlex.quote(cut_secrets(found.strip()))

    return re.sub(r"'\{(\w+)\}'|\{(\w+)\}", word, command)


def _only_report(
    first: Sighting | None, others: Sequence[Sighting], story: Story
) -> tuple[int, ...]:
    """The ranks that say something, but not what came first."""
    if first is None:
        return ()
    blamed = story.failures.blamed
    there = {*first.ranks, first.first.rank} - {None}
    if not there and blamed:
        there = {blamed.rank}
    return tuple(sorted({rank for one in others for rank in one.ranks} - there))


def _unfinished(story: Story) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of communicators that nobody or not everybody came to an end of: who began, who did not."""
    open_ones = [one for one in story.nccl.started.values() if one.began - one.ended]
    if not open_ones:
        return (), ()
    largest = max(open_ones, key=lambda one: one.ranks)
    began = largest.began | largest.ended
    absent = {*range(largest.ranks)} - began if len(began) > 1 else set()
    return tuple(sorted(largest.began - largest.ended)), tuple(sorted(absent))


def _nccl(story: Story) -> Nccl | None:
    log = story.nccl.log
    if not (log.library or log.transports or log.bootstrap or log.interface):
        return None
    remarks = nccl_choice.remarks(log)
    return Nccl(
        chosen=log,
        remarks=tuple(text for text, _ in remarks),
        checks=tuple(dict.fromkeys(name for _, names in remarks for name in names)),
    )
