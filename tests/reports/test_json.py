"""reports/json.py: what is written can be read back."""

from gpudoctor import report as reports
from gpudoctor.registry import report_format
from gpudoctor.report import Page, Report


def test_every_report_comes_back(report: Report):
    raw = report_format("json").render(report, Page()).encode()

    assert reports.load(raw) == report
