"""How fast an all-reduce should be: by GPU model, links, ranks, and the network between nodes.

A ring of n ranks sends 2(n-1)/n of its buffer over each link, in each direction. So bytes a second
times that, the bus bandwidth, is what a link carried: it is compared with what links can carry.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.data import table
from gpudoctor.facts.all_reduce import AllReduce, Measured
from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.facts.members import Nodes
from gpudoctor.facts.network import Network
from gpudoctor.facts.rdma import Rdma
from gpudoctor.finding import Basis
from gpudoctor.rules.gpu_models import gpu_model

GB = 1e9  # bandwidths are in powers of ten, as the field has them


class Expected(Struct, frozen=True, kw_only=True):
    """What healthy hardware reaches.

    Attributes:
        busbw: bytes a second.
        why: in words.
        sure: measured elsewhere: far below it is a fault, and not only worth a warning.
    """

    busbw: float
    why: str
    sure: bool = True

    @property
    def basis(self) -> Basis:
        return "measured" if self.sure else "rule-of-thumb"

    @property
    def warn_below(self) -> float:
        return self.busbw * _value("warn_below")

    @property
    def fail_below(self) -> float:
        return self.busbw * _value("fail_below") if self.sure else 0.0


def factor(ranks: int) -> float:
    """Bus bandwidth for a bandwidth of 1: what a ring sends over each link."""
    return 2 * (ranks - 1) / ranks


def largest(found: AllReduce) -> Measured | None:
    """The largest size; where it was measured twice, the faster: a moment's load is no fault."""
    if not found.points:
        return None
    point = max(found.points, key=lambda point: point.bytes)
    same = [other for other in found.again if other.bytes == point.bytes]
    return max([point, *same], key=lambda point: point.busbw)


def expected_local(found: AllReduce, gpus: Gpus | None) -> Expected | None:
    """What the GPUs of one node reach among themselves; None: not known, so it is not judged."""
    point = largest(found)
    if found.backend != "nccl" or len(set(found.gpus)) != 1:
        return None
    if point is None or point.bytes < _value("large_bytes"):
        return None
    name = found.gpus[0]
    used = _used(found, gpus)
    if any(gpu.mig_enabled or gpu.partition_compute not in (None, "", "SPX") for gpu in used):
        return None
    bare = re.sub(r"^(NVIDIA|AMD) ", "", name.strip(), flags=re.IGNORECASE)
    for row in table("bandwidth")["machines"]:
        if row["ranks"] == found.ranks and re.fullmatch(row["name"], bare, re.IGNORECASE):
            return Expected(busbw=row["busbw_gbs"] * GB, why=f"{found.ranks} {bare} elsewhere")
    return _by_links(used, bare) or _by_pcie(used, found.transports)


