"""From this node to another: the steps of one Way, each bounded in time."""

import select
import socket
import threading
import time
from typing import Any

from msgspec import Struct

from gpudoctor.cluster.links import steady, wire
from gpudoctor.cluster.links.card import Card
from gpudoctor.facts.links import Way
from gpudoctor.facts.network import Network
from gpudoctor.probes.names import resolve
from gpudoctor.probes.way import way_to
from gpudoctor.rules.clock_offset import Trip, offset

RESOLVE_SECONDS = 3.0
CONNECT_SECONDS = 2.5  # a SYN that is lost goes out again after one
SILENT_SECONDS = 4.0  # a process that is alive says something
SMALL_SECONDS = 4.0
LARGE_SECONDS = 3.0
AFTER_SECONDS = 3.0  # that a stream may take beyond its time
MOST_ADDRESSES = 4
TRIPS = 16
LARGE_BYTES, LARGE_SEGMENTS = 1 << 16, 3
STREAMS = ((25_000, 4), (100_000, 8))  # Mb/s from which one connection is not enough
LOW = 0.8  # of the slower interface's speed: below, it is measured again, and the better counts
_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
_UNSENT = 1 << 20  # bytes that wait in the kernel: the rest would only be thrown away
_CHUNK = bytes(1 << 18)


class Source(Struct, frozen=True):
    """This node, as the one that opens connections."""

    name: str
    index: int
    network: Network | None = None


class _Stopped(Exception):
    """What stopped it, in the words of `Way.error`."""


class Trial:
    """One probe of another node.

    Attributes:
        found: of it, as fields of Way.
        reached: the other end has answered, and knew its card.
    """

    def __init__(self, source: Source, target: Card, number: int) -> None:
        self.found: dict[str, Any] = {
            "source": source.name,
            "target": target.name,
            "own": tuple(own.ip for own in target.addresses),
            "port": target.port,
        }
        self.reached = False
        self._source, self._target, self._number = source, target, number
        self._family = socket.AF_INET
        self._step = "connect"
        self._again = 0  # segments that streams sent again

    def run(self, *, seconds: float, deadline: float) -> Way | None:
        """Go as far as it goes; None where the time of the whole run was over before.

        Args:
            seconds: how long throughput is measured; 0: not at all.
            deadline: of the whole run, by the monotonic clock.
        """
        resolving = _Resolving(self._target.hostname)
        try:
            self._choose()
            with self._connected(wire.PROBE) as sock:
                alone = self._admitted(sock, deadline)
                self._small(sock)
                self._large(sock)
                if seconds and alone:
                    self._throughput(sock, seconds)
                self._note(sock)
        except (OSError, _Stopped) as error:
            self.found["error"] = wire.name_of(error) if isinstance(error, OSError) else str(error)
            self.found["step"] = self._step
        if time.monotonic() >= deadline:
            return None
        return Way(**self.found, **resolving.found())

    def _choose(self) -> None:
        """The first of the target's addresses that leads anywhere from here."""
        first = ""
        for own in self._target.addresses[:MOST_ADDRESSES]:
            way = way_to(own.ip)
            if way and way.error:
                first = first or way.error
                continue
            self.found["address"] = own.ip
            self._family = socket.AF_INET6 if ":" in own.ip else socket.AF_INET
            if way:
                self.found |= {"interface": way.interface, "mtu": way.mtu}
                self._know(way.interface)
            return
        self.found["address"] = self._target.addresses[0].ip
        raise _Stopped(first)

    def _know(self, name: str) -> None:
        """What this node's own facts say of the interface that packets leave by."""
        known = self._source.network.interface(name) if self._source.network else None
        if known:
            rates = [rate for rate in (known.speed_mbps, known.limit_mbps) if rate]
            self.found |= {"mtu": known.mtu, "speed_mbps": min(rates, default=None)}

    def _connected(self, what: bytes) -> socket.socket:
        """A connection to the target that both ends know each other on."""
        try:
            return self._open(what)
        except (wire.Cut, ConnectionResetError, BrokenPipeError):
            pass  # it has just died, or it has no room for a moment, or it is somebody else
        try:
            return self._open(what)
        except wire.Cut:
            raise _Stopped("STRANGER") from None

    def _open(self, what: bytes) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            self._step = "connect" if what == wire.PROBE else self._step
            sock.settimeout(CONNECT_SECONDS)
            sock.connect((self.found["address"], self._target.port))
            self._step = "hello" if what == wire.PROBE else self._step
            self._greet(sock, what)
        except BaseException:
            sock.close()
            raise
        return sock

    def _greet(self, sock: socket.socket, what: bytes) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.monotonic() + SILENT_SECONDS
        hello = (wire.MAGIC, self._target.ask, what, self._number, self._source.index)
        try:
            wire.send(sock, wire.HELLO.pack(*hello), until)
            answer = wire.receive(sock, wire.ANSWER.size, until)
        except TimeoutError:
            raise _Stopped("SILENT") from None
        if answer != wire.ANSWER.pack(wire.MAGIC, self._target.answer):
            raise _Stopped("STRANGER")
        self.reached = True

    def _admitted(self, sock: socket.socket, deadline: float) -> bool:
        """Wait until the target is at this round; whether it is with us alone."""
        while time.monotonic() < deadline:
            try:
                word = wire.receive(sock, 1, time.monotonic() + SILENT_SECONDS)
            except TimeoutError:
                raise _Stopped("SILENT") from None
            if word != wire.WAIT:
                return word == wire.GO
        return False

    def _small(self, sock: socket.socket) -> None:
        self._step = "small"
        until = time.monotonic() + SMALL_SECONDS
        trips = []
        for _ in range(TRIPS):
            began, sent = time.monotonic(), time.time()
            wire.send(sock, wire.ORDER.pack(wire.PING, 0), until)
            answer = wire.receive(sock, wire.PONG.size, until)
            returned, ended = time.time(), time.monotonic()
            received, answered = wire.PONG.unpack(answer)
            trip = Trip(
                sent=sent,
                received=received,
                answered=answered,
                returned=returned,
                seconds=ended - began,
            )
            trips.append(trip)
        found = offset(trips)
        assert found is not None
        self.found |= {
            "rtt_seconds": 2 * found.uncertainty,
            "clock_offset_seconds": found.seconds,
            "clock_uncertainty_seconds": found.uncertainty,
        }
        self._note(sock)

    def _large(self, sock: socket.socket) -> None:
        """Full segments, which an MTU black hole swallows while small ones pass."""
        self._step = "large"
        size = max(LARGE_BYTES, LARGE_SEGMENTS * (self.found.get("mss") or 0))
        until = time.monotonic() + LARGE_SECONDS
        try:
            wire.send(sock, wire.ORDER.pack(wire.LOAD, size) + bytes(size), until)
            wire.receive(sock, wire.LOADED.size, until)
        except TimeoutError:
            self._still_there()
            raise
        finally:
            self._note(sock)

    def _throughput(self, sock: socket.socket, seconds: float) -> None:
        self._step = "throughput"
        away = round(1000 * (seconds + AFTER_SECONDS))
        found: list[float] = []
        for _ in range(2):
            wire.send(sock, wire.ORDER.pack(wire.AWAY, away), time.monotonic() + AFTER_SECONDS)
            rate = self._rate(seconds)
            found += [] if rate is None else [rate]
            self.found["bytes_per_second"] = max(found, default=None)
            if not found or found[0] >= LOW * self._most():
                break

    def _most(self) -> float:
        """Bytes a second that the slower of both interfaces can carry; 0: nobody knows."""
        theirs = [own for own in self._target.addresses if own.ip == self.found["address"]]
        speeds = [self.found.get("speed_mbps"), *(own.speed_mbps for own in theirs)]
        return min(filter(None, speeds), default=0) * 1e6 / 8

    def _rate(self, seconds: float) -> float | None:
        """Bytes a second, measured once."""
        speed = self.found.get("speed_mbps") or 0
        count = max([1, *(streams for floor, streams in STREAMS if speed >= floor)])
        self.found["streams"] = count
        sent = [_Stream(self, seconds) for _ in range(count)]
        for stream in sent:
            stream.start()
        for stream in sent:
            stream.join()
        self._again += sum(stream.retransmits or 0 for stream in sent)
        errors = [stream.error for stream in sent if stream.error]
        if errors and isinstance(errors[0], TimeoutError):
            self._still_there()
        if errors:
            raise errors[0]
        return steady.rate([stream.samples for stream in sent])

    def _still_there(self) -> None:
        """A partner that fell silent meanwhile is not a network that swallows packets."""
        step = self._step
        try:
            with self._connected(wire.STREAM):
                pass
        except (OSError, _Stopped):
            raise _Stopped("SILENT") from None
        finally:
            self._step = step

    def _note(self, sock: socket.socket) -> None:
        told = wire.told(sock)
        again = None if told.retransmits is None else told.retransmits + self._again
        self.found |= {"mss": told.mss, "path_mtu": told.path_mtu, "retransmits": again}


