"""gloo, as torch makes its devices: GLOO_SOCKET_IFNAME, or what the hostname resolves to.

The rules follow torch's ProcessGroupGloo.cpp and gloo's transport/tcp/device.cc. Whether an
interface is switched on plays no part: Linux lets one listen on every address that it has.
"""

from gpudoctor.facts.names import Names
from gpudoctor.facts.network import Interface, Network
from gpudoctor.rules.interface_choice import Choice, Pick, listed, name_of

FALLBACK = "127.0.0.1"
NO_ADDRESS = "Unable to find address for: "
NO_NAME = "GlooDeviceFactory::makeTCPDevice(): interface or hostname can't be empty"
UNRESOLVED = "Unable to resolve hostname to a (local) address. Using the loopback address"
NOT_EVEN_LO = f"Cannot resolve {FALLBACK} to a (local) address"


def choose(network: Network, told: str, names: Names | None) -> Choice:
    """One device for each name that GLOO_SOCKET_IFNAME lists, else one of the hostname.

    Args:
        network: the interfaces.
        told: GLOO_SOCKET_IFNAME; empty: not set.
        names: the hostname and its addresses.
    """
    if len(told) > 1:  # a single letter counts as not set
        return _named(network, told)
    if names is None:
        return Choice(unknown="what the hostname resolves to is not known")
    for ip in names.addresses:
        if holder := _can_bind(network, ip):
            return Choice(
                picked=(Pick(holder, ip),), why=f"the hostname {names.hostname} resolves to {ip}"
            )
    holder = _can_bind(network, FALLBACK)
    if not holder:
        return Choice(error=NOT_EVEN_LO)
    why = f"the hostname {names.hostname} resolves to no address of this machine"
    return Choice(picked=(Pick(holder, FALLBACK),), why=why)


def _named(network: Network, told: str) -> Choice:
    picked: list[Pick] = []
    # As std::getline splits: nothing follows a comma at the end.
    for name in told.removesuffix(",").split(","):
        found = [pair for pair in listed(network) if name_of(*pair) == name]
        if not found:
            return Choice(error=f"{NO_ADDRESS}{name}" if name else NO_NAME)
        picked.append(Pick(name, found[0][1].ip))
    return Choice(picked=tuple(picked), why=f"GLOO_SOCKET_IFNAME={told}")


def _can_bind(network: Network, ip: str) -> str:
    """The interface whose address one can listen on; empty: bind(2) refuses."""
    if ip.startswith("127."):
        loopback = [i for i in network.interfaces if i.kind == "loopback" and i.up]
        return next((i.name for i in loopback if _has_ipv4(i)), "")
    for interface, address in listed(network):
        # A link-local address that a name resolves to lacks the interface, so bind(2) refuses.
        if address.ip == ip and address.scope != "link":
            return name_of(interface, address)
    return ""


def _has_ipv4(interface: Interface) -> bool:
    return any(address.is_ipv4 for address in interface.addresses)
