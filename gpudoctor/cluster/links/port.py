"""The very port that the job's master will listen on: taken for a moment, and tried."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gpudoctor.cluster.links import wire
from gpudoctor.cluster.links.card import Card
from gpudoctor.facts.links import PortTry
from gpudoctor.probes.names import resolve
from gpudoctor.probes.way import is_ip

RESOLVE_SECONDS = 3.0
CONNECT_SECONDS = 3.0
GREET_SECONDS = 4.0
LEAVE_SECONDS = 1.0  # a guest that has been greeted closes at once


@contextmanager
def held(port: int, card: Card) -> Iterator[str]:
    """Listen on a port of all addresses; gives the errno's name where that cannot be had.

    Whoever connects is told the second half of the card's token; what it says is not read.
    """
    try:
        listener = _listener(port)
    except OSError as error:
        yield wire.name_of(error)
        return
    word = wire.ANSWER.pack(wire.MAGIC, card.answer)

    def greet() -> None:
        while True:
            try:
                guest, _ = listener.accept()
            except OSError:  # closed
                return
            with guest, suppress(OSError):
                guest.settimeout(LEAVE_SECONDS)
                # Whoever closes first keeps the port for a minute, and this one the job needs:
                # a guest that does not close is cut off, which leaves nothing.
                guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                guest.sendall(word)
                guest.recv(1)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    try:
        yield ""
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        listener.close()
        thread.join(1.0)


def tried(source: str, master: str, port: int, card: Card) -> PortTry:
    """Connect to it as ranks will: by the master's name or address.

    Args:
        source: this node's name.
        master: MASTER_ADDR.
        port: MASTER_PORT.
        card: of the node that holds it.
    """
    addresses = (master,) if is_ip(master) else resolve(master, RESOLVE_SECONDS).addresses
    errors = []
    for ip in addresses:  # all of them, as TCPStore does; the first that answers decides
        error = _try(ip, port, card)
        if not error:
            return PortTry(source=source)
        errors.append(error)
    return PortTry(source=source, error=errors[0] if errors else "EAI_NONAME")


def _try(ip: str, port: int, card: Card) -> str:
    try:
        with socket.create_connection((ip, port), timeout=CONNECT_SECONDS) as sock:
            try:
                said = wire.receive(sock, wire.ANSWER.size, time.monotonic() + GREET_SECONDS)
            except TimeoutError:
                return "SILENT"
            except wire.Cut:
                return "STRANGER"
    except OSError as error:
        return wire.name_of(error)
    return "" if said == wire.ANSWER.pack(wire.MAGIC, card.answer) else "STRANGER"


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and wire.name_of(error) == "EADDRINUSE":
            raise
        return socket.create_server(("0.0.0.0", port), backlog=1024)
