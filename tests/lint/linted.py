"""Launch files judged as `gpudoctor lint` judges them, in this process."""

from gpudoctor import Demands, registry, run
from gpudoctor.lint import kinds
from gpudoctor.lint.examine import Judged, can_judge, examine
from gpudoctor.lint.source import Source
from gpudoctor.report import Report


def lint(
    text: str, name: str = "run.sh", demands: Demands | None = None
) -> tuple[Report, list[Judged]]:
    """The report on a file, and each launch in it."""
    catalogue = registry.load(launch=True)
    checks = tuple(filter(can_judge, catalogue.checks))
    source = Source(name, text)
    launches = [(source, found) for found in kinds.read(source)]
    return examine(run.Request(checks=checks, catalogue=catalogue, demands=demands), launches)


def trouble(text: str, name: str = "run.sh") -> dict[str, str]:
    """The checks that found something, and what: {"shm-size": "fail"}."""
    report, _ = lint(text, name)
    kept = ("warn", "fail", "error")
    return {r.id: r.status.value for r in report.results if r.status.value in kept}
