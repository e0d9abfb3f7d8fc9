"""What NCCL and RCCL say of themselves under NCCL_DEBUG=INFO: which way the data went."""

import re

from msgspec import Struct

# "Channel 00/0 : 0[0] -> 8[0] [send] via NET/IB/0(1)/GDRDMA/Shared"; before 2.12 the bracket held
# a bus id, and SHM was "direct shared memory". RCCL ends the line with "comm 0x... nRanks 08".
_CHANNEL = re.compile(
    r"Channel \d+(?:/\d+)? : \d+\[\w+\] -> \d+\[\w+\](?: \[(?:send|receive)\])? via"
    r" (?:(?P<local>P2P|SHM)\b|(?P<shared>direct shared memory)"
    r"|NET/(?P<net>[^/\n]+)/\d+(?:\(\d+\))?(?P<gdr>/GDRDMA)?)"
)
# "16 nvls channels" is said also where NCCL_ALGO forbids them.
_NVLS = re.compile(r"Connected NVLS tree|NVLS comm 0x")
_VERSION = re.compile(r"\b(R|N)CCL version ?:? (\d+(?:\.\d+)+)")
_USING = re.compile(r"NET/(?P<net>IB|Socket) : Using (?P<devices>(?:\[\d+\]\S+ ?)+)")
_DEVICE = re.compile(r"\[\d+\]([^\s:/]+)")
_WARNING = re.compile(r"NCCL WARN (.+)")
_IB = ("IB", "IBext")  # NVIDIA's plug-in calls itself IBext, IBext_v8, ...
MOST_WARNINGS = 5


class NcclLog(Struct, frozen=True, kw_only=True):
    """What a log tells; empty: it does not.

    Attributes:
        library: "NCCL 2.27.5", "RCCL 2.22.3".
        transports: in the order of their speed, with "NVLS" and "GDRDMA" where they were in use.
        interface: the network devices of the network that was used: "mlx5_0, mlx5_1", "eth0".
        warnings: each once, without the place in the source.
    """

    library: str = ""
    transports: tuple[str, ...] = ()
    interface: str = ""
    warnings: tuple[str, ...] = ()


def parse(text: str) -> NcclLog:
    """The log of all ranks of a node, whatever else stands between and in its lines."""
    nets: dict[str, None] = {}
    found = {"NVLS"} if _NVLS.search(text) else set()
    gdr = False
    for match in _CHANNEL.finditer(text):
        if net := match["net"]:
            nets["NET/IB" if net.startswith(_IB) else f"NET/{net}"] = None
            gdr = gdr or bool(match["gdr"])
        else:
            found.add(match["local"] or "SHM")
    ordered: list[str] = [name for name in ("NVLS", "P2P", "SHM") if name in found]
    ordered += ["GDRDMA"] if gdr else []
    version = _VERSION.search(text)
    return NcclLog(
        library=f"{version[1]}CCL {version[2]}" if version else "",
        transports=(*ordered, *nets),
        interface=_devices(text, nets),
        warnings=tuple(dict.fromkeys(_warnings(text)))[:MOST_WARNINGS],
    )


def _devices(text: str, nets: dict[str, None]) -> str:
    for match in _USING.finditer(text):
        if f"NET/{match['net']}" in nets:
            return ", ".join(dict.fromkeys(_DEVICE.findall(match["devices"])))
    return ""


def _warnings(text: str) -> list[str]:
    return [" ".join(match[1].split())[:200] for match in _WARNING.finditer(text)]
