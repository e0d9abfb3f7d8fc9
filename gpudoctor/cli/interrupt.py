"""A signal ends the looking, not the report."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """Remembers the signal that came; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.signal != 0

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(128 + number)  # PID 1 does not die of a signal left at its default
        self.signal = number


@contextlib.contextmanager
def catching(
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM),
) -> Iterator[Interrupt]:
    """Catch signals for a while; the handlers before it come back after."""
    interrupt = Interrupt()
    before = {number: signal.getsignal(number) for number in numbers}
    # A signal that the caller ignores, as of a job in the background, stays ignored.
    caught = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in caught:
        signal.signal(number, interrupt._take)
    try:
        yield interrupt
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
