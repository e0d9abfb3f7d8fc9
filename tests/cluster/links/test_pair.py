"""Peers on the loopback: real sockets, and guests of all sorts."""

import contextlib
import socket
import threading
import time

import msgspec
import pytest

from gpudoctor import Interface, Network
from gpudoctor.cluster.links import card as cards
from gpudoctor.cluster.links import pair, peer, port, tour, wire
from gpudoctor.cluster.links.card import BadCard, Own
from gpudoctor.cluster.links.pair import Source, Trial
from gpudoctor.cluster.links.peer import Peer
from gpudoctor.cluster.links.rounds import tournament
from gpudoctor.cluster.links.tour import run_rounds
from gpudoctor.probes.all_reduce import free_port

HERE = "127.0.0.1"
SOON = 60.0  # seconds: a bound, that nothing should come near


@pytest.fixture
def listening():
    """`listening(name, ...)`: an open peer."""
    with contextlib.ExitStack() as stack:
        yield lambda name="a", ip=HERE, **options: stack.enter_context(
            Peer(name, [Own(ip=ip)], hostname="localhost", bind=ip, **options)
        )


@pytest.fixture
def server():
    """`server(answer)`: a port where somebody else serves each connection in his own way."""
    with contextlib.ExitStack() as stack:

        def serve(answer):
            listener = stack.enter_context(socket.create_server((HERE, 0)))

            def take():
                with contextlib.suppress(OSError):
                    while True:
                        guest, _ = listener.accept()
                        stack.callback(guest.close)
                        answer(guest)

            threading.Thread(target=take, daemon=True).start()
            stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
            return listener.getsockname()[1]

        yield serve


def card_of(peer):
    return cards.read(peer.card())


def trial(target, seconds=0.0, **source):
    given = Trial(Source("source", 0, **source), target, 0)
    return given.run(seconds=seconds, deadline=time.monotonic() + SOON)


