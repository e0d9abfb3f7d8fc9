"""Look at the network: what the kernel says of links, addresses and routes, and /sys of devices."""

import errno
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gpudoctor.facts.network import (
    Address,
    Interface,
    Kind,
    Network,
    NetworkSettings,
    Route,
)
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

if TYPE_CHECKING:
    from gpudoctor.probes.netlink import RawLink, RawRoute

# linux/if.h, linux/if_arp.h
_UP, _RUNNING, _LOOPBACK = 0x1, 0x40, 0x8
_INFINIBAND = 32
# What links call themselves, where that is not our word for it.
_KINDS: dict[str, Kind] = {
    "bridge": "bridge",
    "openvswitch": "bridge",
    "veth": "veth",
    "netkit": "veth",
    "tun": "tun",
    "wireguard": "wireguard",
    "bond": "bond",
    "team": "bond",
    "vlan": "vlan",
    "dummy": "dummy",
    **dict.fromkeys(("macvlan", "macvtap", "ipvlan", "ipvtap"), "macvlan"),
    **dict.fromkeys(("vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap"), "tunnel"),
    **dict.fromkeys(("ipip", "sit", "ip6tnl", "erspan", "vti", "vti6", "xfrm"), "tunnel"),
}
_DEVICES = ("physical", "wireless", "infiniband", "bond", "other")  # /sys knows their speed
_ON_ANOTHER = ("vlan", "macvlan", "tunnel")  # their parent carries them; a veth's is its peer
_UNKNOWN_SPEED = (-1, 0, 0xFFFFFFFF)
_PCI = r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
MOST_ROUTES = 1000  # a router may have all of the Internet's


@probe(isolated=True, timeout=3.0)  # a driver that hangs keeps the kernel's lock on all links
def network(machine: Machine) -> Network | Absent:
    """Interfaces, addresses and routes of this network namespace."""
    if not machine.live:
        return Absent("interfaces are those of a running process: not known from --root")
    from gpudoctor.probes import netlink  # takes sockets along, 2 ms

    links = [netlink.link(body) for body in netlink.dump(netlink.GET_LINK)]
    names = {link.ifindex: link.name for link in links}
    addresses: dict[int, list[Address]] = {}
    for body in netlink.dump(netlink.GET_ADDRESS):
        if found := netlink.address(body, names):
            addresses.setdefault(found[0], []).append(found[1])
    limits = dict(filter(None, map(netlink.limit, _told(netlink.GET_QUEUE))))
    told = map(netlink.route, _told(netlink.GET_ROUTE))
    routes = [_route(found, names) for found in told if found]
    routes.sort(key=_is_ordinary)
    return Network(
        interfaces=tuple(
            replace(
                _interface(machine, link, links),
                addresses=tuple(addresses.get(link.ifindex, ())),
                limit_mbps=limits.get(link.ifindex),
            )
            for link in links
        ),
        routes=tuple(routes[:MOST_ROUTES]),
        own_rules=sum(map(netlink.is_own_rule, _told(netlink.GET_RULE))),
    )


def _told(what: int) -> list[bytes]:
    """The kernel's answers; none where it is gVisor's, or has no IPv6, and knows no such thing."""
    from gpudoctor.probes import netlink

    try:
        return netlink.dump(what)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT):
            return []
        raise


def _route(found: "RawRoute", names: Mapping[int, str]) -> Route:
    return Route(
        destination=found.destination,
        interface=names.get(found.interface, ""),
        gateway=found.gateway,
        source=found.source,
        metric=found.metric,
        kind=found.kind,
    )


def _is_ordinary(route: Route) -> bool:
    """Not one of those that count, of however many: the default ones, and those that refuse."""
    return route.kind == "unicast" and not route.destination.endswith("/0")


def _interface(machine: Machine, link: "RawLink", links: Sequence["RawLink"]) -> Interface:
    path = f"/sys/class/net/{link.name}"
    # Where /sys is that of another network namespace it tells of other interfaces.
    seen = machine.number(f"{path}/ifindex") == link.ifindex
    kind = _kind(machine, link, path if seen else "")
    device = kind in _DEVICES and seen
    speed = machine.number(f"{path}/speed") if device else None
    numa = machine.number(f"{path}/device/numa_node") if device else None
    parts = [part.name for part in links if part.master == link.ifindex]
    if kind in _ON_ANOTHER:
        parts += [part.name for part in links if part.ifindex == link.parent != link.ifindex]
    return Interface(
        index=link.ifindex,
        name=link.name,
        kind=kind,
        up=bool(link.flags & _UP),
        running=bool(link.flags & _RUNNING),
        mtu=link.mtu,
        speed_mbps=None if speed in _UNKNOWN_SPEED else speed,
        duplex=(machine.text(f"{path}/duplex") or "").replace("unknown", "") if device else "",
        driver=machine.link(f"{path}/device/driver").rpartition("/")[2] if device else "",
        pci=_pci(link, machine.link(path) if device else ""),
        numa_node=None if numa == -1 else numa,
        above=tuple(above.name for above in links if above.ifindex == link.master),
        below=tuple(parts),
        errors=link.errors,
        packets=link.packets,
        carrier_changes=link.carrier_changes,
        rp_filter=machine.number(f"/proc/sys/net/ipv4/conf/{link.name}/rp_filter"),
    )


def _kind(machine: Machine, link: "RawLink", path: str) -> Kind:
    if link.flags & _LOOPBACK:
        return "loopback"
    if link.type == _INFINIBAND:
        return "infiniband"
    if link.kind:
        return _KINDS.get(link.kind, "other")
    if path and (machine.exists(f"{path}/wireless") or machine.exists(f"{path}/phy80211")):
        return "wireless"
    return "physical" if link.device or machine.link(f"{path}/device") else "other"


def _pci(link: "RawLink", path: str) -> str:
    """The PCI function that an interface is of: of virtio's, the one that virtio is on."""
    if link.bus == "pci":
        return link.device
    return next(iter(reversed(re.findall(_PCI, path))), "")


@probe()
def network_settings(machine: Machine) -> NetworkSettings | Absent:
    """Sysctls of this network namespace."""
    if not machine.live and machine.link("/proc/self"):
        return Absent("/proc/sys/net tells of the process that reads it: not known from --root")
    ipv4, core = "/proc/sys/net/ipv4", "/proc/sys/net/core"
    ports = (machine.text(f"{ipv4}/ip_local_port_range") or "").split()
    low, high = map(int, ports) if len(ports) == 2 else (None, None)
    conntrack = "/proc/sys/net/netfilter/nf_conntrack"
    return NetworkSettings(
        port_low=low,
        port_high=high,
        rp_filter_all=machine.number(f"{ipv4}/conf/all/rp_filter"),
        tcp_mtu_probing=machine.number(f"{ipv4}/tcp_mtu_probing"),
        somaxconn=machine.number(f"{core}/somaxconn"),
        rmem_max=machine.number(f"{core}/rmem_max"),
        wmem_max=machine.number(f"{core}/wmem_max"),
        conntrack_used=machine.number(f"{conntrack}_count"),
        conntrack_max=machine.number(f"{conntrack}_max"),
    )
