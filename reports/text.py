"""For people, on a terminal or in a log."""

from gpudoctor.report import Page, Report


def render(report: Report, page: Page) -> str:
    lines = [f"{r.status.value:5} {r.id:16} {r.summary or r.reason}" for r in report.results]
    return "\n".join([*lines, f"{report.status.value} {report.run.seconds:.3f} s", ""])
