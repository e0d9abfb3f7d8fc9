"""A rule: a line that is known, what it means, and the way out. The rules are TOML, in rules/."""

import functools
import os
import sys
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gpudoctor.finding import Owner
from gpudoctor.launch.settings import AnySetting
from gpudoctor.triage import rules as folder

Role = Literal["cause", "symptom", "report", "note"]
"""What a line is in the story of a failure.

cause: it names what went wrong. symptom: something broke here, and may be the first that did; a
cause explains it. report: a rank or a launcher tells that something broke elsewhere. note: worth
knowing, ends no job by itself.
"""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One known line.

    Named groups of the pattern may stand in `means`, `do` and `commands` as {name}.

    Attributes:
        id: `who-what`; never reused.
        pattern: re, searched in one line without its prefixes (rank, time, host, colours).
        ending: a launcher tells by it how a process ended that it had started.
        means: what happened, as one statement under 100 characters.
        why: how it comes about, what to look at; empty: `means` says all.
        owner: who must act.
        do: one imperative sentence; empty: made from the settings.
        settings: as checks name them; `launch/` spells them for the launcher in question.
        commands: pastable.
        checks: ids of those that would have seen it before the start.
        source: where the line is written or was seen: a file of a project, a thread, "measured".
        example: a real line, or a few, of which the pattern matches one.
        not_these: lines that look like it and must not match.
    """

    id: str
    pattern: str
    role: Role
    ending: bool = False
    means: str
    why: str = ""
    owner: Owner
    do: str = ""
    settings: tuple[AnySetting, ...] = ()
    commands: tuple[str, ...] = ()
    needs_root: bool = False
    checks: tuple[str, ...] = ()
    source: str
    example: str
    not_these: tuple[str, ...] = ()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]


@functools.cache
def builtin() -> tuple[Rule, ...]:
    """Every rule, by file and then as it stands there: of two that match, the first counts."""
    found: list[Rule] = []
    for name in sorted(os.listdir(folder.__path__[0])):
        if name.endswith(".toml"):
            with open(f"{folder.__path__[0]}/{name}", "rb") as file:
                found += msgspec.convert(_parse(file.read()), _File).rule
    return tuple(found)


def _parse(raw: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(raw.decode())
