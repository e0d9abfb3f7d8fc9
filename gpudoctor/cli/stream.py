"""Events on stdout while a run goes on, so that one that is killed has named what held it."""

import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

import gpudoctor
from gpudoctor import registry
from gpudoctor.redact import cut_words
from gpudoctor.report import Report, Tool
from gpudoctor.sharing import Redactor
from gpudoctor.snapshot import Absent, Fact, encode


class Stream:
    """Told what is begun and found, it writes each as a line at once."""

    def __init__(self, redactor: Redactor, write: Callable[[str], bool]) -> None:
        self._redactor, self._write = redactor, write
        self._format: Any = registry.report_format("jsonl")
        self._began = time.monotonic()
        self._told: set[bytes] = set()
        argv = [redactor.text(word) for word in cut_words(sys.argv[1:])]
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        tool = Tool("gpudoctor", gpudoctor.__version__)
        self._first = self._format.line(self._format.began(tool, argv, started))

    def __call__(self, name: str, fact: Fact | Absent | None) -> None:
        if fact is None:
            seconds = round(time.monotonic() - self._began, 4)
            event = {"event": "probe", "name": name, "state": "started", "seconds": seconds}
        else:
            event = self._format.fact(name, self._redactor.fact(name, fact))
        self._say(event)

    def rest(self, report: Report) -> str:
        """The events of the report that were not told yet."""
        _, *events = self._format.events(report)
        rest = [self._format.line(event) for event in events if encode(event) not in self._told]
        return "".join([self._first, *rest])

    def _say(self, event: dict[str, Any]) -> None:
        self._told.add(encode(msgspec.to_builtins(event)))
        self._write(self._first + self._format.line(event))
        self._first = ""  # not before anything is looked at: what was asked may make no sense
