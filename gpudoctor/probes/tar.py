"""Walk over the members of a tar by its headers alone. It may be cut, corrupt or hostile."""

import os
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from gpudoctor.units import size

BLOCK = 512
SPECIAL = 1 << 20  # bytes of a long name or of extended headers: what Go's archive/tar takes
HUGE = 1 << 50  # bytes; no member has so many
PIECE = 1 << 20
TORN = "what is compressed"
_NO_DATA = b"123456"  # links, devices, directories, pipes


class Corrupt(Exception):
    """What stands here is no header."""


class Garbled(Corrupt):
    """What is compressed cannot be uncompressed."""


class Cut(Exception):
    """The file ends too early: within a member, or before the end mark."""

    def __init__(self, inside: str, lacking: int) -> None:
        super().__init__(inside)
        self.inside, self.lacking = inside, lacking


class Unread(Exception):
    """Reading was given up."""


class Source(Protocol):
    """Where the bytes of a tar come from; read at growing offsets only."""

    end: int | None  # where the last byte was, once known
    torn: bool  # what is compressed ended before its time

    def read(self, offset: int, count: int) -> bytes: ...


class Plain:
    """A tar as it is: reading goes where it is told, and takes long only over a network."""

    def __init__(self, descriptor: int, until: float) -> None:
        self._descriptor, self._until = descriptor, until
        self.end: int | None = os.fstat(descriptor).st_size
        self.torn = False

    def read(self, offset: int, count: int) -> bytes:
        if time.monotonic() > self._until:
            raise Unread(f"its headers could be read in time up to {size(offset)}")
        return os.pread(self._descriptor, count, offset)


class Compressed:
    """One that must be uncompressed all the way, within a time."""

    def __init__(self, stream: "Stream", until: float) -> None:
        self._stream, self._until, self._at = stream, until, 0
        self.end: int | None = None
        self.torn = False

    def read(self, offset: int, count: int) -> bytes:
        while self._at < offset and self._piece(min(PIECE, offset - self._at)):
            pass
        chunks = []
        while count > 0 and (chunk := self._piece(min(PIECE, count))):
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    def drain(self) -> None:
        """Read what is behind the end mark: the check sum of all is there."""
        while self._piece(PIECE):
            pass
        if self.torn:
            raise Cut(TORN, 0)

    def _piece(self, count: int) -> bytes:
        if time.monotonic() > self._until:
            raise Unread(f"only its first {size(self._at)} could be read in time")
        try:
            piece = self._stream.read(count)
        except EOFError:
            piece, self.torn = b"", True
        except Exception as error:  # zlib.error, OSError
            raise Garbled(str(error)) from None
        self._at += len(piece)
        if not piece:
            self.end = self._at
        return piece


class Stream(Protocol):
    def read(self, count: int, /) -> bytes: ...


class Member(NamedTuple):
    """What a header tells; `data` is the offset of its `size` bytes."""

    name: str
    kind: bytes
    data: int
    size: int
    target: str


class Walk:
    """The members, one after the other; `at` is the offset of the header that is read."""

    def __init__(self, source: Source) -> None:
        self.source, self.at = source, 0

    def __iter__(self) -> Iterator[Member]:
        """Every member up to the end mark.

        Raises:
            Corrupt, Cut, Unread: it does not go on.
        """
        member = Member("the first header", b"", 0, 0, "")
        extended: dict[str, str] = {}
        while True:
            block = self._header(member)
            if not any(block):
                return
            member = _parse(block, self.at + BLOCK, extended)
            if member.kind in b"xLK":
                if member.size > SPECIAL:
                    raise Corrupt(f"an extended header of {member.size} bytes")
                data = self.source.read(member.data, member.size)
                extended |= _extended(member.kind, data)
            elif member.kind != b"g":
                extended = {}
                yield member
            self.at = member.data + -(-member.size // BLOCK) * BLOCK

    def _header(self, before: Member) -> bytes:
        block = self.source.read(self.at, BLOCK)
        if len(block) == BLOCK:
            return block
        end = self.source.end or 0
        # How much of a compressed file is missing, its headers do not tell.
        lacking = self.at + 2 * BLOCK - end if isinstance(self.source, Plain) else 0
        inside = before.name if end < before.data + before.size else ""
        raise Cut(inside or (TORN if self.source.torn else ""), lacking)


def _parse(block: bytes, data: int, extended: dict[str, str]) -> Member:
    """A header, with what extended headers before it say.

    Raises:
        Corrupt: it is none.
    """
    told = block[148:156].strip(b" \0")
    summed = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    try:
        if int(told or b"0", 8) != summed:
            raise Corrupt("the check sum of a header is wrong")
        length = int(extended["size"]) if "size" in extended else _number(block[124:136])
    except ValueError:
        raise Corrupt("a header without numbers") from None
    kind = block[156:157]
    if not 0 <= length < HUGE:
        raise Corrupt(f"a member of {length} bytes")
    if kind == b"S":
        raise Unread("sparse members are not read")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if kind in b"xgLK":
        return Member("an extended header", kind, data, length, "")
    name = extended.get("path", name)[:BLOCK]
    target = extended.get("linkpath", _text(block[157:257]))[:BLOCK]
    return Member(name.removeprefix("./"), kind, data, 0 if kind in _NO_DATA else length, target)


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _extended(kind: bytes, data: bytes) -> dict[str, str]:
    if kind == b"L":
        return {"path": _text(data)}
    if kind == b"K":
        return {"linkpath": _text(data)}
    records = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) < int(length[:8]) <= len(data):
            break
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            records[key.decode()] = value.decode("utf-8", "replace")
        data = data[int(length) :]
    return records
