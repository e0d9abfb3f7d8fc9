"""What a node tells the others so that they can reach it. Whoever reads it trusts nothing."""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

LIMIT_BYTES = 1 << 14  # a card has some hundred
MOST_ADDRESSES = 32
_TOKEN = re.compile(r"[0-9a-f]{64}")

Text = Annotated[str, Meta(max_length=255)]


class Own(Struct, frozen=True, kw_only=True):
    """An address of a node, and the interface that has it."""

    ip: Text
    interface: Text = ""
    mtu: int | None = None
    speed_mbps: float | None = None


class Card(Struct, frozen=True, kw_only=True):
    """Where a node listens.

    Attributes:
        name: as in Members.
        hostname: that others resolve.
        port: fresh, the same on all addresses.
        token: whoever asks must know its first half; whoever answers knows its second.
        addresses: those of the interface that carries the job's data first.
    """

    name: Text
    hostname: Text
    port: Annotated[int, Meta(ge=1, le=65535)]
    token: Text
    addresses: Annotated[tuple[Own, ...], Meta(min_length=1, max_length=MOST_ADDRESSES)]

    @property
    def ask(self) -> bytes:
        return self.token[:32].encode()

    @property
    def answer(self) -> bytes:
        return self.token[32:].encode()


class BadCard(ValueError):
    """What a node sent is no card; the message says why."""


def read(raw: bytes) -> Card:
    """A card that another node sent.

    Raises:
        BadCard: it is none.
    """
    if len(raw) > LIMIT_BYTES:
        raise BadCard(f"its card has {len(raw)} bytes, more than {LIMIT_BYTES}")
    try:
        card = msgspec.json.decode(raw, type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCard(f"its card cannot be read: {error}") from None
    if not _TOKEN.fullmatch(card.token):
        raise BadCard("its card has no token")
    for own in card.addresses:
        if not _is_ip(own.ip):
            raise BadCard(f"its card has {own.ip[:50]!r} for an address")
    for name in (card.name, card.hostname, *(own.interface for own in card.addresses)):
        if not name.isprintable():
            raise BadCard(f"its card has {name[:50]!r} for a name")
    return card


def _is_ip(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone is the reader's own
