"""What is said: that something went wrong, and later that it is over."""

import time
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

Level = Literal["error", "warning"]


class Trouble(Struct, frozen=True, kw_only=True):
    """Something that is not well in a look.

    Attributes:
        id: what it is: "gpu-throttle".
        subject: whom it befell: "GPU 3".
        level: error: something failed; warning: it may, or it slows the job down.
        text: what was measured.
        means: what comes of it.
        do: what to do about it, one imperative sentence.
        check: the check that says more.
        source: who told: while that one is silent, nothing is over.
        mark: of what happened and does not last: which of its kind; it is told once.
        end: what is said when it is over.
    """

    id: str
    subject: str
    level: Level
    text: str
    means: str = ""
    do: str = ""
    check: str = ""
    source: str
    mark: str = ""
    end: str = "over"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.id, self.subject, self.mark


class Event(Struct, frozen=True, kw_only=True):
    """A trouble that began, or is over, or (once) that happened."""

    clock: float
    state: Literal["began", "over", "once"]
    trouble: Trouble
    seconds: float = 0.0  # that it lasted

    def line(self) -> str:
        """For people."""
        told = self.trouble
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.clock))
        if self.state == "over":
            lasted = f"after {lasting(self.seconds)}"
            return f"{stamp} over    {told.subject}: {told.end} ({told.id}, {lasted})"
        words = [f"{told.text}; {told.means}" if told.means else told.text]
        words += [told.do] if told.do else []
        ask = f" [gpudoctor check {told.check}]" if told.check else ""
        return f"{stamp} {told.level:7} {told.subject}: {'. '.join(words)}{ask}"

    def data(self) -> dict[str, Any]:
        """For programs."""
        told = asdict(self.trouble)
        del told["source"], told["mark"], told["end"]
        text = self.trouble.end if self.state == "over" else self.trouble.text
        over = {"seconds": round(self.seconds, 1)} if self.state == "over" else {}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.clock))
        return {"event": self.state, "time": stamp, **told, "text": text, **over}


def lasting(seconds: float) -> str:
    """Seconds for people: "40 s", "12 min", "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
