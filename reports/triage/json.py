"""For programs: one JSON document, described in docs/triage.md."""

import msgspec

from gpudoctor.report import Page
from gpudoctor.snapshot import encode
from gpudoctor.triage.document import Triage


def render(triage: Triage, page: Page) -> str:
    """Indented JSON with a newline at its end."""
    return msgspec.json.format(encode(triage), indent=2).decode() + "\n"
