"""What NCCL and RCCL say of themselves under NCCL_DEBUG=INFO: which way the data went."""

import re
from collections.abc import Callable

from msgspec import Struct

# "Channel 00/0 : 0[0] -> 8[0] [send] via NET/IB/0(1)/GDRDMA/Shared"; before 2.12 the bracket held
# a bus id, and SHM was "direct shared memory". RCCL ends the line with "comm 0x... nRanks 08".
CHANNEL = (
    r"Channel \d+(?:/\d+)? : \d+\[\w+\] -> \d+\[\w+\](?: \[(?:send|receive)\])? via"
    r" (?:(?P<local>P2P|SHM)\b|(?P<shared>direct shared memory)"
    r"|NET/(?P<net>[^/\n]+)/\d+(?:\(\d+\))?(?P<gdr>/GDRDMA)?)"
)
# "16 nvls channels" is said also where NCCL_ALGO forbids them.
NVLS = r"Connected NVLS tree|NVLS comm 0x"
VERSION = r"\b(R|N)CCL version ?:? (\d+(?:\.\d+)+)"
USING = r"NET/(?P<net>IB|Socket) : Using (?P<devices>(?:\[\d+\]\S+ ?)+)"
BOOTSTRAP = r"Bootstrap ?: Using \[?(?:\d+\])?(?P<name>[^\s:]+):"
NO_IB = (
    r"NET/IB : (?P<lack>No device found|No IP interface found)"
    r"|(?P<library>Failed to open libibverbs)"
)
# "ncclCommInitRank comm 0x... rank 3 nranks 8 cudaDev 3 ... commId 0x... - Init START"
INIT = (
    r"\brank (?P<rank>\d+) n[rR]anks (?P<ranks>\d+)\b(?:.*?\bcommId (?P<comm>\w+))?"
    r".*?Init (?P<end>START|COMPLETE)"
)
WARNING = r"NCCL WARN (.+)"
ALIKE = (CHANNEL, NVLS, VERSION)  # of lines that differ in numbers alone, one tells all
_DEVICE = re.compile(r"\[\d+\]([^\s:/]+)")
_IB = ("IB", "IBext")  # NVIDIA's plug-in calls itself IBext, IBext_v8, ...
MOST_WARNINGS = 5
MOST_DEVICES = 64
MOST_COMMS = 1000  # that are not complete


class NcclLog(Struct, frozen=True, kw_only=True):
    """What a log tells; empty: it does not.

    Attributes:
        library: "NCCL 2.27.5", "RCCL 2.22.3".
        transports: in the order of their speed, with "NVLS" and "GDRDMA" where they were in use.
        interface: the network devices of the network that was used: "mlx5_0, mlx5_1", "eth0".
        warnings: each once, without the place in the source.
        bootstrap: the interfaces over which the ranks found each other.
        rdma: the RDMA devices that it found, used or not.
        no_rdma: why it found none, in its words.
    """

    library: str = ""
    transports: tuple[str, ...] = ()
    interface: str = ""
    warnings: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    rdma: tuple[str, ...] = ()
    no_rdma: str = ""


class Started(Struct, frozen=True, kw_only=True):
    """A communicator: how many ranks it has, which began to join it, and which came to an end."""

    ranks: int
    began: set[int]
    ended: set[int]


class Reader:
    """Reads a log piece by piece, each of whole lines, whatever else stands between and in them."""

    def __init__(self) -> None:
        self._library = ""
        self._nets: dict[str, None] = {}
        self._local: set[str] = set()
        self._gdr = False
        self._using: dict[str, dict[str, None]] = {}
        self._bootstrap: dict[str, None] = {}
        self._lacks = ""
        self._warnings: dict[str, None] = {}
        self.started: dict[str, Started] = {}

    def read(self, text: str) -> None:
        """Take in what a piece tells."""
        for pattern, take in self.patterns.items():
            for match in re.finditer(pattern, text):
                take(match)

    @property
    def patterns(self) -> "dict[str, Take]":
        """What is looked for, and what to do with a match."""
        return {
            CHANNEL: self._channel,
            NVLS: self._nvls,
            VERSION: self._version,
            USING: self._devices,
            BOOTSTRAP: self._way,
            NO_IB: self._lack,
            INIT: self._init,
            WARNING: self._warning,
        }

    @property
    def log(self) -> NcclLog:
        """What is known so far."""
        ordered: list[str] = [name for name in ("NVLS", "P2P", "SHM") if name in self._local]
        ordered += ["GDRDMA"] if self._gdr else []
        used = (self._using.get(net, {}) for net in ("IB", "Socket") if f"NET/{net}" in self._nets)
        return NcclLog(
            library=self._library,
            transports=(*ordered, *self._nets),
            interface=", ".join(next((names for names in used if names), ())),
            warnings=tuple(self._warnings),
            bootstrap=tuple(self._bootstrap),
            rdma=tuple(self._using.get("IB", ())),
            no_rdma="" if "IB" in self._using else self._lacks,
        )

    def _channel(self, match: re.Match[str]) -> None:
        if net := match["net"]:
            self._nets["NET/IB" if net.startswith(_IB) else f"NET/{net}"] = None
            self._gdr = self._gdr or bool(match["gdr"])
        else:
            self._local.add(match["local"] or "SHM")

    def _nvls(self, match: re.Match[str]) -> None:
        self._local.add("NVLS")

    def _version(self, match: re.Match[str]) -> None:
        self._library = self._library or f"{match[1]}CCL {match[2]}"

    def _devices(self, match: re.Match[str]) -> None:
        known = self._using.setdefault(match["net"], {})
        for name in _DEVICE.findall(match["devices"]):
            if len(known) < MOST_DEVICES:
                known[name] = None

    def _way(self, match: re.Match[str]) -> None:
        if len(self._bootstrap) < MOST_DEVICES:
            self._bootstrap[match["name"]] = None

    def _lack(self, match: re.Match[str]) -> None:
        self._lacks = self._lacks or match["lack"] or match["library"]

    def _init(self, match: re.Match[str]) -> None:
        comm, rank, ranks = match["comm"] or "", int(match["rank"]), int(match["ranks"])
        known = self.started.get(comm)
        if match["end"] == "COMPLETE":
            if known is not None:
                known.ended.add(rank)
                if len(known.ended) == known.ranks:
                    del self.started[comm]
        elif known is not None:
            known.began.add(rank)
        elif len(self.started) < MOST_COMMS:
            self.started[comm] = Started(ranks=ranks, began={rank}, ended=set())

    def _warning(self, match: re.Match[str]) -> None:
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings[" ".join(match[1].split())[:200]] = None


Take = Callable[[re.Match[str]], None]


def parse(text: str) -> NcclLog:
    """The log of all ranks of a node."""
    reader = Reader()
    reader.read(text)
    return reader.log
