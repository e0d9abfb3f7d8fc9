"""For node_exporter's textfile collector: Prometheus' text format, no timestamps."""

import calendar
import time

from gpudoctor.finding import Status
from gpudoctor.report import Page, Report
from gpudoctor.sheet import clean

IGNORED = "ignored"
HELP = {
    "gpudoctor_check": "How a check ended; 1 for the status that it has.",
    "gpudoctor_verdict": "1 for the status of the whole run, 0 for the others.",
    "gpudoctor_run_timestamp_seconds": "When the run began, in seconds since 1970.",
    "gpudoctor_run_duration_seconds": "How long the run took.",
    "gpudoctor_info": "The version that ran; always 1.",
}


def render(report: Report, page: Page) -> str:
    """All metrics, each series once: the collector refuses a file that repeats one."""
    lines = []
    for name, series in _metrics(report).items():
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
        lines += [f"{name}{labels} {value}" for labels, value in series.items()]
    return "\n".join(lines) + "\n"


def _metrics(report: Report) -> dict[str, dict[str, str]]:
    """The series of each metric: values by labels."""
    return {
        "gpudoctor_check": _checks(report),
        "gpudoctor_verdict": {
            _labels(status=status.value): str(int(status is report.status)) for status in Status
        },
        "gpudoctor_run_timestamp_seconds": {"": str(_since_1970(report.run.started))},
        "gpudoctor_run_duration_seconds": {"": repr(report.run.seconds)},
        "gpudoctor_info": {_labels(version=report.tool.version): "1"},
    }


def _checks(report: Report) -> dict[str, str]:
    series = {}
    for node in report.nodes:
        # The collector knows which node it is on, and a container's name changes at each start.
        name = {"node": node.name} if len(report.nodes) > 1 else {}
        for result in node.results:
            status = IGNORED if result.ignored else result.status.value
            series[_labels(check=result.id, owner=result.owner, status=status, **name)] = "1"
    for result in report.cluster.results if report.cluster else ():
        status = IGNORED if result.ignored else result.status.value
        series[_labels(check=result.id, owner=result.owner, status=status)] = "1"
    return series


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return clean(text).replace("\\", r"\\").replace('"', r"\"")


def _since_1970(started: str) -> int:
    return calendar.timegm(time.strptime(started, "%Y-%m-%dT%H:%M:%SZ"))
