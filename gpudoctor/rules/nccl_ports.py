"""Which RDMA ports NCCL takes, and which of a machine's are there for that."""

import re
from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.facts.environment import Environment
from gpudoctor.facts.gpus import Gpus
from gpudoctor.facts.nccl import NcclSettings
from gpudoctor.facts.rdma import Gid, Rdma, RdmaDevice, RdmaPort
from gpudoctor.facts.workload import Workload
from gpudoctor.rules.nccl_names import name_list
from gpudoctor.units import count_of

SOFTWARE = ("rdma_rxe", "siw")
SPOKEN = ("InfiniBand", "Ethernet")  # link layers of NCCL's own transport: EFA has neither
FABRIC_GBPS = 100  # an Ethernet port below is taken for the node's ordinary network
RAILS = 2  # cards: one alone, as in many a cloud's VM, is that network too, whatever its speed
INDEX_BY_ITSELF = (2, 21)  # NCCL's first that chooses the GID: default -1, net_ib.cc
IPV4 = "0000:0000:0000:0000:0000:ffff:"  # and 32 bits


class Port(Struct, frozen=True):
    """A port and its device."""

    device: RdmaDevice
    port: RdmaPort

    @property
    def label(self) -> str:
        """As NCCL's log has it: "mlx5_0:1"."""
        return f"{self.device.name}:{self.port.number}"

    @property
    def card(self) -> str:
        """Its card: a card's ports are functions of one PCI address, or ports of one device."""
        return self.device.pci.rpartition(".")[0] or self.device.name

    @property
    def opens(self) -> bool:
        """Whether the job can open its device."""
        return bool(self.device.uverbs) and not self.device.node_error

    @property
    def is_roce(self) -> bool:
        return self.port.link_layer == "Ethernet"

    @property
    def active(self) -> bool:
        return self.port.state == "ACTIVE"


def told(environment: Environment | None, settings: NcclSettings | None) -> Mapping[str, str]:
    """The variables as NCCL sees them, with what its files say."""
    values = environment.values if environment else {}
    return settings.under(values) if settings else values


def idle(rdma: Rdma, workload: Workload, gpus: Gpus | None, values: Mapping[str, str]) -> str:
    """Why NCCL leaves RDMA alone, whatever the ports are; empty: it looks at them."""
    if variable := refused(values):
        return f"{variable} keeps NCCL from RDMA: see nccl-environment"
    if workload.nodes > 1:
        if (gpus and gpus.devices) or values.get("NCCL_IB_HCA"):
            return ""
        return "no GPU is seen here, so NCCL has nothing to send: see gpu-visible"
    ports = all_ports(rdma)
    seen = f"{sum(p.active for p in ports)} of {count_of(len(ports), 'port')} ACTIVE"
    return f"NCCL uses RDMA between nodes, and nobody says that there are several ({seen})"


def all_ports(rdma: Rdma) -> list[Port]:
    """Every port that NCCL's own transport could speak through, as the kernel lists them."""
    return [
        Port(device, port)
        for device in rdma.devices
        for port in device.ports
        if port.link_layer in SPOKEN
    ]


def named(rdma: Rdma, values: Mapping[str, str]) -> list[Port]:
    """Those that NCCL_IB_HCA leaves, in whatever state."""
    wanted = name_list(values.get("NCCL_IB_HCA", ""))
    return [p for p in all_ports(rdma) if wanted.takes(p.device.name, p.port.number)]


def asked(rdma: Rdma, values: Mapping[str, str]) -> list[Port]:
    """Those that NCCL_IB_HCA asks for by their whole names: "mlx5" asks for none of its own."""
    wanted = name_list(values.get("NCCL_IB_HCA", ""))
    whole = set() if wanted.excludes else {entry.name for entry in wanted.entries}
    return [port for port in named(rdma, values) if port.device.name in whole]


def fabric(rdma: Rdma, values: Mapping[str, str]) -> list[Port]:
    """Of those, the ones that are there for a job's traffic: others may be in any state.

    A container that was given some of the devices leaves the others alone.
    """
    ports = named(rdma, values)
    if any(port.opens for port in ports):
        wanted = {port.label for port in asked(rdma, values)}
        ports = [port for port in ports if port.opens or port.label in wanted]
    if values.get("NCCL_IB_HCA") and not values["NCCL_IB_HCA"].startswith("^"):
        return ports
    hardware = [p for p in ports if p.device.driver not in SOFTWARE]
    fast = [p for p in hardware if p.active and (p.port.rate_gbps or 0) >= FABRIC_GBPS]
    ethernet = [p for p in fast if p.is_roce]
    rails = len({p.card for p in ethernet}) >= RAILS
    drivers = {p.device.driver for p in ethernet} if rails else set()
    return [p for p in hardware if p.port.link_layer == "InfiniBand" or p.device.driver in drivers]


def carries(rdma: Rdma, values: Mapping[str, str]) -> bool:
    """Whether the job's data go by RDMA, and sockets only arrange it."""
    efa = any(device.driver == "efa" for device in rdma.devices)
    return not refused(values) and (efa or any(port.active for port in fabric(rdma, values)))


def number(text: str) -> int | None:
    """A variable's number as strtoll reads it; None: not set."""
    if not text.strip():
        return None
    match = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|\d+)", text)
    if match is None:
        return 0
    digits = match[2]
    base = 16 if digits[:2].lower() == "0x" else 8 if re.fullmatch(r"0[0-7]+", digits) else 10
    return int(digits, base) * (-1 if match[1] == "-" else 1)


def refused(values: Mapping[str, str]) -> str:
    """The variable that keeps NCCL from RDMA: "NCCL_IB_DISABLE=1"; empty: none."""
    if number(values.get("NCCL_IB_DISABLE", "")):
        return f"NCCL_IB_DISABLE={values['NCCL_IB_DISABLE']}"
    net = values.get("NCCL_NET", "")
    return f"NCCL_NET={net}" if net.lower() == "socket" else ""


def is_ipv4(gid: Gid) -> bool:
    """Whether it carries an IPv4 address: ::ffff:10.0.0.1."""
    return gid.gid.startswith(IPV4)


def is_link_local(gid: Gid) -> bool:
    return gid.gid.startswith("fe80:")


def gid_by_nccl(port: RdmaPort, values: Mapping[str, str]) -> Gid | None:
    """What NCCL since 2.21 takes by itself: routable, of the family and RoCE version asked for.

    None: there is no such GID, and it takes the first of the table.
    """
    version = number(values.get("NCCL_IB_ROCE_VERSION_NUM", ""))
    wanted = f"v{2 if version is None else version}"
    ipv4 = values.get("NCCL_IB_ADDR_FAMILY", "AF_INET") != "AF_INET6"
    fit = [g for g in port.gids if is_ipv4(g) is ipv4 and not is_link_local(g)]
    best = [g for g in fit if g.type.endswith(wanted)]
    return next(iter(best or fit), None)
