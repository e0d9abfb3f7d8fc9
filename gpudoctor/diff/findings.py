"""Findings of two sides: which are new, which are better, which can no longer be had."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.diff.facts import Change
from gpudoctor.finding import Owner, Status
from gpudoctor.report import Result

Kind = Literal["worse", "better", "unchecked", "checked"]
ORDER: tuple[Kind, ...] = ("worse", "better", "unchecked", "checked")
_WEIGHT = {Status.PASS: 0, Status.SKIP: 0, Status.WARN: 1, Status.ERROR: 2, Status.FAIL: 3}


class Standing(Struct, frozen=True):
    """How a check ended on one side, and its summary or reason."""

    status: Status
    said: str = ""
    ignored: bool = False


class Turn(Struct, frozen=True, kw_only=True):
    """A check that does not end as it did.

    Attributes:
        kind: "worse", "better"; "unchecked": it passed and is now skipped; "checked": the reverse.
        before: None: it was not run.
        after: likewise.
        because: positions, in the facts that changed, of those that it looks at; each fact is
            told of one check.
    """

    id: str
    kind: Kind
    title: str
    owner: Owner
    before: Standing | None = None
    after: Standing | None = None
    because: tuple[int, ...] = ()


def turns(before: Iterable[Result], after: Iterable[Result]) -> list[Turn]:
    """Checks that ended otherwise, what is worse first."""
    was, now = _by_id(before), _by_id(after)
    found = [turn for key in {**was, **now} if (turn := _turn(was.get(key), now.get(key)))]
    return sorted(found, key=lambda turn: (ORDER.index(turn.kind), -_weight(turn.after)))


def _by_id(results: Iterable[Result]) -> dict[tuple[str, int], Result]:
    """Launch files have some checks several times: those are numbered."""
    numbered: dict[tuple[str, int], Result] = {}
    seen: dict[str, int] = {}
    for result in results:
        seen[result.id] = seen.get(result.id, 0) + 1
        numbered[result.id, seen[result.id]] = result
    return numbered


def _turn(was: Result | None, now: Result | None) -> Turn | None:
    before, after = _standing(was), _standing(now)
    kind = _kind(before, after)
    result = now or was
    if kind is None or result is None:
        return None
    return Turn(
        id=result.id,
        kind=kind,
        title=result.title,
        owner=result.owner,
        before=before,
        after=after,
    )


def _standing(result: Result | None) -> Standing | None:
    if result is None:
        return None
    return Standing(result.status, result.summary or result.reason, result.ignored is not None)


def _weight(standing: Standing | None) -> int:
    return 0 if standing is None or standing.ignored else _WEIGHT[standing.status]


def _kind(before: Standing | None, after: Standing | None) -> Kind | None:
    was, now = _weight(before), _weight(after)
    if was != now:
        return "worse" if now > was else "better"
    if before is None or after is None or was:
        return None  # what was not run on one side says nothing
    if before.status is after.status or {before.status, after.status} != {Status.PASS, Status.SKIP}:
        return None
    return "unchecked" if after.status is Status.SKIP else "checked"


def explained(
    found: Sequence[Turn],
    changes: Sequence[Change],
    needs: Mapping[str, Sequence[str]],
    results: Mapping[str, Result],
) -> tuple[list[Turn], list[Change]]:
    """Each change with the check that it explains best, the most telling first.

    Args:
        found: the checks that ended otherwise.
        changes: the facts that differ.
        needs: the facts that a check looks at, by its id.
        results: of the later side, by the check's id.
    """
    main = [turn for turn in found if turn.kind in ("worse", "better")]
    others = [turn for turn in found if turn not in main]
    texts = {turn.id: _text(turn, results.get(turn.id)) for turn in main}
    of: dict[int, list[tuple[int, Change]]] = {}
    rest: list[tuple[int, int, int, Change]] = []
    bad = {id_ for id_, result in results.items() if _weight(_standing(result))}
    for change in changes:
        checks = tuple(id_ for id_, kinds in needs.items() if change.fact in kinds)
        told = replace(change, checks=checks)
        scores = {
            at: _named(change, texts[turn.id]) for at, turn in enumerate(main) if turn.id in checks
        }
        if scores:
            best = max(scores, key=lambda at: scores[at])
            of.setdefault(best, []).append((scores[best], told))
        else:
            turned = sum(turn.id in checks for turn in others)
            rest.append((turned, len(bad & {*checks}), len(checks), told))
    for some in of.values():
        some.sort(key=lambda scored: -scored[0])
    # Among equally bad ones, those come first that a change explains.
    order = sorted(
        range(len(main)), key=lambda at: (main[at].kind, _rank(main[at]), -_best(of.get(at)))
    )
    order.sort(key=lambda at: ORDER.index(main[at].kind))
    ordered = [change for at in order for _, change in of.get(at, ())]
    positions = {id(change): place for place, change in enumerate(ordered)}
    told_turns = [
        replace(main[at], because=tuple(positions[id(c)] for _, c in of.get(at, ())))
        for at in order
    ]
    rest.sort(key=lambda scored: (-scored[0], -scored[1], -min(scored[2], 1)))
    return [*told_turns, *others], [*ordered, *(change for *_, change in rest)]


def _rank(turn: Turn) -> int:
    return -max(_weight(turn.after), _weight(turn.before))


def _best(scored: Sequence[tuple[int, Change]] | None) -> int:
    return 1 + scored[0][0] if scored else 0


def _text(turn: Turn, result: Result | None) -> str:
    """All that a check says of what it found."""
    said = [standing.said for standing in (turn.before, turn.after) if standing]
    said += [*result.evidence, *(rung.detail for rung in result.ladder)] if result else []
    said.append(turn.id.replace("-", " "))
    return "\n".join(said)


def _named(change: Change, text: str) -> int:
    """How much of a change a finding speaks of."""
    head, _, field = change.where.partition(":")
    new = change.said.rpartition(" -> ")[2]
    named = [_speaks_of(word.strip(":"), text) for word in field.split() if len(word) > 3]
    score = 4 if named and all(named) else any(named)
    score += 4 * any(len(item) > 2 and _speaks_of(item, text) for item in change.items)
    score += 3 * (len(new) > 2 and _speaks_of(new, text))
    score += 4 * bool(_TROUBLE.search(change.path) and change.after)
    return score + _speaks_of(head.partition("[")[0], text)


_TROUBLE = re.compile(r"(^|[._])(error|lost|refused|unfinished)$")


def _speaks_of(words: str, text: str) -> bool:
    """Whether the words stand in a text by themselves: /sys does not stand in /sys/home."""
    return bool(re.search(rf"(?<![\w/.-]){re.escape(words)}(?![\w/-])", text, re.IGNORECASE))
