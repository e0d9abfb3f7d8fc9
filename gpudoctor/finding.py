"""What a check answers: a status, the measured state, and the way out."""

import enum
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gpudoctor.launch.settings import Setting


class Status(str, enum.Enum):
    """How a check ended. Only `pass` means that something was seen to be well."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"  # does not apply here, or there is nothing to look at
    ERROR = "error"  # applies, but looking failed: nobody knows


Owner = Literal["job", "image", "launch", "node", "network", "cluster"]
"""Who must act: the script, the image, the launch line, the node's admin, ..."""

Basis = Literal["vendor", "measured", "rule-of-thumb", "site"]
"""Where a threshold comes from."""


class Fix:
    """The way out: settings, which every launcher can spell, and/or commands to paste.

    Args:
        settings: what the launch must say; `gpudoctor.launch` knows how.
        text: one imperative sentence; made from the settings when empty.
        commands: pastable as they are, values filled in.
        needs_root: the commands need root on the node.
    """

    __slots__ = ("commands", "needs_root", "settings", "text")

    def __init__(
        self,
        *settings: Setting,
        text: str = "",
        commands: Iterable[str] = (),
        needs_root: bool = False,
    ) -> None:
        self.settings = settings
        self.text = text
        self.commands = tuple(commands)
        self.needs_root = needs_root


class Rung(Struct, frozen=True):
    """One layer on a way that the job must go all along; `skip`: not reached, not tried."""

    name: str
    status: Status
    detail: str = ""


class Finding(Struct, frozen=True):
    """The answer of one check."""

    status: Status
    summary: str = ""
    fix: Fix | None = None
    evidence: tuple[str, ...] = ()
    basis: Basis | None = None
    owner: Owner | None = None
    reason: str = ""
    ladder: tuple[Rung, ...] = ()
    nodes: tuple[str, ...] = ()  # of a check over the cluster: those that it blames


def ok(summary: str, evidence: Iterable[str] = ()) -> Finding:
    """It is as it should be; the summary says what was measured."""
    return Finding(Status.PASS, summary, evidence=tuple(evidence))


def warn(
    summary: str,
    fix: Fix,
    *,
    evidence: Iterable[str] = (),
    basis: Basis | None = None,
    owner: Owner | None = None,
    nodes: Iterable[str] = (),
) -> Finding:
    """The job can run, but slower or with a risk. `owner` overrides the check's own."""
    evidence, nodes = tuple(evidence), tuple(nodes)
    return Finding(Status.WARN, summary, fix, evidence, basis, owner, nodes=nodes)


def fail(
    summary: str,
    fix: Fix,
    *,
    evidence: Iterable[str] = (),
    basis: Basis | None = None,
    owner: Owner | None = None,
    ladder: Iterable[Rung] = (),
    nodes: Iterable[str] = (),
) -> Finding:
    """The job will break. `owner` overrides the check's own; the ladder shows how far it got."""
    evidence, nodes = tuple(evidence), tuple(nodes)
    return Finding(
        Status.FAIL, summary, fix, evidence, basis, owner, ladder=tuple(ladder), nodes=nodes
    )


def skip(reason: str) -> Finding:
    """The question does not arise here; the reason says why, and what would raise it."""
    return Finding(Status.SKIP, reason=reason)


def unknown(reason: str) -> Finding:
    """The question arises, but what was seen does not answer it."""
    return Finding(Status.ERROR, reason=reason)
