"""Follow logs as tail -F does: they may not be there yet, be rotated, or be cut."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from gpudoctor.watch.look import Line

MOST_BYTES = 4 << 20  # of a file in one look; the next look goes on
LONGEST = 1 << 16  # bytes of a line


class LogsSource:
    """New lines of files. What stands in them at the beginning is not new."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [_Followed(path) for path in paths]

    def __call__(self) -> tuple[Line, ...]:
        return tuple(Line(file.path, line) for file in self._files for line in file.lines() if line)


class _Followed:
    def __init__(self, path: str) -> None:
        self.path = path
        self._file = -1
        self._rest = b""
        self._open()
        if self._file >= 0:
            with contextlib.suppress(OSError):  # a pipe has no end to go to
                os.lseek(self._file, 0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        """Complete lines that have come since."""
        text = self._new()
        if len(text) < MOST_BYTES and self._is_another():
            text += b"\n" if text or self._rest else b""
            self._open()
            text += self._new()
        *lines, self._rest = (self._rest + text).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            yield line[:LONGEST].decode("utf-8", "replace")

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._file = -1

    def _new(self) -> bytes:
        if self._file < 0:
            return b""
        chunks, left = [], MOST_BYTES
        with contextlib.suppress(OSError):
            if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):
                os.lseek(self._file, 0, os.SEEK_SET)  # it was cut: what is there now is new
                self._rest = b""
        with contextlib.suppress(OSError):
            while left > 0 and (chunk := os.read(self._file, min(left, 1 << 18))):
                chunks.append(chunk)
                left -= len(chunk)
        return b"".join(chunks)

    def _is_another(self) -> bool:
        """Whether the path leads to another file than the one that is open."""
        try:
            there = os.stat(self.path)
        except OSError:
            return False  # moved away, and the new one not made yet: there may be more in the old
        if self._file < 0:
            return True
        here = os.fstat(self._file)
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
