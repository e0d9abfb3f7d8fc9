"""For node-problem-detector: one short line about this node, exit codes of its own."""

from gpudoctor import wording
from gpudoctor.finding import Status
from gpudoctor.report import Page, Report, verdict
from gpudoctor.sheet import Sheet, cut

LIMIT = 80  # max_output_length, unless configured
UNKNOWN = 2
OF_NODE = frozenset({"node", "network", "cluster"})  # owners whose fault a node's condition can be
WRONG_USAGE = UNKNOWN


def render(report: Report, page: Page) -> str:
    """The message of the node's condition."""
    problems = (Status.FAIL, Status.WARN) if report.run.strict else (Status.FAIL,)
    found = wording.found(report, *problems, Status.ERROR)
    entries = [entry for entry in found if entry.result.owner in OF_NODE]
    if not entries:
        return "nothing could be checked\n" if exit_code(report) else "no fault of this node\n"
    result = entries[0].result
    more = f" (+{len(entries) - 1} more)" if len(entries) > 1 else ""
    # In ASCII: the limit is one of bytes.
    said = Sheet(Page(unicode=False)).words(f"{result.id}: {result.summary or result.reason}")
    return f"{cut(said, LIMIT - len(more))}{more}\n"


def exit_code(report: Report) -> int:
    """0 no problem, 1 a problem, 2 unknown; what the job's launch does wrong is none of a node."""
    status = verdict(tuple(result for result in report.results if result.owner in OF_NODE))
    if status is Status.FAIL or (status is Status.WARN and report.run.strict):
        return 1
    return UNKNOWN if status in (Status.ERROR, Status.SKIP) else 0