def meet(peers, *, seconds=0.0, deadline=SOON, names=None, late=()):
    """All peers' rounds, each in a thread of its own; `late` ones begin after a while."""
    known = {name: card_of(each) for name, each in peers.items()}
    known |= {name: msgspec.structs.replace(known[next(iter(known))], name=name, port=1)
              for name in names or () if name not in known}  # fmt: skip
    schedule = tournament(len(known))
    tours = {}

    def go(name):
        if name in late:
            time.sleep(0.6)
        tours[name] = run_rounds(
            peers[name],
            name,
            known,
            schedule,
            deadline=time.monotonic() + deadline,
            seconds=seconds,
        )

    threads = [threading.Thread(target=go, args=(name,)) for name in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    return tours


def test_two_peers_learn_all_of_each_other(listening):
    tours = meet({"a": listening("a"), "b": listening("b")}, seconds=0.2)

    for name, other in (("a", "b"), ("b", "a")):
        (way,) = tours[name].ways
        assert (way.source, way.target) == (name, other)
        assert (way.error, way.step) == ("", "")
        assert HERE in way.resolved
        assert (way.address, way.interface, way.own) == (HERE, "lo", (HERE,))
        assert 0 < way.rtt_seconds < 1
        assert abs(way.clock_offset_seconds) <= way.clock_uncertainty_seconds + 1e-3
        assert way.mss > 500
        assert way.path_mtu > 500
        assert way.retransmits is not None
        assert way.bytes_per_second > 1e5
        assert way.streams == 1
        assert (tours[name].rounds, tours[name].unfinished) == (1, "")


def test_a_target_is_called_as_the_others_call_it(listening):
    tours = meet({"a": listening("a"), "b": listening("somebody else")})

    assert [way.target for way in tours["a"].ways] == ["b"]


@pytest.mark.parametrize("count", [3, 8])
def test_every_pair_meets_in_both_directions(count, listening):
    tours = meet({f"n{i}": listening(f"n{i}") for i in range(count)})
    ways = [way for found in tours.values() for way in found.ways]

    assert {(way.source, way.target) for way in ways} == {
        (f"n{a}", f"n{b}") for a in range(count) for b in range(count) if a != b
    }
    assert [way for way in ways if way.error] == []


def test_sixty_four_peers(listening):
    tours = meet({f"n{i}": listening(f"n{i}", f"127.0.0.{i + 1}") for i in range(64)})
    ways = [way for found in tours.values() for way in found.ways]

    assert len(ways) == 2 * tournament(64).pairs == 448
    assert [way for way in ways if way.error] == []
    assert all(way.bytes_per_second is None for way in ways), "it was not asked for"


def test_ipv6(listening, require):
    try:
        each = {name: listening(name, "::1") for name in "ab"}
    except OSError as error:
        require(False, f"no IPv6 here: {error}")
    (way,) = meet(each)["a"].ways

    assert (way.error, way.address) == ("", "::1")
    assert way.path_mtu > 500


def test_several_streams_where_the_interface_is_fast(listening):
    lo = Interface(index=1, name="lo", speed_mbps=100_000, mtu=65536, limit_mbps=30_000.0)
    guest = listening()
    guest.begin(0, driving=False)
    way = trial(card_of(guest), 0.2, network=Network(interfaces=(lo,)))

    assert (way.error, way.streams, way.speed_mbps, way.mtu) == ("", 4, 30_000, 65536)
    assert way.bytes_per_second > 1e5


def test_who_is_late_is_waited_for(listening):
    tours = meet({"a": listening("a"), "b": listening("b")}, seconds=0.1, late="b")

    for found in tours.values():
        (way,) = found.ways
        assert way.error == ""
        assert way.bytes_per_second, "and it is measured all the same"


def test_who_never_comes_is_still_reached_but_not_measured(listening, monkeypatch):
    monkeypatch.setattr(peer, "LATE_SECONDS", 0.2)
    way = trial(card_of(listening()), 0.2)

    assert way.error == ""
    assert way.rtt_seconds > 0
    assert way.bytes_per_second is None


def test_who_is_past_the_round_is_not_measured(listening):
    guest = listening()
    guest.begin(5, driving=False)
    way = trial(card_of(guest), 0.2)

    assert (way.error, way.bytes_per_second) == ("", None)


def test_the_driver_lets_nobody_in_before_it_is_done(listening):
    driver = listening()
    driver.begin(0, driving=True)
    found = []
    asking = threading.Thread(target=lambda: found.append(trial(card_of(driver))))
    asking.start()
    asking.join(0.3)
    waited = not found
    driver.drove()
    asking.join(SOON)

    assert waited
    assert found[0].error == ""


def test_a_dead_partner_costs_its_own_round_only(listening, monkeypatch):
    monkeypatch.setattr(tour, "CONTACT_SECONDS", 0.3)
    peers = {name: listening(name) for name in "abcd"}
    tours = meet(peers, names=[*"abcd", "dead"])
    ways = [way for found in tours.values() for way in found.ways]
    failed = [way for way in ways if way.error]

    assert {way.target for way in failed} == {"dead"}
    assert {way.error for way in failed} == {"ECONNREFUSED"}
    assert {way.step for way in failed} == {"connect"}
    assert len(ways) - len(failed) == 12


def test_the_deadline_holds(listening):
    tours = meet({name: listening(name) for name in "ab"}, names=[*"ab", "dead"], deadline=0.0)

    for found in tours.values():
        assert (found.ways, found.rounds) == ((), 0)
        assert found.unfinished == "no time was left after round 0 of 3"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            lambda guest: guest.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n" * 9),
            id="speaks something else",
        ),
        pytest.param(
            lambda guest: guest.sendall(wire.ANSWER.pack(wire.MAGIC, b"0" * 32)),
            id="of another run",
        ),
        pytest.param(lambda guest: (guest.recv(999), guest.close()), id="hangs up"),
    ],
)
def test_somebody_else_at_the_address(answer, server, listening):
    target = msgspec.structs.replace(card_of(listening()), port=server(answer))
    way = trial(target)

    assert (way.error, way.step) == ("STRANGER", "hello")


