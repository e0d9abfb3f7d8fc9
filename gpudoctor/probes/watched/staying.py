"""A forked child that stays: asked, it looks and answers; one that hangs is gone on without."""

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import msgspec

from gpudoctor.children import GRACE, reap, send, silence
from gpudoctor.snapshot import Absent, encode

ANSWER_LIMIT = 16 << 20  # bytes
_LENGTH = 8  # bytes of it in front of an answer


class Staying:
    """Something to look at again and again, in a child of its own.

    Attributes:
        name: of the source.
        asked: when it was asked what it has not answered yet; 0: it waits for a question.
        answer: the newest, as long as nobody has taken it.
        gone: why it will never answer again; empty: it is there.
    """

    def __init__(
        self, name: str, make: Callable[[], Callable[[], Any]], kind: Any, first: float
    ) -> None:
        """
        Args:
            name: of the source.
            make: called in the child; makes what is called for every look.
            kind: of its answers.
            first: seconds that the first answer may take.
        """
        self.name, self.kind = name, kind
        self.asked = 0.0
        self.answer: Any = None
        self.gone = ""
        self._make, self._seconds = make, first
        self._said = bytearray()
        self._pid = -1
        self._ours: socket.socket | None = None

    def begin(self, others: Iterable["Staying"]) -> None:
        """Fork.

        Args:
            others: those that were forked before; the child closes what is ours of them.
        """
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            for other in (*others, self):
                if other._ours:
                    other._ours.close()
            _serve(self._make, theirs)
        theirs.close()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno() if self._ours else -1

    @property
    def idle(self) -> bool:
        """Whether it can be asked."""
        return not self.asked and not self.gone

    @property
    def late(self) -> float:
        """Seconds that it has had, where these are too many; else 0."""
        waited = time.monotonic() - self.asked if self.asked else 0.0
        return waited if waited >= self._seconds else 0.0

    @property
    def left(self) -> float:
        """Seconds that it still has to answer in."""
        return self._seconds - (time.monotonic() - self.asked)

    def ask(self) -> None:
        """Have it look."""
        assert self._ours
        self.asked = time.monotonic()
        with contextlib.suppress(OSError):  # it has died: then there is an end to read
            self._ours.send(b"?")

    def read(self) -> None:
        """Take what it has said."""
        assert self._ours
        try:
            chunk = self._ours.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._said += chunk
        length = int.from_bytes(self._said[:_LENGTH], "little")
        if len(self._said) >= _LENGTH and len(self._said) >= _LENGTH + length:
            raw = bytes(self._said[_LENGTH:])
            self._said.clear()
            self.asked, self._seconds = 0.0, min(self._seconds, 5.0)
            # No answer has a field `absent`.
            kind: Any = Absent if raw.startswith(b'{"absent":') else self.kind
            try:
                self.answer = msgspec.json.decode(raw, type=kind)
            except msgspec.DecodeError as error:
                self.answer = Absent(f"the answer does not fit: {error}", broken=True)
        elif not chunk or length > ANSWER_LIMIT:
            code = reap(self._pid, time.monotonic() + GRACE)
            self.gone = "looking ended without an answer"
            if code is not None and code < 0:
                self.gone = f"looking crashed: {signal.Signals(-code).name}"
            self.end()

    def take(self) -> Any:
        """The newest answer, once."""
        answer, self.answer = self.answer, None
        return answer

    def end(self) -> None:
        """Leave no child but one that cannot be killed."""
        if self._ours:
            self._ours.close()
            self._ours = None
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            reap(self._pid, time.monotonic() + GRACE)


def _serve(make: Callable[[], Callable[[], Any]], asked: socket.socket) -> NoReturn:
    """The child's life: it looks whenever it is asked, until there is nobody to ask."""
    try:
        os.setpgid(0, 0)  # with what it starts itself, it can be killed as one
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        silence({asked.fileno()})
        gc.enable()
        look: Callable[[], Any] | None = None
        while os.read(asked.fileno(), 1):
            try:
                look = look or make()
                answer = look()
            except Exception as error:  # a foreign library may raise anything
                words = " ".join(str(error).split())[:300]
                answer = Absent(f"looking failed: {type(error).__name__}: {words}", broken=True)
            raw = encode(answer)
            send(asked.fileno(), len(raw).to_bytes(_LENGTH, "little") + raw)
    finally:
        os._exit(0)
