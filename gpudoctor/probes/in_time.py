"""Ask several things at once, and wait for none of them for ever."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

STACK = 1 << 18  # bytes; the usual 8 MiB each would not fit where address space is limited


def in_time(
    questions: Sequence[Callable[[], T]], seconds: float, stack: int = STACK
) -> list[T | None]:
    """The answers, in order; None for a question that none came to in time.

    Only for isolated probes: a thread that hangs in the kernel ends with its process.
    """
    import threading  # only in the probe's child

    answers: list[T | None] = [None] * len(questions)

    def ask(index: int) -> None:
        answers[index] = questions[index]()

    threading.stack_size(stack)
    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(answers))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)
