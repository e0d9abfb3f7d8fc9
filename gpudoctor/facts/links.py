"""What one node of a job sees of another, over the network between them."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Way(Struct, frozen=True, kw_only=True):
    """From one node to another, in that direction.

    Every attempt is one TCP connection, opened by `source`, to a port that `target` chose anew.

    Attributes:
        source: a node's name, as in Members.
        target: likewise.
        resolved: the addresses that the source's resolver gives for the target's host name.
        resolve_error: why it gives none, as "EAI_NONAME: Name or service not known".
        address: of the target, that was connected to.
        own: all addresses of the target, by itself.
        interface: of the source, by which its packets leave.
        speed_mbps: of that interface, or what traffic control leaves of it.
        port: of the target, that was connected to.
        error: what stopped it; empty: nothing. An errno's name ("ECONNREFUSED", "ETIMEDOUT",
            "EHOSTUNREACH"), "STRANGER" (somebody else answers there), "SILENT" (connected, and
            then nothing came).
        step: at which it stopped: "connect", "hello", "small", "large", "throughput".
        rtt_seconds: the shortest of several round trips of small messages.
        clock_offset_seconds: the target's clock minus the source's.
        clock_uncertainty_seconds: half of that shortest round trip.
        mss: bytes in the largest segment that TCP sends.
        path_mtu: as the kernel knows it at the end.
        mtu: of the source's interface.
        bytes_per_second: sent in one direction, measured by the target.
        streams: TCP connections that it was sent over.
        retransmits: segments that were sent again.
    """

    source: str
    target: str
    resolved: tuple[str, ...] = ()
    resolve_error: str = ""
    address: str = ""
    own: tuple[str, ...] = ()
    interface: str = ""
    speed_mbps: float | None = None
    port: int = 0
    error: str = ""
    step: str = ""
    rtt_seconds: float | None = None
    clock_offset_seconds: float | None = None
    clock_uncertainty_seconds: float | None = None
    mss: int | None = None
    path_mtu: int | None = None
    mtu: int | None = None
    bytes_per_second: float | None = None
    streams: int = 1
    retransmits: int | None = None


class PortTry(Struct, frozen=True, kw_only=True):
    """A node's connection to MASTER_PORT. `error` is an errno's name; empty: connected."""

    source: str
    error: str = ""


class Links(Fact, frozen=True, kw_only=True):
    """All that was tried between nodes.

    Attributes:
        ways: two for each pair that was tried, one for each direction.
        rounds: of disjoint pairs, that were run.
        pairs: that were tried, of `pairs_all`.
        unfinished: why rounds were left out; empty: none were.
        master: the node that has MASTER_PORT, that port, and who could reach it; the port is
            0 where nobody asked for it to be proved.
    """

    ways: tuple[Way, ...] = ()
    rounds: int = 0
    pairs: int = 0
    pairs_all: int = 0
    unfinished: str = ""
    master: str = ""
    master_port: int = 0
    master_error: str = ""  # why it could not be listened on, there
    tries: tuple[PortTry, ...] = ()
