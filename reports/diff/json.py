"""For programs: the difference as one JSON document, described in docs/diff.md."""

import msgspec

from gpudoctor.diff import Difference
from gpudoctor.report import Page
from gpudoctor.snapshot import encode


def render(difference: Difference, page: Page) -> str:
    """Indented JSON with a newline at its end."""
    return msgspec.json.format(encode(difference), indent=2).decode() + "\n"
