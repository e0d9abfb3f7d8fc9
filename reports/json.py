"""For programs: the report as one JSON document, as published by `gpudoctor list --schema`."""

import msgspec

from gpudoctor.report import Page, Report


def render(report: Report, page: Page) -> str:
    """Indented JSON with a newline at its end."""
    try:
        text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    except UnicodeEncodeError:  # a name or a value of this machine is not UTF-8
        import json

        text = json.dumps(msgspec.to_builtins(report), indent=2)
    return text + "\n"
