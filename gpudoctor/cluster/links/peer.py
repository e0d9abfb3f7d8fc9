"""A node as the others see it: it listens on a fresh port, and answers those who know its card.

One thread takes all connections and reads who they are; each that knows the card gets a thread.
So a peer answers at once, whatever its own rounds are waiting for, and strangers cost little.
"""

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from gpudoctor.cluster.links import wire
from gpudoctor.cluster.links.card import Card, Own
from gpudoctor.snapshot import encode

STRANGERS = 64  # connections that have not said who they are; the oldest goes
GUESTS = 256  # connections that have
HELLO_SECONDS = 5.0  # to say who one is
LATE_SECONDS = 20.0  # a guest waits so long until this node comes to the round
HEARTBEAT = 0.5  # seconds: while it waits it is told so
IDLE_SECONDS = 5.0  # that nothing comes from a guest, who then is gone
LOAD_LIMIT = 4 << 20  # bytes that one may order to be taken
LONGEST_STREAM = 10.0  # seconds
ENOUGH, MORE = 5, 2.0  # samples, for which a busy machine is given more seconds
SAMPLES = 30  # of one stream: they fit into a packet that no MTU is too small for
_STACK = 1 << 20  # bytes for each thread: resolvers and their modules fit


class _Visit(Struct):
    """A probe by another node; `ended` when it has come to its end."""

    ended: bool = False


