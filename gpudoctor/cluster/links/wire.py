"""What two peers say to each other: pieces of fixed size, each with its time limit."""

import errno
import socket
import struct
import sys
import time

from msgspec import Struct

MAGIC = b"gpudoctor 1\n"
PROBE, STREAM = b"P", b"T"  # what a connection is for
HELLO = struct.Struct("!12s32scHH")  # magic, what the card says to ask, what for, round, who
ANSWER = struct.Struct("!12s32s")  # magic, what the card says to answer
WAIT, GO, BUSY = b"w", b"g", b"b"  # not yet, now, now but not alone
ORDER = struct.Struct("!cI")  # what is to come, and its bytes
PING, LOAD = b"p", b"l"
AWAY = b"a"  # nothing comes for so many milliseconds, in place of bytes
PONG = struct.Struct("!dd")  # when it came and when it was answered, by the wall clock
LOADED = struct.Struct("!I")
SPAN = struct.Struct("!d")  # for how long a stream is measured
COUNT = struct.Struct("!H")
SAMPLE = struct.Struct("!dQ")  # when, by the receiver's monotonic clock; bytes so far

# linux/in.h, linux/in6.h: Python names them from 3.14 on.
_IP_MTU, _IPV6_MTU = 14, 24


class Cut(ConnectionError):
    """The other end closed the connection before all was said."""


def receive(sock: socket.socket, size: int, until: float) -> bytes:
    """Exactly so many bytes.

    Raises:
        TimeoutError: they have not all come by then.
        Cut: the other end closed before.
    """
    got = bytearray()
    while len(got) < size:
        sock.settimeout(max(0.001, until - time.monotonic()))
        chunk = sock.recv(min(size - len(got), 1 << 16))
        if not chunk:
            raise Cut(errno.ECONNRESET, "closed")
        got += chunk
        if time.monotonic() >= until and len(got) < size:
            raise TimeoutError
    return bytes(got)


def send(sock: socket.socket, data: bytes, until: float) -> None:
    """All of it, by then, or TimeoutError."""
    sock.settimeout(max(0.001, until - time.monotonic()))
    sock.sendall(data)


class Told(Struct, frozen=True):
    """What the kernel knows of a connection; None: it does not say."""

    mss: int | None = None
    path_mtu: int | None = None
    retransmits: int | None = None


def told(sock: socket.socket) -> Told:
    """Of `struct tcp_info` (linux/tcp.h) and IP_MTU."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:  # a sandbox's own TCP
        return Told()
    words = [
        int.from_bytes(info[at : at + 4], sys.byteorder) if len(info) >= at + 4 else None
        for at in (16, 60, 100)
    ]
    mss, path_mtu, retransmits = words
    try:
        if sock.family == socket.AF_INET6:
            path_mtu = sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
        else:
            path_mtu = sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    except OSError:
        pass
    return Told(mss or None, path_mtu or None, retransmits)


def name_of(error: OSError) -> str:
    """ "ECONNREFUSED"; of a time that ran out "ETIMEDOUT"."""
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno or 0, str(error.errno or type(error).__name__))
