"""Own addresses, as fixes name them."""

from gpudoctor.facts.network import Address, Interface, Network, Route

_EVERYWHERE = ("0.0.0.0/0", "::/0")
# Where other nodes are: not behind a bridge of containers, not in a tunnel that somebody dug.
_OUTSIDE = ("infiniband", "physical", "bond", "vlan", "macvlan", "veth", "wireless")


def is_loopback(ip: str) -> bool:
    """Whether an address is each machine's own: 127.0.1.1, ::1; also 0.0.0.0, which leads there."""
    bare = ip.removeprefix("::ffff:")
    return bare.startswith("127.") or bare in ("::1", "0.0.0.0", "::")


def subnet(network: Network | None, ip: str) -> str:
    """The subnet that one of our addresses is in, "10.0.0.0/24"; the address if that is unknown."""
    import ipaddress  # 3 ms, for fixes only

    holder = network.holder_of(ip) if network else None
    if holder is None:
        return ip
    (prefix,) = {address.prefix for address in holder.addresses if address.ip == ip}
    return str(ipaddress.ip_network(f"{ip}/{prefix}", strict=False))


def within(ip: str, network: str) -> bool:
    """Whether an address is in a subnet, "10.0.0.0/24"."""
    import ipaddress

    return ipaddress.ip_address(ip.partition("%")[0]) in ipaddress.ip_network(network, strict=False)


def ways_out(network: Network) -> list[Route]:
    """The default routes, the best first."""
    found = [route for route in network.routes if route.destination in _EVERYWHERE]
    return sorted(found, key=lambda route: route.metric)


def outward(network: Network | None, towards: str = "") -> tuple[Interface, Address] | None:
    """The interface and the address by which other nodes reach this one, as far as can be told.

    Args:
        network: the interfaces.
        towards: the interface of a way that is known.
    """
    if network is None:
        return None
    names = [towards, *(route.interface for route in ways_out(network))]
    usable = [i for i in network.interfaces if i.up and i.kind in _OUTSIDE and address_of(i)]
    usable.sort(key=lambda interface: not interface.running)
    order = [*(i for name in names for i in usable if i.name == name), *usable]
    return next(((i, address) for i in order if (address := address_of(i))), None)


def address_of(interface: Interface) -> Address | None:
    """The address that other nodes know an interface by, of IPv4 if there is one."""
    wide = [address for address in interface.addresses if address.scope == "global"]
    return next((address for address in wide if address.is_ipv4), next(iter(wide), None))
