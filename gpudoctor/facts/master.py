"""The address that all ranks meet at: resolved, routed to, and tried."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Attempt(Struct, frozen=True, kw_only=True):
    """One TCP connection to one address. `error` is an errno's name; empty: connected."""

    ip: str
    error: str = ""  # "ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EACCES", ...
    seconds: float = 0.0
    interface: str = ""  # that the kernel sends it by
    source: str = ""  # own address that it is sent from
    path_mtu: int | None = None
    peer_mtu: int | None = None  # largest packet that both ends take, as TCP agreed on
    gateway: str = ""  # empty: it is on the link itself
    route_error: str = ""  # this machine's own routes refuse: "ENETUNREACH"
    silent: str = ""  # the address, or the gateway to it, that answers no ARP, or its like of IPv6


class Master(Fact, frozen=True, kw_only=True):
    """MASTER_ADDR and MASTER_PORT, seen from here.

    Nothing is sent to any other address. Where the master is this machine, the port is bound
    instead, for a moment.
    """

    name: str
    port: int
    addresses: tuple[str, ...] = ()  # in the resolver's order
    resolve_error: str = ""
    resolve_seconds: float = 0.0
    here: bool = False  # one of the addresses is this machine's
    bind_error: str = ""  # "EADDRINUSE"; empty: the port can be had, or the master is elsewhere
    holder: str = ""  # "python (pid 4711, uid 1000)" who has the port, where that can be seen
    holder_pid: int | None = None
    held_by_launcher: bool = False  # by what started us, as torchrun's agent
    free_port: int | None = None  # where it is taken: the next one that is not
    attempts: tuple[Attempt, ...] = ()
