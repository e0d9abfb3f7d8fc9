"""For a browser or a ticket: the same in one file that needs nothing beside it."""

import functools

import jinja2

from gpudoctor.diff import Difference
from gpudoctor.diff.wording import about, because, by_reason, of_kind, rest, tally, word
from gpudoctor.finding import Status
from gpudoctor.report import Page

from ..page import SCRIPTS, STYLES, island, templates


def render(difference: Difference, page: Page) -> str:
    """The whole page, the same whatever the terminal can show."""
    changed = of_kind(difference, "worse", "better")
    status = Status.PASS if difference.same else Status.WARN
    if any(turn.kind == "worse" for turn in changed):
        status = Status.FAIL
    template = _templates().get_template("diff.html.j2")
    return template.render(
        difference=difference,
        status=status,
        changed=changed,
        sides={
            "Not checked any more": by_reason(of_kind(difference, "unchecked")),
            "Checked now": by_reason(of_kind(difference, "checked")),
        },
        island=island(difference),
        styles=(*STYLES, "report.css", "diff.css", "print.css"),
        scripts=SCRIPTS,
    )


@functools.cache
def _templates() -> jinja2.Environment:
    return templates(
        SKIP=Status.SKIP, about=about, because=because, rest=rest, told=tally, word=word
    )
