"""For programs: the fleet as one JSON document."""

import msgspec

from gpudoctor.fleet import Fleet
from gpudoctor.report import Page
from gpudoctor.snapshot import encode


def render(fleet: Fleet, page: Page) -> str:
    """JSON, a line for each node, with a newline at its end."""
    return msgspec.json.format(encode(fleet), indent=1).decode() + "\n"
