"""What the formats of a difference share: which facts belong where, and words."""

from collections.abc import Sequence

from gpudoctor.diff import Difference, Side
from gpudoctor.diff.facts import Change
from gpudoctor.diff.findings import Kind, Standing, Turn
from gpudoctor.units import count_of
from gpudoctor.wording import WORD

HEADINGS = {
    True: "Other facts that checks look at",
    False: "Facts that no check looks at",
}


def of_kind(difference: Difference, *kinds: Kind) -> list[Turn]:
    """The findings of these kinds."""
    return [turn for turn in difference.findings if turn.kind in kinds]


def because(difference: Difference, turn: Turn) -> list[Change]:
    """The facts that a finding is told to follow from."""
    return [difference.facts[place] for place in turn.because]


def rest(difference: Difference) -> dict[str, list[Change]]:
    """The facts told of no finding, under their headings."""
    told = {place for turn in difference.findings for place in turn.because}
    left = [change for place, change in enumerate(difference.facts) if place not in told]
    groups: dict[str, list[Change]] = {}
    for change in left:
        groups.setdefault(HEADINGS[bool(change.checks)], []).append(change)
    return groups


def by_reason(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Findings by what is said now: one driver that is gone blinds many checks."""
    groups: dict[str, list[Turn]] = {}
    for turn in turns:
        groups.setdefault(turn.after.said if turn.after else "", []).append(turn)
    return groups


def word(standing: Standing | None) -> str:
    """How a check ended, in a word."""
    if standing is None:
        return "not run"
    return "ignored" if standing.ignored else WORD[standing.status]


def about(side: Side) -> str:
    """Which file, which node, when, and from where it was seen."""
    when = side.started.replace("T", " ").replace("Z", " UTC")
    return ", ".join(part for part in (side.file, side.node, when, *side.view[:1]) if part)


def tally(difference: Difference) -> list[str]:
    """ "2 findings worse", "1 better", "9 facts differ"."""
    counts = {kind: len(of_kind(difference, kind)) for kind in ("worse", "better")}
    checked = len(difference.findings) - sum(counts.values())
    parts = [
        (counts["worse"], f"{count_of(counts['worse'], 'finding')} worse"),
        (counts["better"], f"{count_of(counts['better'], 'finding')} better"),
        (checked, f"{count_of(checked, 'check')} on one side only"),
        (len(difference.facts), f"{count_of(len(difference.facts), 'fact')} changed"),
    ]
    return [words for number, words in parts if number] or ["nothing has changed"]