def expected_global(found: AllReduce, nodes: Nodes | None) -> Expected | None:
    """What the network between the nodes lets through; None: not known."""
    point = largest(found)
    if found.backend != "nccl" or nodes is None or point is None:
        return None
    by_rdma = _by_rdma(nodes)
    if by_rdma is None:
        return _by_tcp(found, nodes)
    if point.bytes < table("bandwidth")["network"]["rdma_large_bytes"]["value"]:
        return None
    each = max(1, found.ranks // found.nodes)
    if each == 1:
        return by_rdma
    inside = replace(found, ranks=each, gpus=found.gpus[:each], transports=("P2P",))
    local = expected_local(inside, next(iter(nodes.each(Gpus).values()), None))
    return local and min(local, by_rdma, key=lambda expected: expected.busbw)


def rdma_ports(nodes: Nodes) -> Mapping[str, Sequence[float]]:
    """The rates of each node's active InfiniBand ports, in Gbit/s."""
    found = {}
    for name, rdma in nodes.each(Rdma).items():
        found[name] = [
            port.rate_gbps
            for device in rdma.devices
            for port in device.ports
            if port.state == "ACTIVE" and port.link_layer == "InfiniBand" and port.rate_gbps
        ]
    return found


def rate(bytes_per_second: float) -> str:
    """ "462 GB/s", "11.2 MB/s": three digits."""
    for unit, name in ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if bytes_per_second >= unit:
            return f"{bytes_per_second / unit:.3g} {name}"
    return f"{bytes_per_second:.3g} B/s"


def duration(seconds: float) -> str:
    """ "41.7 ms"."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def _value(name: str) -> float:
    found: float = table("bandwidth")[name]["value"]
    return found


def _used(found: AllReduce, gpus: Gpus | None) -> list[Gpu]:
    """The GPUs that the ranks have; none where that is not sure."""
    alive = gpus.alive if gpus else ()
    used = [gpu for gpu in alive if gpu.bus_id and gpu.bus_id in found.bus_ids]
    if len(used) != found.ranks:
        used = list(alive)
    return used if len(used) == found.ranks else []


def _by_links(used: Sequence[Gpu], bare: str) -> Expected | None:
    """By NVLink or XGMI, where every GPU has links to a switch or to each of the others."""
    rows = {row["arch"]: row["gbs"] for row in table("bandwidth")["links"]}
    ids = {gpu.bus_id for gpu in used}
    counts = []
    for gpu in used:
        ends = [link.peer for link in gpu.links or () if link.active]
        model = gpu_model(gpu.name)
        if model and model.fabric and not any(ends):  # a guest is not told where links lead
            ends = ["switch"] * len(ends)
        switched = ends.count("switch")
        if not switched and not ids - {gpu.bus_id} <= set(ends):
            return None
        counts.append(switched or sum(end in ids for end in ends))
    per_link = rows.get(used[0].arch.split(":")[0]) if used else None
    if not per_link or not min(counts):
        return None
    why = f"{min(counts)} links of {bare}, {per_link} GB/s each"
    return Expected(busbw=min(counts) * per_link * GB, why=why)


def _by_pcie(used: Sequence[Gpu], transports: Sequence[str]) -> Expected | None:
    rows = {row["gen"]: row["gbs_per_lane"] for row in table("bandwidth")["pcie"]}
    ways = [(rows.get(gpu.pcie_gen_max or 0), gpu.pcie_width) for gpu in used]
    if not ways or not all(lane and width for lane, width in ways):
        return None
    slowest = min((lane or 0) * (width or 0) for lane, width in ways)
    if "SHM" in transports or "P2P" not in transports:
        most = min(slowest, _value("through_host"))
        return Expected(busbw=most * GB, why="through the host's memory", sure=False)
    return Expected(busbw=slowest * GB, why="PCIe, GPU to GPU", sure=False)


def _by_rdma(nodes: Nodes) -> Expected | None:
    """By the node with the least; None where a node has no InfiniBand."""
    ports = rdma_ports(nodes)
    if not ports or not all(ports.values()):
        return None
    least = min(ports.values(), key=sum)
    share = table("bandwidth")["network"]["rdma"]["value"]
    why = f"{len(least)} InfiniBand ports, {sum(least):.0f} Gbit/s together"
    return Expected(busbw=share * sum(least) / 8 * GB, why=why)


def _by_tcp(found: AllReduce, nodes: Nodes) -> Expected | None:
    if "NET/Socket" not in found.transports or not found.interface:
        return None
    speeds = []
    for network in nodes.each(Network).values():
        own = [network.interface(name) for name in found.interface.split(", ")]
        speeds.append(sum((i.limit_mbps or i.speed_mbps or 0.0) if i else 0.0 for i in own))
    if not speeds or not all(speeds):
        return None
    rows: Mapping[str, Any] = table("bandwidth")["network"]
    most = min(rows["tcp"]["value"] * min(speeds) / 8e3, rows["tcp_most_gbs"]["value"])
    why = f"TCP over {found.interface}, {min(speeds):.0f} Mbit/s"
    return Expected(busbw=most * GB, why=why, sure=most < rows["tcp_most_gbs"]["value"])
