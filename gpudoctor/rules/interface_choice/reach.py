"""Whether other nodes can reach an interface, as far as one node can tell."""

from msgspec import Struct

from gpudoctor.facts.master import Master
from gpudoctor.facts.network import Interface, Kind, Network
from gpudoctor.rules.addresses import outward, ways_out
from gpudoctor.rules.interface_choice import Pick, torch_store

OUTSIDE: tuple[Kind, ...] = ("physical", "wireless", "bond", "vlan", "infiniband")
WORDS: dict[Kind, str] = {
    "bridge": "a bridge inside this machine",
    "veth": "a container's cable",
    "dummy": "a dummy that leads nowhere",
    "tun": "a VPN or a virtual machine's",
    "wireguard": "a VPN's",
    "tunnel": "a tunnel of an overlay network",
    "wireless": "wireless",
}
CERTAIN: tuple[Kind, ...] = ("bridge", "veth", "dummy")  # the others may lead to the other nodes


class Doubt(Struct, frozen=True):
    """Why other nodes may not reach an address; `certain`: they cannot."""

    words: str
    certain: bool


def way(network: Network, master: Master | None) -> tuple[str, str]:
    """The interface that leads to MASTER_ADDR, or has it, and how that is known; else empty."""
    if master is None:
        return "", ""
    if master.here:
        holders = [(network.holder_of(ip), ip) for ip in master.addresses]
        own = [(h.name, ip) for h, ip in holders if h is not None and h.kind != "loopback"]
        return (own[0][0], f"{own[0][0]} has MASTER_ADDR {own[0][1]}") if own else ("", "")
    picked = torch_store.choose(master.attempts).picked
    if not picked:
        return "", ""
    return picked[0].interface, f"MASTER_ADDR {master.name} is reached by {picked[0].interface}"


def interface_of(network: Network, pick: Pick) -> Interface | None:
    """The interface, also by a label of one of its addresses (eth0:1)."""
    return network.interface(pick.interface) or network.interface(pick.interface.partition(":")[0])


def doubt(network: Network, pick: Pick, leads: str) -> Doubt | None:
    """Why others may not reach a picked address; None: nothing speaks against it.

    Args:
        network: the interfaces and routes.
        pick: what a library picked.
        leads: the interface that leads to the other nodes, where that is known.
    """
    interface = interface_of(network, pick)
    if interface is None:
        return None
    if interface.kind == "loopback" or pick.ip.startswith("127."):
        return Doubt("only this machine itself", certain=True)
    if not interface.up or not interface.running:
        return Doubt("no carrier" if interface.up else "switched off", certain=True)
    if interface.name == leads:
        return None
    if pick.ip.startswith("169.254."):
        return Doubt("a link-local address", certain=False)
    usual = {route.interface for route in ways_out(network)}
    if interface.kind not in WORDS or interface.name in usual:
        return None
    if interface.kind == "bridge" and _leads_outside(network, interface):
        return None
    if interface.kind == "veth" and not usual:  # as good as any
        return None
    return Doubt(WORDS[interface.kind], interface.kind in CERTAIN)


def best(network: Network, leads: str) -> str:
    """The interface that libraries should be told to use; empty: there is none."""
    found = None if leads else outward(network)
    return found[0].name if found else leads


def _leads_outside(network: Network, bridge: Interface) -> bool:
    parts = map(network.interface, bridge.below)
    return any(part is not None and part.kind in OUTSIDE for part in parts)
