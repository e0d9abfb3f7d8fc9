"""Reports out of files, directories and streams, one after another."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from gpudoctor.report import LIMIT_BYTES

CHUNK = 1 << 18
WHOLE = 4 << 20  # files up to this size are read at once
GZIP = b"\x1f\x8b"
SPACE = b" \t\r\n"
TOO_LARGE = f"more than {LIMIT_BYTES >> 20} MiB; a node's report is far smaller"


class Reads(Protocol):
    """A file, or what can be read like one."""

    def read(self, size: int = -1, /) -> bytes: ...


class Piece(Struct, frozen=True):
    """What should be one report, and where it stood; or why there is none to be read."""

    source: str
    raw: bytes = b""
    error: str = ""


def pieces(inputs: Sequence[str]) -> Iterator[Piece]:
    """All reports in the inputs.

    Args:
        inputs: files, directories (in them, at any depth, *.json and *.json.gz), "-" for stdin.
            A file or stdin may hold several reports, one after another.
    """
    for given in inputs:
        if given == "-":
            stdin = sys.stdin.buffer
            yield from in_stream(stdin.read(CHUNK), stdin, "stdin")
        elif (path := Path(given)).is_dir():
            yield from _in_folder(path)
        else:
            yield from _in_file(path)


def _in_folder(folder: Path) -> Iterator[Piece]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        yield Piece(str(folder), error=_words(error))
        return
    for path in inside:
        if path.name.endswith((".json", ".json.gz")):
            if path.is_file():  # no pipe, no device
                yield from _in_file(path)
        elif path.is_dir() and not path.is_symlink():
            yield from _in_folder(path)


def _in_file(path: Path) -> Iterator[Piece]:
    try:
        if path.stat().st_size <= WHOLE:
            raw = path.read_bytes()
            packed = raw.startswith(GZIP)
            yield from in_stream(raw, io.BytesIO(), str(path)) if packed else _split(raw, path)
            return
        with path.open("rb") as file:
            yield from in_stream(file.read(CHUNK), file, str(path))
    except OSError as error:
        yield Piece(str(path), error=_words(error))


def in_stream(start: bytes, rest: Reads, source: str) -> Iterator[Piece]:
    """All reports of a stream, packed or not, of which the start has been read."""
    if not start.startswith(GZIP):
        yield from _split(start, source, rest)
        return
    try:
        with gzip.GzipFile(fileobj=_Again(start, rest)) as unpacked:  # type: ignore[call-overload]
            yield from _split(unpacked.read(CHUNK), source, unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Piece(source, error=f"not whole as gzip ({error})")


class _Again:
    """A stream whose start has been read already."""

    def __init__(self, start: bytes, rest: Reads) -> None:
        self._start, self._rest = start, rest

    def read(self, size: int = -1) -> bytes:
        if not self._start:
            return self._rest.read(size)
        part = self._start if size < 0 else self._start[:size]
        self._start = self._start[len(part) :]
        return part + self._rest.read() if size < 0 else part


def _split(start: bytes, source: object, stream: Reads | None = None) -> Iterator[Piece]:
    """The pieces of a stream; nearly always it holds just one."""
    buffer, at, searched, number, skipping, ended = start, 0, 1, 0, False, stream is None
    while True:
        while (cut := _next_start(buffer, at, searched)) > at:
            number += 1
            if not skipping:
                yield Piece(f"{source}, report {number}", buffer[at:cut])
            at, searched, skipping = cut, cut + 1, False
        if ended or stream is None:
            break
        searched = max(at + 1, len(buffer) - 64)
        if len(buffer) - at > LIMIT_BYTES:
            if not skipping:
                yield Piece(str(source), error=TOO_LARGE)
            at, skipping = len(buffer) - 64, True
            searched = at
        chunk = stream.read(max(CHUNK, len(buffer) - at))
        buffer, searched, at = buffer[at:] + chunk, searched - at, 0
        ended = not chunk
    rest = buffer[at:]
    if not skipping and (rest.strip() or not number):
        yield Piece(f"{source}, report {number + 1}" if number else str(source), rest)


def _next_start(buffer: bytes, at: int, searched: int) -> int:
    """Where the report after the one at a place starts, or -1.

    All reports begin with their schema. Inside a report there is no such object at the start of
    a line, and none right after another: between them stands a comma.
    """
    found = buffer.find(b'"schema"', searched)
    while found >= 0:
        brace = _before(buffer, found)
        if brace > at and buffer[brace] == ord("{"):
            if buffer[brace - 1] == ord("\n"):
                return brace
            last = _before(buffer, brace)
            if last >= 0 and buffer[last] == ord("}"):
                return brace
        found = buffer.find(b'"schema"', found + 1)
    return -1


def _before(buffer: bytes, place: int) -> int:
    """Where the last byte before a place stands that is no space."""
    place -= 1
    while place >= 0 and buffer[place] in SPACE:
        place -= 1
    return place


def _words(error: OSError) -> str:
    return error.strerror or str(error)
