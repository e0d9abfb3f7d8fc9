"""What formats for people share: words, and which results belong together."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from gpudoctor.finding import Owner, Status
from gpudoctor.hostlist import fold
from gpudoctor.report import Redaction, Report, Result, SpelledFix, Step
from gpudoctor.units import count_of

WORD = {
    Status.PASS: "ok",
    Status.WARN: "WARN",
    Status.FAIL: "FAIL",
    Status.SKIP: "skip",
    Status.ERROR: "ERROR",
}
MARK = {
    Status.PASS: "✓",
    Status.WARN: "!",
    Status.FAIL: "✗",
    Status.SKIP: "–",
    Status.ERROR: "?",
}
WHO: dict[Owner, str] = {
    "job": "job script",
    "image": "image",
    "launch": "launch line",
    "node": "node admin",
    "network": "network admin",
    "cluster": "cluster admin",
}
WHERE = {
    "docker": "docker",
    "podman": "podman",
    "compose": "compose file",
    "kubernetes": "Kubernetes manifest",
    "slurm": "Slurm",
    "pyxis": "Slurm with pyxis",
    "apptainer": "Apptainer",
    "systemd": "systemd unit",
    "host": "this host",
}
ROOT = "root on the node"


class Found(Struct, frozen=True):
    """A result, and all the nodes that have it."""

    result: Result
    nodes: tuple[str, ...]


def found(report: Report, *statuses: Status, ignored: bool = False) -> list[Found]:
    """The results that ended so, those first whose status is named first.

    What several nodes have alike, to the last word, is one entry.
    """
    merged: dict[tuple[str, str], tuple[Result, list[str]]] = {}
    for status in statuses:
        of_cluster = report.cluster.results if report.cluster else ()
        everywhere = [(result, result.nodes) for result in of_cluster]
        everywhere += [(r, (node.name,)) for node in report.nodes for r in node.results]
        for result, nodes in everywhere:
            if result.status is status and (result.ignored is not None) is ignored:
                said = (result.summary, result.reason, result.evidence, result.fixes)
                place = result.place if result.fixes else None
                key = (result.id, repr((status, result.owner, result.ignored, place, *said)))
                merged.setdefault(key, (result, []))[1].extend(nodes)
    return [Found(result, tuple(nodes)) for result, nodes in merged.values()]


def causes(errors: Iterable[Found]) -> dict[str, list[Found]]:
    """Errors by their reason: one driver that hangs blinds many checks."""
    groups: dict[str, list[Found]] = {}
    for error in errors:
        groups.setdefault(error.result.reason, []).append(error)
    return groups


def topics(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by topic, in their order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.topic, []).append(result)
    return groups


def fixes_for(result: Result, launcher: str) -> list[SpelledFix]:
    """The fixes that serve whoever uses this launcher."""
    return [fix for fix in result.fixes if fix.launcher in (launcher, "any")]


def fix_lines(result: Result, launcher: str) -> list[str]:
    """The same, as lines of text: what to do, and what to paste."""
    lines = []
    for fix in fixes_for(result, launcher):
        note = root_note(fix)
        text = f"{fix.text} ({note})" if fix.text and note else fix.text or note
        lines += [text] if text else []
        lines += [line for command in fix.commands for line in command.split("\n")]
    return lines


def on_nodes(entry: Found, report: Report) -> str:
    """ " (on gpu-[1-2])" where there are several nodes, else nothing."""
    return f" (on {fold(entry.nodes)})" if spans_nodes(report) and entry.nodes else ""


def spans_nodes(report: Report) -> bool:
    """Whether it matters on which node something is."""
    return len(report.nodes) != 1 or report.cluster is not None


def root_note(fix: SpelledFix | Step) -> str:
    """That root is needed, where the fix itself does not say it."""
    return ROOT if fix.needs_root and "as root" not in fix.text else ""


def is_of_launches(report: Report) -> bool:
    """Whether it judges launch files, not machines."""
    return any(result.place for result in report.results)


def by_who(steps: Iterable[Step]) -> dict[tuple[str, str], list[Step]]:
    """Steps by who acts and, where that matters, with what."""
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        tool = "" if step.launcher in ("any", "host") else WHERE.get(step.launcher, step.launcher)
        groups.setdefault((WHO[step.owner], ROOT if step.needs_root else tool), []).append(step)
    return groups


def verdict_word(report: Report) -> str:
    """PASS, WARN, FAIL, or NO VERDICT where nobody can say."""
    no_verdict = report.status in (Status.ERROR, Status.SKIP)
    return "NO VERDICT" if no_verdict else report.status.value.upper()


def verdict_remarks(report: Report) -> list[str]:
    """What must be known to read the verdict rightly."""
    remarks = []
    if not report.run.complete:
        remarks.append("Interrupted: partial. What was not reached by then is not known.")
    elif report.status is Status.ERROR:
        remarks.append("Nothing failed, but what could not be checked may still be broken.")
    if report.status is Status.SKIP:
        remarks.append("Nothing could be checked here, so nothing is known.")
    if report.status is Status.WARN and report.run.strict:
        remarks.append("Warnings count as failures (strict).")
    return remarks


def tally(report: Report) -> list[str]:
    """ "34 ok", "1 warning", "2 failed", ...: what is zero goes without saying, but for ok."""
    count = report.counts
    ignored = sum(result.ignored is not None for result in report.results)
    parts = [
        (count["pass"], f"{count['pass']} ok"),
        (count["warn"], count_of(count["warn"], "warning")),
        (count["fail"], f"{count['fail']} failed"),
        (count["error"], count_of(count["error"], "error")),
        (count["skip"], f"{count['skip']} not checked"),
        (ignored, f"{ignored} ignored"),
    ]
    return [words for place, (number, words) in enumerate(parts) if number or place == 0]


def redaction(done: Redaction) -> str:
    """What was taken out of a report, in words; empty: nothing was asked for."""
    if done.level == "none":
        return ""
    kinds = [f"{kind} ({number})" for kind, number in done.replaced.items() if number]
    what = f"tokens stand for {', '.join(kinds)}" if kinds else "nothing had to be replaced"
    return f"Redaction: {done.level}; {what}."


def duration(seconds: float) -> str:
    """Seconds for people: 3.4 s, 20 ms, 0.3 ms."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def several(names: Sequence[str], most: int = 10) -> str:
    """ "a, b", or "a, b and 90 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
