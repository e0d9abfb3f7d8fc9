"""For Nagios, Icinga, Sensu and NRPE: one line, figures behind a bar, exit codes of their own."""

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Page, Report
from gpudoctor.sheet import Sheet

UNKNOWN = 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")  # by exit code
LIMIT = 4096  # bytes that Nagios and NRPE surely keep
WRONG_USAGE = UNKNOWN
WORST_FIRST = (Status.FAIL, Status.ERROR, Status.WARN)


def render(report: Report, page: Page) -> str:
    """The line; with -v also one for each finding."""
    words = Sheet(page).words
    text = f"GPUDOCTOR {WORDS[exit_code(report)]}: {_gist(report)}"
    # A bar would end the text.
    lines = [f"{words(text).replace('|', '/')} | {_figures(report)}"]
    if page.verbosity > 0:
        lines += [words(line).replace("|", "/") for line in _findings(report)]
    return _within_limit(lines)


def exit_code(report: Report) -> int:
    """0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: nothing failed, but not everything was seen."""
    if report.status is Status.WARN:
        return 2 if report.run.strict else 1
    return {Status.PASS: 0, Status.FAIL: 2}.get(report.status, UNKNOWN)


def _gist(report: Report) -> str:
    """What is worst, and how much more there is."""
    entries = wording.found(report, *WORST_FIRST)
    if not entries:
        ok = report.counts["pass"]
        return f"{ok} ok" if ok else "nothing could be checked here"
    first, *others = entries
    result = first.result
    more = []
    for status in WORST_FIRST:
        count = sum(other.result.status is status for other in others)
        more += [f"+{count} {status.value}"] if count else []
    said = f"{result.id} {result.summary or result.reason}{wording.on_nodes(first, report)}"
    return f"{said} ({', '.join(more)})" if more else said


def _figures(report: Report) -> str:
    counts = [f"{status.value}={report.counts[status.value]}" for status in Status]
    return " ".join([*counts, f"time={report.run.seconds:.3f}s"])


def _findings(report: Report) -> list[str]:
    return [
        f"{wording.WORD[entry.result.status].upper()} {entry.result.id}: "
        f"{entry.result.summary or entry.result.reason}{wording.on_nodes(entry, report)}"
        for entry in wording.found(report, *WORST_FIRST)
    ]


def _within_limit(lines: list[str]) -> str:
    head, tail = lines[0].rpartition(" | ")[::2]
    room = LIMIT - len(f" | {tail}\nand {len(lines)} more\n".encode())
    text = f"{_cut(head, room)} | {tail}\n"
    for number, line in enumerate(lines[1:], 1):
        if len(f"{text}{line}\n".encode()) > LIMIT - len(f"and {len(lines)} more\n"):
            return f"{text}and {len(lines) - number} more\n"
        text += f"{line}\n"
    return text


def _cut(text: str, limit: int) -> str:
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "..."
