"""InfiniBand, RoCE and EFA devices as /sys/class/infiniband shows them."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Gid(Struct, frozen=True, kw_only=True):
    """An entry of a port's GID table that is not empty."""

    index: int
    gid: str
    type: str = ""  # "IB/RoCE v1", "RoCE v2"
    interface: str = ""


class RdmaPort(Struct, frozen=True, kw_only=True):
    """One port. `state` is the kernel's word: ACTIVE, INIT, DOWN, ..."""

    number: int
    state: str = ""
    physical_state: str = ""  # "LinkUp", "Polling", "Disabled"
    rate_gbps: float | None = None
    link_layer: str = ""  # "InfiniBand", "Ethernet"
    interface: str = ""  # of Linux, for RoCE and IP over InfiniBand
    gids: tuple[Gid, ...] = ()
    counters: Mapping[str, int] = {}  # link_downed, symbol_error, ... that are not zero


class RdmaDevice(Struct, frozen=True, kw_only=True):
    """One device: mlx5_0, bnxt_re0, rdmap0s6 (EFA), rxe0 (Soft-RoCE)."""

    name: str
    driver: str = ""  # "mlx5_core", "efa", "rdma_rxe"
    board: str = ""  # its kind, hca_type and board_id: "MT4129 MT_0000000838"
    pci: str = ""
    numa_node: int | None = None
    uverbs: str = ""  # "uverbs0"; empty: the kernel offers none
    node_error: str = ""  # why /dev/infiniband/<uverbs> cannot be opened: "ENOENT: ..."
    link_gen: int | None = None  # PCIe, to the slot
    link_gen_max: int | None = None  # of card and slot together
    link_width: int | None = None
    link_width_max: int | None = None
    ports: tuple[RdmaPort, ...] = ()


class Rdma(Fact, frozen=True, kw_only=True):
    """The devices, and what using them needs beside them."""

    devices: tuple[RdmaDevice, ...] = ()
    libibverbs: str = ""  # where the linker finds it; empty: nowhere
    providers: tuple[str, ...] = ()  # libmlx5, libefa, ... beside it
    peer_memory: tuple[str, ...] = ()  # kernel's ways from NIC to GPU: "nvidia_peermem", "amdkfd"
    dma_buf: bool | None = None  # kernel >= 5.12 and an open GPU driver
    unclaimed: tuple[str, ...] = ()  # InfiniBand cards on the bus without a device of theirs


class NcclPlugins(Fact, frozen=True, kw_only=True):
    """Network plug-ins of NCCL (libnccl-net.so, libnccl-net-ofi.so, ...) in the linker's sight."""

    files: tuple[str, ...] = ()

    def has(self, asked: str) -> bool:
        """Whether one of them is what NCCL_NET_PLUGIN asks for: a file, or the end of a name."""
        wanted = (asked, f"libnccl-net-{asked}.so")
        return any(path in wanted or path.rpartition("/")[2] in wanted for path in self.files)
