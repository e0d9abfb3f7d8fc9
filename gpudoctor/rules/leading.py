"""The interface that the job's nodes see of each other."""

from gpudoctor.facts.master import Master
from gpudoctor.facts.network import Address, Interface, Network
from gpudoctor.rules.addresses import EVERYWHERE, outward
from gpudoctor.rules.interface_choice.reach import way

_CARRIED = ("vlan", "macvlan", "bridge")  # a device below sends their frames
_DEVICES = ("physical", "wireless", "infiniband", "bond")


def leading(network: Network, master: Master | None) -> Interface | None:
    """The one that leads to MASTER_ADDR or has it; else the one that leads outside."""
    known, _ = way(network, master)
    usual = sorted(
        (r for r in network.routes if r.destination in EVERYWHERE), key=lambda r: r.metric
    )
    for name in (known, *(route.interface for route in usual)):
        if found := network.interface(name):
            return found
    guess = outward(network)
    return guess[0] if guess else None


def address_of(interface: Interface) -> Address | None:
    """The address that other nodes know an interface by, of IPv4 if there is one."""
    wide = [address for address in interface.addresses if address.scope == "global"]
    return next((address for address in wide if address.is_ipv4), next(iter(wide), None))


def device_of(network: Network, interface: Interface) -> Interface:
    """What sends an interface's frames: a network card, or a bond of them, if that is seen."""
    if interface.kind in _CARRIED:
        for part in map(network.interface, interface.below):
            if part is not None and (found := device_of(network, part)).kind in _DEVICES:
                return found
    return interface
