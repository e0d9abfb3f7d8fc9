"""Becoming the command, for `gpudoctor exec`; loaded first, and from nothing but Python itself.

Whatever keeps the rest from being loaded (the job's PYTHONPATH may bring another version of a
library) does not keep the command from starting.
"""

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as env(1) and timeout(1)


def become(words: Sequence[str]) -> NoReturn:
    """Replace this process by the command, in the environment that we were started in."""
    import signal

    if os.getpid() == 1:  # what a probe started and left fell to us: nothing of it is the command's
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; nobody else does
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], list(words), _environment())
    except FileNotFoundError:
        _say(f"{words[0]}: command not found")
        sys.exit(NOT_FOUND)
    except OSError as error:
        _say(f"{words[0]}: {error.strerror}")
        sys.exit(NOT_EXECUTABLE)


def _environment() -> dict[bytes, bytes]:
    """The environment as the kernel handed it over: Python may have added LC_CTYPE."""
    try:
        with open("/proc/self/environ", "rb") as file:
            raw = file.read()
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs} or dict(os.environb)


def _say(text: str) -> None:
    try:
        os.write(2, f"gpudoctor: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _in_spite_of(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The end of a program that nothing has caught."""
    if not issubclass(kind, Exception):
        return sys.__excepthook__(kind, error, trace)
    _say(f"not checked: {kind.__name__}: {error}")
    become(sys.argv[sys.argv.index("--") + 1 :])


def _is_ours() -> bool:
    """Whether this process is a `gpudoctor exec ... -- CMD`, and not one that imports us."""
    called = os.path.basename(sys.argv[0]) == "gpudoctor"
    if sys.argv[0] == "-m":  # what runs is still being looked for
        word = sys.orig_argv[-len(sys.argv)]
        called = word == "gpudoctor" or (word.startswith("-") and word.endswith("mgpudoctor"))
    return called and sys.argv[1:2] == ["exec"] and "--" in sys.argv[:-1]


if sys.argv and _is_ours():
    sys.excepthook = _in_spite_of
