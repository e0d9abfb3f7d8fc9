"""Follow logs as tail -F does: they may not be there yet, be rotated, or be cut."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence

from gpudoctor.probes import error_words
from gpudoctor.watch.known import Reader
from gpudoctor.watch.look import Logs, Told

SECONDS = 2.0  # of reading in one look; the next look goes on
PIECE = 1 << 20  # bytes
LONGEST = 1 << 16  # bytes of a line that is not complete
NOT_THERE = "not there yet"


class LogsSource:
    """What new lines of files tell. What stands in them at the beginning is not new."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [Followed(path) for path in paths]
        self._reader = Reader()

    def __call__(self) -> Logs:
        until = time.monotonic() + SECONDS
        told: list[Told] = []
        for file in self._files:
            for text in file.texts(until):
                told += self._reader.read(file.path, text)
        told += self._reader.chosen()
        self._files.append(self._files.pop(0))  # one that grows too fast starves no other
        unread = {file.path: file.unread for file in self._files if file.unread}
        return Logs(told=tuple(told), unread=unread)


class Followed:
    """A file to which lines are added.

    Attributes:
        unread: why it cannot be read; empty: it can.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.unread = ""
        self._file = -1
        self._rest = b""
        self._open()
        if self._file >= 0:
            with contextlib.suppress(OSError):  # a pipe has no end to go to
                os.lseek(self._file, 0, os.SEEK_END)

    def texts(self, until: float) -> Iterator[bytes]:
        """Complete lines that have come since, many at once."""
        yield from self._new(until)
        if time.monotonic() < until and self._is_another():
            yield from self._new(until)  # of the old one, what came meanwhile
            if self._rest:
                yield self._rest + b"\n"
            self._rest = b""
            self._open()
            yield from self._new(until)

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self.unread = -1, ""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self.unread = NOT_THERE
        except OSError as error:
            self.unread = error_words(error)
        else:
            if stat.S_ISDIR(os.fstat(file).st_mode):
                self.unread = "a directory"
                os.close(file)
            else:
                self._file = file

    def _new(self, until: float) -> Iterator[bytes]:
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):
                os.lseek(self._file, 0, os.SEEK_SET)  # it was cut: what is there now is new
                self._rest = b""
        while time.monotonic() < until and (piece := self._piece()):
            text = self._rest + piece.replace(b"\r", b"\n")
            end = text.rfind(b"\n") + 1
            self._rest = text[end:]
            if len(self._rest) > LONGEST:  # who writes no lines is read all the same
                end, self._rest = len(text), b""
            if end:
                yield text[:end]

    def _piece(self) -> bytes:
        try:
            return os.read(self._file, PIECE)
        except OSError:  # of a pipe: nothing is there now
            return b""

    def _is_another(self) -> bool:
        """Whether the path leads to another file than the one that is open."""
        try:
            there = os.stat(self.path)
        except OSError:
            return False  # moved away, and the new one not made yet: there may be more in the old
        if self._file < 0:
            return not stat.S_ISDIR(there.st_mode)
        here = os.fstat(self._file)
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
