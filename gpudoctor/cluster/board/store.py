"""A board in torch.distributed's own TCPStore, held by a child that the job's Python runs."""

import contextlib
import os
import select
import signal
import struct
import time
from collections.abc import Mapping

import gpudoctor
from gpudoctor.cluster.board import LIMIT, Unreachable

SCRIPT = os.path.join(os.path.dirname(gpudoctor.__file__), "probes/foreign/store.py")
IMPORT_SECONDS = 60.0  # for torch, from a cold network file system
TALK_SECONDS = 15.0  # for one request; the child gives itself less
_SENTENCE_SECONDS = 3.0  # from the first byte of the first answer to its last
GRACE = 0.5  # seconds that a killed child gets to go
_LENGTH = struct.Struct(">I")
_KEY = struct.Struct(">cH")
_SHARE = "give --share DIR, a directory that all nodes see"


class Store:
    """The board. The child begins at once; `find` waits until it is connected.

    Args:
        python: the job's.
        host: where the store is.
        port: likewise; never MASTER_PORT.
        opens: the store is to be made here.
        seconds: how long to try to reach it.
    """

    def __init__(
        self,
        python: str,
        host: str,
        port: int,
        *,
        opens: bool,
        seconds: float,
        env: Mapping[str, str],
    ) -> None:
        import subprocess  # it takes its time to import

        self.where = f"{host}:{port}"
        self._python, self._ready = python, False
        self._errors = os.memfd_create("gpudoctor-store")
        here = "127.0.0.1" if opens else host
        command = [python, "-B", SCRIPT, "opens" if opens else "joins", here, str(port)]
        try:
            # A session of its own: an interrupt is for us, who tell the others before we go.
            self._child = subprocess.Popen(
                [*command, str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=dict(env),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            os.close(self._errors)
            raise Unreachable(f"{python} does not start ({error.strerror}); {_SHARE}") from None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._in, False)

    def find(self, seconds: float) -> bool:
        """Whether the store is there, waited for at most so long.

        Raises:
            Unreachable: it will not be.
        """
        if not self._ready:
            self._ready = self._receive(time.monotonic() + seconds, late="") is not None
        return self._ready

    def put(self, key: str, value: bytes) -> None:
        self._ask(b"p", key, value[: LIMIT + 1])

    def get(self, key: str, seconds: float = 0.0) -> bytes | None:
        return self._ask(b"g", key, b"%.3f" % seconds, seconds)

    def add(self, key: str, amount: int = 1) -> int:
        answer = self._ask(b"a", key, b"%d" % amount)
        if answer is None or not answer.lstrip(b"-").isdigit():
            raise Unreachable(f"{self.where} counts in words")
        return int(answer)

    def renewed(self) -> bool:
        return False  # a store ends with its run, and with it the connection

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._child.pid, signal.SIGKILL)
        with contextlib.suppress(Exception):  # one that is stuck in the kernel is left behind
            self._child.wait(GRACE)
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        with contextlib.suppress(OSError):
            os.close(self._errors)

    def _ask(self, what: bytes, key: str, value: bytes, seconds: float = 0.0) -> bytes | None:
        name = key.encode()
        request = _KEY.pack(what, len(name)) + name + value
        end = time.monotonic() + seconds + TALK_SECONDS
        self._send(_LENGTH.pack(len(request)) + request, end)
        return self._receive(end, late="no answer")

    def _send(self, message: bytes, end: float) -> None:
        left = memoryview(message)
        while left:
            self._wait(self._in, select.POLLOUT, end, "it takes nothing")
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._gone() from None

    def _receive(self, end: float, *, late: str) -> bytes | None:
        """An answer; None: it is not there, or, where `late` is empty, not yet."""
        if not late:
            if not self._is_ready(self._out, select.POLLIN, end):
                return None
            late, end = "it begins to speak and stops", time.monotonic() + _SENTENCE_SECONDS
        length = _LENGTH.unpack(self._read(_LENGTH.size, end, late))[0]
        if not 0 < length <= LIMIT + 2:
            raise Unreachable(f"the store at {self.where} answers with {length} bytes")
        answer = self._read(length, end, late)
        if answer[:1] == b"!":
            raise Unreachable(self._explained(answer[1:].decode("utf-8", "replace")))
        return answer[1:] if answer[:1] == b"+" else None

    def _read(self, length: int, end: float, late: str) -> bytes:
        found = bytearray()
        while len(found) < length:
            self._wait(self._out, select.POLLIN, end, late)
            chunk = os.read(self._out, min(length - len(found), 1 << 20))
            if not chunk:
                raise self._gone()
            found += chunk
        return bytes(found)

    def _wait(self, pipe: int, event: int, end: float, late: str) -> None:
        if not self._is_ready(pipe, event, end):
            raise Unreachable(f"the store at {self.where}: {late}")

    def _is_ready(self, pipe: int, event: int, end: float) -> bool:
        poll = select.poll()
        poll.register(pipe, event)
        return bool(poll.poll(max(0.0, end - time.monotonic()) * 1000))

    def _gone(self) -> Unreachable:
        how = "ended"
        with contextlib.suppress(Exception):
            code = self._child.wait(GRACE)
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Unreachable(f"{self._python}, which holds the store, is gone ({how}){self._last()}")

    def _last(self) -> str:
        """The last line that it wrote to stderr."""
        raw = os.pread(self._errors, 4096, max(0, os.fstat(self._errors).st_size - 4096))
        lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines()]
        return next((f": {line[:300]}" for line in reversed(lines) if line), "")

    def _explained(self, words: str) -> str:
        if words == "no torch":
            return f"no torch in {self._python}: {_SHARE}, or name the job's Python with --python"
        if "EADDRINUSE" in words or "in use" in words:
            return f"port {self.where.rpartition(':')[2]} is taken: --meet-port PORT ({words})"
        return f"the store at {self.where}: {words}"
