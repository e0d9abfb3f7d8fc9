"""probes/way.py: answers of the kernel, and of this very machine."""

import struct

import pytest

from gpudoctor.probes import way
from gpudoctor.probes.way import Way, is_ip, parse, way_to


def answer(family: int, route: int, *attributes: tuple[int, bytes]) -> bytes:
    body = struct.pack("=8BI", family, 32, 0, 0, 254, 0, 0, route, 0)
    for kind, value in attributes:
        body += struct.pack("=HH", 4 + len(value), kind) + value
    return struct.pack("=IHHII", 16 + len(body), 24, 0, 1, 0) + body


def refusal(number: int) -> bytes:
    return struct.pack("=IHHII", 36, 2, 0, 1, 0) + struct.pack("=i16x", -number)


LO = struct.pack("=I", 1)
NODE, OWN = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        pytest.param(refusal(101), Way(error="ENETUNREACH"), id="no route"),
        pytest.param(refusal(113), Way(error="EHOSTUNREACH"), id="unreachable"),
        pytest.param(refusal(13), Way(error="EACCES"), id="prohibit"),
        pytest.param(refusal(22), Way(error="EINVAL"), id="black hole"),
        pytest.param(answer(10, 7), Way(error="EHOSTUNREACH"), id="unreachable, of IPv6"),
        pytest.param(
            answer(2, 1, (1, NODE), (7, OWN), (4, LO)), Way("lo", "10.0.0.2"), id="on the link"
        ),
        pytest.param(
            answer(2, 1, (4, LO), (7, OWN), (5, NODE)),
            Way("lo", "10.0.0.2", "10.0.0.1"),
            id="by a gateway",
        ),
        pytest.param(
            answer(2, 1, (4, LO), (8, struct.pack("=HHI", 8, 2, 1400))),
            Way("lo", mtu=1400),
            id="known path MTU",
        ),
        pytest.param(answer(2, 2, (4, LO), (7, NODE)), Way("lo", "10.0.0.1", here=True), id="own"),
    ],
)
def test_parse(raw, found):
    assert parse(raw) == found


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.1.1"])
def test_loopback_is_here(ip):
    assert way_to(ip).here


def test_a_kernel_that_cannot_be_asked(monkeypatch):
    monkeypatch.setattr("socket.AF_NETLINK", 255)

    assert way.way_to("127.0.0.1") is None


def test_no_way_by_an_interface_that_is_not_here():
    assert way_to("fe80::1%no-such").error == "ENODEV"


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("node0", False),
        ("10.0.0.1:29500", False),
        ("10.0.0", False),
        ("", False),
    ],
)
def test_is_ip(text, yes):
    assert is_ip(text) is yes