def test_nothing_is_said_at_the_address(server, listening, monkeypatch):
    monkeypatch.setattr(pair, "SILENT_SECONDS", 0.2)
    target = msgspec.structs.replace(card_of(listening()), port=server(lambda guest: None))
    way = trial(target)

    assert (way.error, way.step) == ("SILENT", "hello")


def test_who_has_no_room_for_a_moment_is_asked_again(server, listening, monkeypatch):
    monkeypatch.setattr(pair, "SMALL_SECONDS", 0.2)
    guest = listening()
    guest.begin(0, driving=False)
    target = card_of(guest)

    def answer(sock):
        sock.recv(999)
        if not hung_up:
            hung_up.append(sock)
            sock.close()
            return
        sock.sendall(wire.ANSWER.pack(wire.MAGIC, target.answer) + wire.GO)

    hung_up: list[socket.socket] = []
    way = trial(msgspec.structs.replace(target, port=server(answer)))

    assert way.step == "small", "it came past the hello"


def test_who_falls_silent_is_not_taken_for_a_black_hole(server, listening, monkeypatch):
    target = card_of(listening())
    monkeypatch.setattr(pair, "LARGE_SECONDS", 0.3)

    def until_large(guest):
        guest.recv(999)
        if served:
            return
        served.append(guest)
        guest.sendall(wire.ANSWER.pack(wire.MAGIC, target.answer) + wire.GO)
        for _ in range(pair.TRIPS):
            guest.recv(wire.ORDER.size)
            guest.sendall(wire.PONG.pack(time.time(), time.time()))
        monkeypatch.setattr(pair, "SILENT_SECONDS", 0.2)

    served: list[socket.socket] = []
    way = trial(msgspec.structs.replace(target, port=server(until_large)))

    assert (way.error, way.step) == ("SILENT", "large")


def test_name_that_does_not_resolve(listening):
    guest = listening()
    guest.begin(0, driving=False)
    way = trial(msgspec.structs.replace(card_of(guest), hostname="no such name.invalid"))

    assert way.resolved == ()
    assert way.resolve_error


def hello(target, what=wire.PROBE, ask=None):
    return wire.HELLO.pack(wire.MAGIC, target.ask if ask is None else ask, what, 0, 0)


def guest_of(target):
    return socket.create_connection((HERE, target.port), timeout=SOON)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(lambda target: b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(lambda target: b"\0" * 500, id="zeros"),
        pytest.param(lambda target: hello(target, ask=b"0" * 32), id="wrong token"),
        pytest.param(lambda target: hello(target, ask=target.answer), id="the other half"),
        pytest.param(lambda target: hello(target, b"P") + b"x" + bytes(99), id="no such order"),
        pytest.param(
            lambda target: hello(target) + wire.ORDER.pack(wire.LOAD, (1 << 32) - 1), id="too large"
        ),
        pytest.param(lambda target: hello(target, b"?") + bytes(9), id="no such purpose"),
    ],
)
def test_garbage_is_dropped_and_disturbs_nobody(said, listening):
    guest = listening()
    guest.begin(0, driving=False)
    target = card_of(guest)
    with guest_of(target) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(said(target))
            while sock.recv(1 << 16):
                pass

        assert trial(target).error == ""


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(float("nan"), 0), (-1.0, 0), (0.0, 0), (0.1, 2), (float("inf"), 2), (1e300, 2)],
)
def test_streams_are_bounded(seconds, told, listening, monkeypatch):
    monkeypatch.setattr(peer, "LONGEST_STREAM", 0.1)
    monkeypatch.setattr(peer, "MORE", 0.1)
    target = card_of(listening())
    with guest_of(target) as sock:
        sock.sendall(hello(target, wire.STREAM) + wire.SPAN.pack(seconds) + b"x")
        wire.receive(sock, wire.ANSWER.size, time.monotonic() + SOON)
        with contextlib.suppress(ConnectionResetError):
            assert len(sock.recv(wire.COUNT.size)) == told