class Peer:
    """Listens while it is open, as a context. It has threads then: nothing should fork.

    Args:
        name: of this node, as in Members.
        addresses: as on its card, see `address.own_addresses`; those of data first.
        hostname: that others resolve; without it the kernel's.
        bind: the only address to listen at; without it all, of IPv4 and IPv6.
    """

    def __init__(
        self, name: str, addresses: Sequence[Own], *, hostname: str = "", bind: str = ""
    ) -> None:
        self.listeners = [_listener(bind)]
        self._card = Card(
            name=name,
            hostname=hostname or socket.gethostname(),
            port=self.listeners[0].getsockname()[1],
            token=secrets.token_hex(32),
            addresses=tuple(addresses),
        )
        self._changed = threading.Condition()
        self._round = -1
        self._driving = False
        self._visits: dict[tuple[int, int], _Visit] = {}  # by round and index
        self._guests = 0
        self._closed, self._close = socket.socketpair()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def card(self) -> bytes:
        """To be published; `card.read` reads it."""
        return encode(self._card)

    def __enter__(self) -> "Peer":
        threading.stack_size(_STACK)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()
        self._thread.join()
        self._closed.close()
        for listener in self.listeners:
            listener.close()

    # What the rounds of this node say.

    def begin(self, number: int, *, driving: bool) -> None:
        """This node is at a round; while it drives, its partner's probe has to wait."""
        with self._changed:
            self._round, self._driving = number, driving
            self._changed.notify_all()

    def drove(self) -> None:
        """Its own probe is done."""
        with self._changed:
            self._driving = False
            self._changed.notify_all()

    def await_visit(self, number: int, source: int, *, first: float, last: float) -> bool:
        """Whether the partner's probe came to its end.

        Args:
            number: the round.
            source: the partner's index.
            first: when it must have begun, by the monotonic clock.
            last: when it must be over.
        """
        with self._changed:
            while True:
                visit = self._visits.get((number, source))
                if visit and visit.ended:
                    return True
                left = (last if visit else min(first, last)) - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)

    # What others ask.

    def _take(self) -> None:
        """Take connections, until this is closed, and read what they say first."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._closed, selectors.EVENT_READ)
            for listener in self.listeners:
                selector.register(listener, selectors.EVENT_READ)
            said: dict[socket.socket, tuple[float, bytearray]] = {}

            def forget(stranger: socket.socket) -> None:
                selector.unregister(stranger)
                del said[stranger]

            while True:
                for key, _ in selector.select(1.0):
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    if ready is self._closed:
                        for stranger in said:
                            stranger.close()
                        return
                    if ready in self.listeners:
                        try:
                            stranger, _ = ready.accept()
                        except OSError:  # gone again, or no more descriptors for now
                            time.sleep(0.01)
                            continue
                        stranger.setblocking(False)
                        selector.register(stranger, selectors.EVENT_READ)
                        said[stranger] = (time.monotonic(), bytearray())
                    elif ready in said and (whole := _more(ready, said[ready][1])) is not None:
                        hello = bytes(said[ready][1])
                        forget(ready)
                        if not whole or not self._welcome(ready, hello):
                            ready.close()
                old = [s for s in said if said[s][0] < time.monotonic() - HELLO_SECONDS]
                for stranger in [*old, *list(said)[len(old) : len(said) - STRANGERS]]:
                    forget(stranger)
                    stranger.close()

    def _welcome(self, guest: socket.socket, hello: bytes) -> bool:
        """Give a thread to one who knows the card."""
        magic, asked, what, number, source = wire.HELLO.unpack(hello)
        known = secrets.compare_digest(magic + asked, wire.MAGIC + self._card.ask)
        with self._changed:
            if not known or self._guests >= GUESTS:
                return False
            self._guests += 1
            if what == wire.PROBE:
                self._visits[number, source] = _Visit()
                self._changed.notify_all()
        try:
            threading.Thread(
                target=self._serve, args=(guest, what, number, source), daemon=True
            ).start()
        except RuntimeError:  # no more threads
            self._leave(what, number, source)
            return False
        return True

    def _leave(self, what: bytes, number: int, source: int) -> None:
        with self._changed:
            self._guests -= 1
            if what == wire.PROBE:
                self._visits[number, source].ended = True
                self._changed.notify_all()

    def _serve(self, guest: socket.socket, what: bytes, number: int, source: int) -> None:
        try:
            with guest, contextlib.suppress(OSError):
                guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                until = time.monotonic() + HELLO_SECONDS
                wire.send(guest, wire.ANSWER.pack(wire.MAGIC, self._card.answer), until)
                if what == wire.STREAM:
                    measure(guest)
                else:
                    for word in self._words(number):
                        wire.send(guest, word, time.monotonic() + IDLE_SECONDS)
                    obey(guest)
        finally:
            self._leave(what, number, source)

    def _words(self, number: int) -> Iterator[bytes]:
        """What a guest is told until this node is ready for it."""
        end = time.monotonic() + LATE_SECONDS
        while time.monotonic() < end:
            with self._changed:
                if not self._awaits(number):
                    self._changed.wait(HEARTBEAT)
                if self._round > number:
                    break
                ready = self._awaits(number)
            yield wire.GO if ready else wire.WAIT
            if ready:
                return
        yield wire.BUSY

    def _awaits(self, number: int) -> bool:
        return self._round > number or (self._round == number and not self._driving)


def _listener(bind: str) -> socket.socket:
    if bind:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        found = socket.create_server((bind, 0), family=family, backlog=128)
    else:
        try:
            found = socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
        except (OSError, ValueError):  # no IPv6 here
            found = socket.create_server(("0.0.0.0", 0), backlog=128)
    found.setblocking(False)
    return found


def _more(stranger: socket.socket, said: bytearray) -> bool | None:
    """Read on: True when the hello is whole, False when none will come, None: not yet."""
    try:
        chunk = stranger.recv(wire.HELLO.size - len(said))
    except BlockingIOError:
        return None
    except OSError:
        return False
    said += chunk
    if not chunk or not wire.MAGIC.startswith(said[: len(wire.MAGIC)]):
        return False
    return True if len(said) == wire.HELLO.size else None


def obey(guest: socket.socket) -> None:
    """Answer small messages and take large ones, until the guest closes."""
    away = 0.0
    while True:
        order = wire.receive(guest, wire.ORDER.size, time.monotonic() + IDLE_SECONDS + away)
        received = time.time()
        what, size = wire.ORDER.unpack(order)
        until = time.monotonic() + IDLE_SECONDS
        if what == wire.PING:
            wire.send(guest, wire.PONG.pack(received, time.time()), until)
        elif what == wire.LOAD and size <= LOAD_LIMIT:
            wire.send(guest, wire.LOADED.pack(len(wire.receive(guest, size, until))), until)
        elif what == wire.AWAY:
            away = min(size / 1000, LONGEST_STREAM)
        else:
            return


def measure(guest: socket.socket) -> None:
    """Take all that comes for a while, and tell when how much of it had come."""
    (seconds,) = wire.SPAN.unpack(
        wire.receive(guest, wire.SPAN.size, time.monotonic() + HELLO_SECONDS)
    )
    if not seconds > 0:
        return
    seconds = min(seconds, LONGEST_STREAM)
    room = memoryview(bytearray(1 << 20))
    guest.settimeout(IDLE_SECONDS)
    count = guest.recv_into(room)
    began = last = time.monotonic()
    samples = [(began, count)]
    while last < began + seconds or (len(samples) < ENOUGH and last < began + seconds + MORE):
        guest.settimeout(began + seconds + MORE - last)
        try:
            more = guest.recv_into(room)
        except TimeoutError:
            break
        if not more:
            break
        last = time.monotonic()
        count += more
        if last - samples[-1][0] >= seconds / (SAMPLES - 2):
            samples.append((last, count))
    until = time.monotonic() + HELLO_SECONDS
    told = b"".join(wire.SAMPLE.pack(*sample) for sample in samples)
    wire.send(guest, wire.COUNT.pack(len(samples)) + told, until)
    # The answer would be lost if it closed while there is more to read.
    while guest.recv_into(room):
        if time.monotonic() > until:
            return