class _Stream(threading.Thread):
    """One connection on which bytes are sent until the receiver has measured enough."""

    def __init__(self, trial: Trial, seconds: float) -> None:
        super().__init__(daemon=True)
        self._trial, self._seconds = trial, seconds
        self.samples: list[steady.Sample] = []
        self.retransmits: int | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self._trial._connected(wire.STREAM) as sock:
                self.samples = self._send(sock)
                self.retransmits = wire.told(sock).retransmits
        except (OSError, _Stopped) as error:
            self.error = error

    def _send(self, sock: socket.socket) -> list[steady.Sample]:
        until = time.monotonic() + self._seconds + AFTER_SECONDS
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)
        wire.send(sock, wire.SPAN.pack(self._seconds), until)
        sock.setblocking(False)
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        while True:
            ready = poll.poll(max(0.0, until - time.monotonic()) * 1000 + 1)
            if not ready or time.monotonic() >= until:
                raise TimeoutError
            if ready[0][1] & ~select.POLLOUT:  # the answer, or the end
                break
            sock.send(_CHUNK)
        (count,) = wire.COUNT.unpack(wire.receive(sock, wire.COUNT.size, until))
        told = wire.receive(sock, count * wire.SAMPLE.size, until)
        return list(wire.SAMPLE.iter_unpack(told))


class _Resolving:
    """A host name being resolved beside all else."""

    def __init__(self, hostname: str) -> None:
        self._found: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._ask, args=(hostname,), daemon=True)
        self._thread.start()

    def _ask(self, hostname: str) -> None:
        answer = resolve(hostname, RESOLVE_SECONDS)
        self._found = {"resolved": answer.addresses, "resolve_error": answer.error}

    def found(self) -> dict[str, Any]:
        self._thread.join(RESOLVE_SECONDS + 1)
        return self._found or {"resolve_error": f"no answer in {RESOLVE_SECONDS:g} s"}
