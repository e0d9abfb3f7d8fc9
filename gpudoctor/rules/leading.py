"""The interface that the job's nodes see of each other."""

from gpudoctor.facts.container import Container
from gpudoctor.facts.master import Master
from gpudoctor.facts.network import Interface, Network
from gpudoctor.finding import Fix
from gpudoctor.launch.settings import HostNetwork
from gpudoctor.rules.addresses import outward, ways_out
from gpudoctor.rules.interface_choice.reach import way

NO_WAY = "no interface leads to other nodes: see gloo-interface"
_CARRIED = ("vlan", "macvlan", "bridge")  # a device below sends their frames
_DEVICES = ("physical", "wireless", "infiniband", "bond")


def leading(network: Network, master: Master | None) -> Interface | None:
    """The one that leads to MASTER_ADDR or has it; else the one that leads outside."""
    known, _ = way(network, master)
    for name in (known, *(route.interface for route in ways_out(network))):
        if found := network.interface(name):
            return found
    guess = outward(network)
    return guess[0] if guess else None


def lead_out(container: Container | None) -> Fix:
    """The fix where none does: for a container that lacks it the host's network."""
    bare = ("host", "slurm")
    if container and container.launcher not in bare and container.net_private is not False:
        return Fix(HostNetwork())
    text = "Connect this node: no interface of it has an address that other nodes reach"
    return Fix(text=text, commands=["ip -br address"])


def device_of(network: Network, interface: Interface) -> Interface:
    """What sends an interface's frames: a network card, or a bond of them, if that is seen."""
    if interface.kind in _CARRIED:
        for part in map(network.interface, interface.below):
            if part is not None and (found := device_of(network, part)).kind in _DEVICES:
                return found
    return interface
