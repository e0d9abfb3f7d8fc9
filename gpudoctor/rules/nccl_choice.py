"""What is to be said of the way that NCCL chose, going by its own log."""

import re

from gpudoctor.rules.nccl_log import NcclLog

_WIRELESS = re.compile(r"wl[a-z]*\d|wifi|ath\d|ra\d")
_VIRTUAL = re.compile(r"docker\d|br-[0-9a-f]|virbr\d|cni\d|flannel|cali|veth|lxcbr\d|podman\d")


def remarks(log: NcclLog) -> list[tuple[str, tuple[str, ...]]]:
    """What is not as one would wish it, each with the checks that look at it."""
    found: list[tuple[str, tuple[str, ...]]] = []
    over_sockets = "NET/Socket" in log.transports
    used = log.interface.split(", ") if log.interface and over_sockets else []
    for name in dict.fromkeys([*used, *log.bootstrap]):
        what = "data went" if name in used else "the ranks found each other"
        if _WIRELESS.match(name):
            found.append((f"{what} over {name}, a wireless interface", ("net-wireless",)))
        elif _VIRTUAL.match(name):
            found.append((f"{what} over {name}, a bridge inside one machine", ("nccl-interface",)))
        elif name == "lo" and over_sockets:
            found.append((f"{what} over lo, which no other machine reaches", ("nccl-interface",)))
    if over_sockets and log.rdma:
        found.append(
            (f"data went over TCP although {', '.join(log.rdma[:4])} is there", ("nccl-hca",))
        )
    elif over_sockets and log.no_rdma:
        found.append((f"data went over TCP; of RDMA it says: {log.no_rdma}", ("rdma-devices",)))
    if "NET/IB" in log.transports and "GDRDMA" not in log.transports:
        found.append(("RDMA went through the host's memory, without GPUDirect", ("rdma-gdr",)))
    if "SHM" in log.transports and not {"P2P", "NVLS"} & {*log.transports}:
        found.append(
            ("GPUs of a node went through /dev/shm, not to each other directly", ("gpu-p2p",))
        )
    return found
