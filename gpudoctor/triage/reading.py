"""Logs as pieces of whole lines, however large: files, directories, gzip, stdin."""

import importlib
import io
import os
import re
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import msgspec
from msgspec import Struct

PIECE = 1 << 20  # bytes that are read at once
LINE = 64 << 10  # bytes of a longer line that are kept of its beginning, and of its end
WAIT = 100  # ms after which to look whether a signal came
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9A-B]|[=>78cDEHM])"
)
_END = re.compile(rb"[\r\n]")
# attempt_0/3/stderr.log; rank3.log, n1-rank_3_err.log, rank3/stdout.log; not lora_rank16.log
_RANK = re.compile(
    r"(?:.*/)?attempt_\d+/(\d{1,6})/[^/]+"
    r"|(?:.*[/._-])?(?<!lora[._-])(?<!low[._-])rank[_-]?(\d{1,6})(?![0-9A-Za-z])[^/]*(?:/[^/]*)?"
)
_LOGS = re.compile(r"(?:.*\.)?(?:log|out|err|txt|stdout|stderr|output|error)(?:[.-]\d+)?(?:\.gz)?")


class Unreadable(Exception):
    """A log, or the rest of it, cannot be read; the message says why."""


class Source(Struct, frozen=True):
    """Where lines come from; the rank is that which a file's path names."""

    name: str
    open: Callable[[], IO[bytes]]
    rank: int | None = None


def sources(paths: Iterable[str]) -> Iterator[Source]:
    """What the arguments name, a directory's logs in the order of their numbers."""
    for path in dict.fromkeys(paths):
        if path == "-":
            yield Source("stdin", _stdin)
        elif os.path.isdir(path):
            inside = (
                os.path.join(folder, name)
                for folder, _, names in os.walk(path)
                for name in names
                if _LOGS.fullmatch(name)
            )
            for file in sorted(filter(os.path.isfile, inside), key=_by_numbers):
                yield _file(file)
        else:
            yield _file(path)


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise Unreadable("it is closed")
    return sys.stdin.buffer


def _file(path: str) -> Source:
    match = _RANK.fullmatch(path)
    return Source(path, lambda: _opened(path), int(match[1] or match[2]) if match else None)


def _opened(path: str) -> IO[bytes]:
    """A FIFO too, before somebody writes to it: what waits then can be interrupted."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(number, True)
    return open(number, "rb")


def _by_numbers(path: str) -> list[str | tuple[int, str]]:
    """So that rank 10 comes after rank 9."""
    return [f"{int(part):020}" if part.isdecimal() else part for part in re.split(r"(\d+)", path)]


def pieces(source: Source, stopped: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
    """The text, cut at ends of lines, without what colours it on a terminal.

    Of a line that goes on and on the middle is left out.

    Raises:
        Unreadable: from here on, or from the beginning; the message says why.
    """
    try:
        yield from _pieces(source, stopped)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except (EOFError, zlib.error) as error:
        raise Unreadable(f"packed, and damaged: {error}") from None


def _pieces(source: Source, stopped: Callable[[], bool]) -> Iterator[bytes]:
    rest, skipping = b"", False
    with source.open() as raw, _unpacked(_patient(raw, stopped)) as file:
        # What a pipe has so far is told, should the rest never come.
        read = file.read1 if isinstance(file, io.BufferedReader) else file.read
        while piece := read(PIECE):
            if skipping:
                end = _END.search(piece)
                stop = end.start() if end else len(piece)
                rest = rest[:LINE] + (rest[LINE:] + piece[:stop])[-LINE:]
                if end is None:
                    continue
                piece, skipping = piece[stop:], False
            last = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
            whole, tail = (rest + piece[:last], piece[last:]) if last else (b"", rest + piece)
            if whole:
                yield _clean(whole)
            if len(tail) > 2 * LINE:
                tail, skipping = tail[:LINE] + tail[-LINE:], True
            rest = tail
    if rest:
        yield _clean(rest)


def _clean(text: bytes) -> bytes:
    if text.startswith(_ENTRY):
        text = b"\n".join(map(_unwrapped, text.split(b"\n")))
    return _ESCAPES.sub(b"", text) if b"\x1b" in text else text


class _Entry(Struct):
    """A line as docker's json-file driver keeps it."""

    log: str
    time: str = ""


_ENTRY = b'{"log":"'
_entry = msgspec.json.Decoder(_Entry).decode


def _unwrapped(line: bytes) -> bytes:
    if not line.startswith(_ENTRY):
        return line
    try:
        entry = _entry(line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # cut off
        return line
    return f"{entry.time} {entry.log.rstrip()}".lstrip().replace("\n", " ").encode()


class _Patient(io.RawIOBase):
    """What may keep one waiting, as pipes and terminals do, until a signal comes."""

    def __init__(self, number: int, stopped: Callable[[], bool]) -> None:
        self._number = number
        self._stopped = stopped
        self._poll = select.poll()
        self._poll.register(number, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._poll.poll(WAIT):
            if self._stopped():
                raise Unreadable("interrupted")
        return os.readv(self._number, [buffer])


def _patient(file: IO[bytes], stopped: Callable[[], bool]) -> IO[bytes]:
    try:
        number = file.fileno()
    except OSError:  # it is none of the system's
        return file
    if stat.S_ISREG(os.fstat(number).st_mode):
        return file
    return io.BufferedReader(_Patient(number, stopped))


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    start: bytes = file.peek(6)[:6]  # type: ignore[attr-defined]
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            opened: IO[bytes] = importlib.import_module(name).open(file)
            return opened
    return file


_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "lzma"}
