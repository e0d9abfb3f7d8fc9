"""Network interfaces, their addresses and routes, as the kernel tells them, and its settings."""

from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact

Kind = Literal[
    "loopback",
    "physical",
    "wireless",
    "infiniband",  # IP over InfiniBand
    "bond",
    "vlan",
    "bridge",
    "veth",
    "tun",  # tun, tap, and the VPNs that use them
    "wireguard",
    "macvlan",  # and ipvlan
    "tunnel",  # vxlan, geneve, gre, ipip, ...
    "dummy",
    "other",
]


class Address(Struct, frozen=True, kw_only=True):
    """An address of an interface: "10.0.0.1" and 24."""

    ip: str
    prefix: int
    scope: str = "global"  # "global", "link", "host", "site"
    label: str = ""  # an IPv4 address's other name for its interface: "eth0:1"

    @property
    def is_ipv4(self) -> bool:
        return ":" not in self.ip


class Interface(Struct, frozen=True, kw_only=True):
    """A network interface. What the kernel does not say is None or empty."""

    index: int
    name: str
    kind: Kind = "other"
    up: bool = False  # IFF_UP: switched on
    running: bool = False  # IFF_RUNNING: switched on and able to carry; what NCCL asks for
    mtu: int = 1500
    speed_mbps: int | None = None
    duplex: str = ""  # "full", "half"
    limit_mbps: float | None = None  # by traffic control (tbf) on what is sent
    driver: str = ""
    pci: str = ""  # "0000:3b:00.0"
    numa_node: int | None = None
    above: tuple[str, ...] = ()  # the bridge or bond that it is part of
    below: tuple[str, ...] = ()  # the parts of a bond or bridge, the parent of a vlan or macvlan
    addresses: tuple[Address, ...] = ()  # in the kernel's order
    errors: int | None = None  # frames received or sent with errors since it came up
    packets: int | None = None  # received and sent
    carrier_changes: int | None = None
    rp_filter: int | None = None  # the kernel takes the larger of it and `all`


class Route(Struct, frozen=True, kw_only=True):
    """A route of the main table."""

    destination: str  # "10.0.0.0/24"; "0.0.0.0/0" or "::/0" is the default route
    interface: str = ""
    gateway: str = ""
    source: str = ""
    metric: int = 0
    kind: str = "unicast"  # "blackhole", "unreachable", "prohibit", ...


class Network(Fact, frozen=True, kw_only=True):
    """Interfaces in the order in which getifaddrs(3) lists them, which libraries go by."""

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    own_rules: int = 0  # of routing, added to the kernel's own: by source, by mark, ...

    def interface(self, name: str) -> Interface | None:
        """The interface of a name."""
        return next((found for found in self.interfaces if found.name == name), None)

    def holder_of(self, ip: str) -> Interface | None:
        """The interface that has an address."""
        return next((i for i in self.interfaces if any(a.ip == ip for a in i.addresses)), None)


class NetworkSettings(Fact, frozen=True, kw_only=True):
    """Sysctls of this network namespace; None: not readable."""

    port_low: int | None = None  # net.ipv4.ip_local_port_range
    port_high: int | None = None
    rp_filter_all: int | None = None
    tcp_mtu_probing: int | None = None
    somaxconn: int | None = None
    rmem_max: int | None = None
    wmem_max: int | None = None
    conntrack_used: int | None = None
    conntrack_max: int | None = None
