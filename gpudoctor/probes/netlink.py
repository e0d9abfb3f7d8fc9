"""Ask the kernel for links, addresses, routes and rules of routing, by a netlink socket.

`dump` asks; the rest are pure functions of the bytes of one answer each.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping

from msgspec import Struct

from gpudoctor.facts.network import Address

# linux/rtnetlink.h, linux/netlink.h
GET_LINK, GET_ADDRESS, GET_ROUTE, GET_NEIGHBOUR, GET_RULE, GET_QUEUE = 18, 22, 26, 30, 34, 38
ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: something changed meanwhile
_MAIN = 254  # the table of routes that `ip route` shows
_CLONED = 0x200
_BUFFER = 1 << 17  # bytes; the kernel fills at most 32 KiB at a time
_TRIES = 3
TIMEOUT = 2.0  # seconds; a driver that hangs may keep the kernel's lock on links

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_ROUTES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_IN_VAIN = 0x01 | 0x20  # NUD_INCOMPLETE, NUD_FAILED of linux/neighbour.h
_OWN_RULES = (0, 32766, 32767)  # priorities of those that every kernel has


class RawLink(Struct, frozen=True):
    """A link as the kernel tells it; 0 and empty: not told."""

    ifindex: int
    name: str
    kind: str  # "veth", "bridge", ...; empty: a real device, or the loopback
    type: int  # of linux/if_arp.h: 1 Ethernet, 32 InfiniBand, 772 loopback
    flags: int
    mtu: int
    master: int
    parent: int  # in this namespace
    bus: str  # "pci"
    device: str  # "0000:3b:00.0"
    packets: int | None
    errors: int | None
    carrier_changes: int | None
    dropped: int | None = None


class RawRoute(Struct, frozen=True):
    """A route of the main table."""

    destination: str
    interface: int
    gateway: str
    source: str
    metric: int
    kind: str


def dump(what: int) -> list[bytes]:
    """The answers to a question, without their headers.

    Raises:
        OSError: the kernel does not answer.
    """
    size = 20 if what == GET_QUEUE else 16  # of the question's own structure
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(TIMEOUT)
        for _ in range(_TRIES):
            kernel.send(_HEADER.pack(_HEADER.size + size, what, _REQUEST_DUMP, 1, 0) + bytes(size))
            answers, consistent = _receive(kernel)
            if consistent:
                return answers
    return answers


def _receive(kernel: socket.socket) -> tuple[list[bytes], bool]:
    answers: list[bytes] = []
    consistent = True
    while True:
        for kind, flags, body in messages(kernel.recv(_BUFFER)):
            consistent = consistent and not flags & _INTERRUPTED
            if kind == _DONE:
                return answers, consistent
            if kind == ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, f"netlink: {os.strerror(number)}")
            answers.append(body)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message.

    Raises:
        OSError: these are no messages.
    """
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise OSError(errno.EBADMSG, "netlink: cut short")
        length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            raise OSError(errno.EBADMSG, "netlink: cut short")
        yield kind, flags, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The values of attributes by their numbers."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def link(body: bytes) -> RawLink:
    """Of `struct ifinfomsg` and its attributes."""
    device, index, flags = struct.unpack_from("=2xHiI", body)
    found = attributes(body[16:])
    inner = attributes(found.get(18, b""))
    counts = struct.unpack("=8Q", found[23][:64]) if len(found.get(23, b"")) >= 64 else None
    here = 37 not in found  # IFLA_LINK_NETNSID: its parent is in another namespace
    return RawLink(
        ifindex=index,
        name=_text(found.get(3)),
        kind=_text(inner.get(1)),
        type=device,
        flags=flags,
        mtu=_number(found.get(4)),
        master=_number(found.get(10)),
        parent=_number(found.get(5)) if here else 0,
        bus=_text(found.get(57)),
        device=_text(found.get(56)),
        packets=counts[0] + counts[1] if counts else None,
        errors=counts[4] + counts[5] if counts else None,
        carrier_changes=_number(found[35]) if 35 in found else None,
        dropped=counts[6] + counts[7] if counts else None,
    )


def address(body: bytes, names: Mapping[int, str]) -> tuple[int, Address] | None:
    """The index of an interface and its address, of `struct ifaddrmsg` and its attributes.

    An IPv4 address has a label, which is another name for its interface if it differs.
    """
    family, prefix, _, scope, index = struct.unpack_from("=BBBBI", body)
    found = attributes(body[8:])
    raw = found.get(2, found.get(1))  # an IPv4 one that is point to point has the peer in 1
    if family not in (socket.AF_INET, socket.AF_INET6) or raw is None:
        return None
    ip = socket.inet_ntop(family, raw)
    label = _text(found.get(3))
    return index, Address(
        ip=ip,
        prefix=prefix,
        scope=_SCOPES.get(scope, str(scope)),
        label="" if label == names.get(index) else label,
    )


def route(body: bytes) -> RawRoute | None:
    """Of `struct rtmsg` and its attributes; None: not of the main table, or none of ours."""
    family, bits, _, _, table, _, _, kind, flags = struct.unpack_from("=8BI", body)
    found = attributes(body[12:])
    table = _number(found.get(15)) or table
    if table != _MAIN or flags & _CLONED or kind not in _ROUTES:
        return None
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    metric = _number(found.get(6))
    if 9 in found and len(found[9]) >= 8:  # several ways: the first speaks for all
        length, interface = struct.unpack_from("=H2xi", found[9])
        found = {**found, **attributes(found[9][8:length])}
    else:
        interface = _number(found.get(4))
    nothing = bytes(4 if family == socket.AF_INET else 16)
    return RawRoute(
        destination=f"{socket.inet_ntop(family, found.get(1, nothing))}/{bits}",
        interface=interface,
        gateway=via(family, found),
        source=socket.inet_ntop(family, found[7]) if 7 in found else "",
        metric=metric,
        kind=_ROUTES[kind],
    )


def silent(body: bytes) -> tuple[int, str] | None:
    """The index of an interface and an address beyond it that was asked for and does not answer.

    Of `struct ndmsg` and its attributes; None: it answers, or is none of ours.
    """
    family, index, state = struct.unpack_from("=B3xiH", body)
    found = attributes(body[12:])
    if not state & _IN_VAIN or family not in (socket.AF_INET, socket.AF_INET6) or 1 not in found:
        return None
    return index, socket.inet_ntop(family, found[1])


def is_own_rule(body: bytes) -> bool:
    """Whether somebody added a rule of routing, by `struct fib_rule_hdr` and its attributes."""
    return _number(attributes(body[12:]).get(6)) not in _OWN_RULES


def limit(body: bytes) -> tuple[int, float] | None:
    """The index of an interface, and the Mb/s that a token bucket lets out, of `struct tcmsg`."""
    found = attributes(body[20:])
    if _text(found.get(1)) != "tbf":
        return None
    options = attributes(found.get(2, b""))
    told = options.get(4) or options.get(1, b"")[8:12]  # TCA_TBF_RATE64, or in TCA_TBF_PARMS
    (index,) = struct.unpack_from("=4xi", body)
    return index, int.from_bytes(told, sys.byteorder) * 8 / 1e6


def via(family: int, found: dict[int, bytes]) -> str:
    if 18 in found:  # RTA_VIA: a gateway of the other family
        family = int.from_bytes(found[18][:2], sys.byteorder)
        return socket.inet_ntop(family, found[18][2:])
    return socket.inet_ntop(family, found[5]) if 5 in found else ""


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw[:4], sys.byteorder) if raw else 0
