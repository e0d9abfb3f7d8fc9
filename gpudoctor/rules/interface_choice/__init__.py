"""Which network interface each library would pick, from facts alone: a model of their own rules.

One module for each library. `reach` tells whether other nodes can reach what was picked.
"""

from collections.abc import Iterator

from msgspec import Struct

from gpudoctor.facts.network import Address, Interface, Network


class Pick(Struct, frozen=True):
    """An interface, and the address that other ranks are told to connect to."""

    interface: str
    ip: str

    def __str__(self) -> str:
        """For a line of 80 columns: an address of IPv6 would fill half of it."""
        return self.interface if ":" in self.ip else f"{self.interface} ({self.ip})"


class Choice(Struct, frozen=True, kw_only=True):
    """What a library picks: the first is the one that it listens on to begin with.

    Attributes:
        picked: in the library's order; none if it finds none, or if that cannot be told.
        why: the rule that decided.
        error: what the library says when it finds none.
        unknown: why this cannot be told.
    """

    picked: tuple[Pick, ...] = ()
    why: str = ""
    error: str = ""
    unknown: str = ""


def listed(network: Network) -> Iterator[tuple[Interface, Address]]:
    """Addresses as getifaddrs(3) lists them: first IPv4 of all interfaces, then IPv6."""
    for ipv4 in (True, False):
        for interface in network.interfaces:
            for address in interface.addresses:
                if address.is_ipv4 is ipv4:
                    yield interface, address


def name_of(interface: Interface, address: Address) -> str:
    """The name that getifaddrs(3) gives: an IPv4 address may have a label, such as eth0:1."""
    return address.label or interface.name