def test_a_flood_of_strangers_is_held_off(listening):
    guest = listening()
    guest.begin(0, driving=False)
    target = card_of(guest)
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(guest_of(target)) for _ in range(3 * peer.STRANGERS)]

        assert trial(target).error == ""
        assert flood[0].recv(1) == b"", "the oldest had to go"


def test_more_guests_than_are_served(listening, monkeypatch):
    monkeypatch.setattr(peer, "GUESTS", 2)
    target = card_of(listening())
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(guest_of(target)) for _ in range(3)]
        for sock in guests[:2]:
            sock.sendall(hello(target))
            wire.receive(sock, wire.ANSWER.size, time.monotonic() + SOON)
        guests[2].sendall(hello(target))

        assert guests[2].recv(1) == b""


def test_closing_waits_for_nobody(listening):
    target = card_of(listening())
    with Peer("b", [Own(ip=HERE)], bind=HERE) as closing:
        strangers = [guest_of(card_of(closing)) for _ in range(3)]
    for sock in strangers:
        sock.close()

    assert target.port


GOOD = {
    "name": "a",
    "hostname": "a",
    "port": 4000,
    "token": "0" * 64,
    "addresses": [{"ip": "10.0.0.1"}],
}


def test_a_card_is_read_as_it_was_written(listening):
    opened = Peer("n€de", [Own(ip="fd00::1", interface="eth0", mtu=9000)], bind=HERE)
    with opened:
        found = card_of(opened)

    assert (found.name, found.addresses[0].ip, found.addresses[0].mtu) == ("n€de", "fd00::1", 9000)
    assert found.ask != found.answer
    assert cards.read(msgspec.json.encode(GOOD)).port == 4000


BAD: list[dict[str, object]] = [
    {"port": 0},
    {"port": 70000},
    {"port": "22"},
    {"token": "0" * 63},
    {"token": "g" * 64},
    {"token": "0" * 64 + "\n"},
    {"addresses": []},
    {"addresses": [{"ip": "10.0.0.1"}] * 33},
    {"addresses": [{"ip": "example.org"}]},
    {"addresses": [{"ip": ""}]},
    {"name": "x" * 256},
    {"name": None},
    {"name": "a\x1b[31m"},
    {"hostname": "a\0b"},
    {"addresses": [{"ip": "10.0.0.1", "interface": "eth0\n"}]},
    {"addresses": [{"ip": "fe80::1%eth0"}]},
]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 10_000, id="deep"),
        pytest.param(b" " * (cards.LIMIT_BYTES + 1), id="huge"),
        *(pytest.param(msgspec.json.encode({**GOOD, **bad}), id=str(bad)[:40]) for bad in BAD),
    ],
)
def test_a_bad_card_is_refused(raw):
    with pytest.raises(BadCard, match="its card"):
        cards.read(raw)


def test_the_masters_port(listening):
    target, number = card_of(listening()), free_port()
    with port.held(number, target) as error:
        found = port.tried("b", HERE, number, target)
        by_name = port.tried("b", "localhost", number, target)
    after = port.tried("b", HERE, number, target)

    assert (error, found.source, found.error, by_name.error) == ("", "b", "", "")
    assert after.error == "ECONNREFUSED"
    with socket.socket() as job:
        job.bind((HERE, number))  # without SO_REUSEADDR: nothing of ours lingers there


def test_the_masters_port_is_taken(listening, server):
    number = server(lambda guest: guest.sendall(b"hello" * 20))
    target = card_of(listening())
    with port.held(number, target) as error:
        found = port.tried("b", HERE, number, target)

    assert error == "EADDRINUSE"
    assert found.error == "STRANGER"


def test_the_masters_port_is_silent(listening, server, monkeypatch):
    monkeypatch.setattr(port, "GREET_SECONDS", 0.2)
    number = server(lambda guest: None)

    assert port.tried("b", HERE, number, card_of(listening())).error == "SILENT"
