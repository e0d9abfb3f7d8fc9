"""Which way the kernel sends packets to an address. Asking sends none."""

import errno
import struct

from msgspec import Struct
from msgspec.structs import replace

# linux/rtnetlink.h, linux/sockios.h
_LOCAL = 2  # RTN_LOCAL
_REFUSALS = {6: "EINVAL", 7: "EHOSTUNREACH", 8: "EACCES"}  # RTN_BLACKHOLE, _UNREACHABLE, _PROHIBIT
_DST, _OIF, _PREFSRC, _METRICS, _MTU = 1, 4, 7, 8, 2
_GET_MTU = 0x8921
_HEADER, _ROUTE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=8BI"), struct.Struct("=HH")


class Way(Struct, frozen=True):
    """The kernel's answer; `error` is the name of its refusal, "ENETUNREACH"."""

    interface: str = ""
    source: str = ""
    gateway: str = ""  # empty: on the link itself
    mtu: int | None = None
    here: bool = False  # the address is this machine's own
    error: str = ""


def way_to(ip: str) -> Way | None:
    """The way to an address; None: the kernel cannot be asked, as in some sandboxes."""
    import socket

    from gpudoctor.probes import netlink

    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    bare, _, zone = ip.partition("%")
    packed = socket.inet_pton(family, bare)
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + _attribute(_DST, packed)
    if zone:
        try:
            body += _attribute(_OIF, struct.pack("=I", socket.if_nametoindex(zone)))
        except OSError:
            return Way(error="ENODEV")
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.settimeout(netlink.TIMEOUT)
            kernel.send(_HEADER.pack(_HEADER.size + len(body), netlink.GET_ROUTE, 1, 1, 0) + body)
            way = parse(kernel.recv(1 << 14))
    except OSError:
        return None
    if way.interface and way.mtu is None and not way.here:
        return replace(way, mtu=_mtu(way.interface))
    return way


def is_ip(text: str) -> bool:
    """Whether a text is an address, not a name."""
    import socket

    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def parse(answer: bytes) -> Way:
    """The way in an answer of the kernel; the interface's name by its index on this machine."""
    import socket

    from gpudoctor.probes import netlink

    kind, _, body = next(netlink.messages(answer))
    if kind == netlink.ERROR:
        number = -struct.unpack_from("=i", body)[0]
        return Way(error=errno.errorcode.get(number, str(number)))
    family, _, _, _, _, _, _, route, _ = _ROUTE.unpack_from(body)
    found = netlink.attributes(body[_ROUTE.size :])
    metrics = netlink.attributes(found.get(_METRICS, b""))
    return Way(
        interface=socket.if_indextoname(*struct.unpack("=I", found[_OIF])) if _OIF in found else "",
        source=socket.inet_ntop(family, found[_PREFSRC]) if _PREFSRC in found else "",
        gateway=netlink.via(family, found),
        mtu=struct.unpack("=I", metrics[_MTU])[0] if _MTU in metrics else None,
        here=route == _LOCAL,
        error=_REFUSALS.get(route, ""),
    )


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _mtu(interface: str) -> int | None:
    import fcntl
    import socket

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16sI12x", interface.encode(), 0)
            answer = fcntl.ioctl(any_socket, _GET_MTU, request)
            return int(struct.unpack("16sI12x", answer)[1])
    except OSError:
        return None
