"""For programs: the report as one JSON document, as published by `gpudoctor list --schema`."""

import msgspec

from gpudoctor.report import Page, Report
from gpudoctor.snapshot import encode


def render(report: Report, page: Page) -> str:
    """Indented JSON with a newline at its end."""
    return msgspec.json.format(encode(report), indent=2).decode() + "\n"
