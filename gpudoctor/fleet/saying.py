"""Words that the fleet's formats for people share."""

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.fleet.model import Action, Figure, Fleet, Hosts, Problem
from gpudoctor.units import count_of, size

LONG = 1000  # characters of a host list: a longer one is not pasted from a terminal
HOUR, DAY = 3600, 86400


def nodes(hosts: Hosts | int) -> str:
    """ "3 nodes"."""
    return count_of(hosts if isinstance(hosts, int) else hosts.count, "node")


def quantity(value: float, unit: str) -> str:
    """A figure for people: "1.2 TiB", "38 °C", "362 GB/s", "4 ms", "14 days"."""
    if unit == "bytes":
        return size(int(value))
    if unit == "bytes/s":
        return f"{value / 1e9:.4g} GB/s"
    if unit == "s":
        return _long(value) if value >= 2 * HOUR else wording.duration(value)
    return f"{value:.4g} {unit}".strip() if abs(value) < 10000 else f"{value:.0f} {unit}".strip()


def _long(seconds: float) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.3g} days"
    return f"{seconds / HOUR:.3g} h"


def name(problem: Problem) -> str:
    """The check's id; where one cause kept several from looking, how many."""
    return problem.title if problem.id.startswith("unchecked-") else problem.id


def where(problem: Problem) -> str:
    """What the nodes that have a problem have in common; empty: nothing that would be named."""
    return "; ".join(pattern.words for pattern in problem.patterns)


def who(action: Action) -> str:
    """Who acts, and with what: "launch line (docker)", "node admin"."""
    tool = wording.WHERE.get(action.launcher, action.launcher)
    detail = wording.ROOT if action.needs_root else tool
    plain = action.launcher in ("any", "host") and not action.needs_root
    return wording.WHO[action.owner] + ("" if plain else f" ({detail})")


def tally(fleet: Fleet) -> list[tuple[Status, str]]:
    """ "957 ok", "20 with warnings", "23 failed", ...; zero goes without saying, but for ok."""
    said = {
        Status.PASS: "ok",
        Status.WARN: "with warnings",
        Status.FAIL: "failed",
        Status.ERROR: "not known",
        Status.SKIP: "not looked at",
    }
    counts = fleet.counts
    return [
        (status, f"{counts[status.value]} {words}")
        for status, words in said.items()
        if counts[status.value] or status is Status.PASS
    ]


def verdict_word(fleet: Fleet) -> str:
    """PASS, WARN, FAIL, or NO VERDICT where nobody can say."""
    known = fleet.status not in (Status.ERROR, Status.SKIP)
    return fleet.status.value.upper() if known else "NO VERDICT"


def verdict(fleet: Fleet) -> list[str]:
    """The verdict in sentences."""
    if not fleet.nodes:
        return ["No report could be read, so nothing is known."]
    failed = fleet.counts["fail"]
    said = {
        Status.PASS: "Nothing that was checked stands in the way of a job on these nodes.",
        Status.WARN: f"Jobs can run, with warnings on {nodes(fleet.counts['warn'])}.",
        Status.ERROR: "Nothing failed, but not everything is known.",
    }.get(fleet.status, f"A job will break on {nodes(failed)} of {len(fleet.nodes)}.")
    if fleet.status is Status.FAIL and not failed:
        said = "What several nodes must agree on fails."
    sentences = [said]
    if fleet.missing.count:
        sentences.append(f"{nodes(fleet.missing)} of {fleet.expected} did not report.")
    if fleet.unjudged.count:
        are = "it is" if fleet.unjudged.count == 1 else "they are"
        sentences.append(f"Of {nodes(fleet.unjudged)} nobody can say whether {are} well.")
    if bad := sum(each.count for each in fleet.unread if not each.foreign):
        sentences.append(f"{count_of(bad, 'report')} could not be read.")
    return sentences


def when(fleet: Fleet) -> str:
    """When the runs were started: "2026-11-20 14:00 to 14:59 UTC"."""
    first, last = (text[:16].replace("T", " ") for text in (fleet.first, fleet.last))
    if first == last:
        return f"{first} UTC" if first else ""
    return f"{first} to {last[11:] if first[:10] == last[:10] else last} UTC"


def flat(figure: Figure) -> bool:
    """Whether all nodes tell the same, as far as anybody sees."""
    return quantity(figure.low.value, figure.unit) == quantity(figure.high.value, figure.unit)
