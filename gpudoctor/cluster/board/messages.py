"""What nodes leave on the board for each other. Whoever reads it trusts nothing."""

import re
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from gpudoctor.cluster.board import LIMIT
from gpudoctor.facts.links import PortTry, Way

M = TypeVar("M", bound=Struct)

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")
Text = Annotated[str, Meta(max_length=300)]
Host = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]  # see `part.this_host`
Count = Annotated[int, Meta(ge=0, le=1 << 24)]
Seconds = Annotated[float, Meta(ge=0, le=1e6)]


class Judge(Struct, frozen=True, kw_only=True):
    """Under "judge": who gathers, and for which start of the job."""

    host: Host
    key: Text


class Joined(Struct, frozen=True, kw_only=True):
    """Under "joined/N": a node is here. `ranks` None: they are counted under "ranks/HOST"."""

    name: Text
    host: Host
    rank: Count = 0
    ranks: Count | None = 1
    waited: Seconds = 0.0  # for the one that judges to be there


class Beat(Struct, frozen=True, kw_only=True):
    """Under "beat/N": what a node is at.

    Attributes:
        count: goes up, so that one who is frozen is known.
        patience: seconds after which another beat must have come.
        ended: why nothing more will come; empty: more will.
    """

    count: int
    step: Text
    patience: Seconds = 15.0
    ended: Text = ""


class Entry(Struct, frozen=True, kw_only=True):
    """A node on the roll: its number, its unique name and the card of its peer."""

    index: Count
    name: Text
    card: bytes = b""


class Roll(Struct, frozen=True, kw_only=True):
    """Under "roll": who goes on, in which order, and for how long."""

    entries: tuple[Entry, ...]
    seconds: Seconds
    throughput_seconds: Seconds = 1.0
    master_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class Toured(Struct, frozen=True, kw_only=True):
    """Under "toured/N": what a node found of the ways to others."""

    ways: tuple[Way, ...] = ()
    rounds: Count = 0
    unfinished: Text = ""
    port_try: PortTry | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """Under "verdict": with which code all shall exit."""

    exit_code: Annotated[int, Meta(ge=0, le=255)]
    status: Text


class BadMessage(ValueError):
    """What another node sent cannot be used; the message says why."""


def read(raw: bytes, kind: type[M]) -> M:
    """What another node sent.

    Raises:
        BadMessage: it is not that.
    """
    if len(raw) > LIMIT:
        raise BadMessage(f"more than {LIMIT >> 20} MiB")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"{kind.__name__.lower()}: {error}"[:300]) from None


def host_name(text: str) -> str:
    """The text if a host can be called so, else empty."""
    return text if _NAME.fullmatch(text) else ""
