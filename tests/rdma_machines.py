"""RDMA devices of healthy machines; a test puts in the one thing that is wrong."""

from typing import Any

from msgspec.structs import replace

from gpudoctor import Gid, Gpus, Rdma, RdmaDevice, RdmaPort, Workload
from tests.gpu_machines import H100, MI300X

TWO_NODES = Workload().told({"nodes": 2}, "SLURM_NNODES")
ONE_NODE = Workload().told({"nodes": 1}, "SLURM_NNODES")

UP: dict[str, Any] = {"state": "ACTIVE", "physical_state": "LinkUp"}
UNPLUGGED: dict[str, Any] = {"state": "DOWN", "physical_state": "Polling", "rate_gbps": 10.0}


def gids(interface: str) -> tuple[Gid, ...]:
    """A table as mlx5 fills it: each address for RoCE v1 and v2."""
    local, own = (
        "fe80:0000:0000:0000:a288:c2ff:fe12:3456",
        "0000:0000:0000:0000:0000:ffff:0a00:0001",
    )
    kinds = ("IB/RoCE v1", "RoCE v2")
    return tuple(
        Gid(index=index, gid=gid, type=kind, interface=interface)
        for index, (gid, kind) in enumerate((g, k) for g in (local, own) for k in kinds)
    )


def infiniband(number: int, rate: float = 400.0, **port: Any) -> RdmaDevice:
    table = (Gid(index=0, gid="fe80:0000:0000:0000:a088:c203:0012:3456", type="IB/RoCE v1"),)
    return _device(
        number, RdmaPort(number=1, link_layer="InfiniBand", gids=table, **_state(rate, port))
    )


def roce(number: int, rate: float = 400.0, **port: Any) -> RdmaDevice:
    name = f"ens{number}np0"
    settings = {"gids": gids(name), "interface": name, **_state(rate, port)}
    return _device(number, RdmaPort(number=1, link_layer="Ethernet", **settings))


def efa(number: int, **fields: Any) -> RdmaDevice:
    table = (Gid(index=0, gid="fe80:0000:0000:0000:0412:34ff:fe56:789a"),)
    port = RdmaPort(number=1, link_layer="Unknown", rate_gbps=100.0, gids=table, **UP)
    device = _device(number, port)
    return replace(device, name=f"rdmap{number}s0", driver="efa", **fields)


def soft_roce(**port: Any) -> RdmaDevice:
    settings = {"gids": gids("eth0")[1::2], "interface": "eth0", **_state(2.5, port)}
    only = RdmaPort(number=1, link_layer="Ethernet", **settings)
    return RdmaDevice(name="rxe0", driver="rdma_rxe", uverbs="uverbs0", ports=(only,))


def _state(rate: float, port: dict[str, Any]) -> dict[str, Any]:
    return {**UP, "rate_gbps": rate, **port}


def _device(number: int, port: RdmaPort) -> RdmaDevice:
    return RdmaDevice(
        name=f"mlx5_{number}",
        driver="mlx5_core",
        pci=f"0000:{0x10 + 8 * number:02x}:00.0",
        uverbs=f"uverbs{number}",
        link_gen=5,
        link_gen_max=5,
        link_width=16,
        link_width_max=16,
        ports=(port,),
    )


def machine(*devices: RdmaDevice, **fields: Any) -> Rdma:
    settings: dict[str, Any] = {
        "libibverbs": "/usr/lib/x86_64-linux-gnu/libibverbs.so.1",
        "providers": ("libmlx5", "libmlx4", "libefa", "librxe", "libbnxt_re"),
        "peer_memory": ("nvidia_peermem",),
        **fields,
    }
    return Rdma(devices=devices, **settings)


def without(rdma: Rdma, number: int, **changes: Any) -> Rdma:
    """The machine with another first port on one device."""
    device = rdma.devices[number]
    ports = (replace(device.ports[0], **changes), *device.ports[1:])
    devices = list(rdma.devices)
    devices[number] = replace(device, ports=ports)
    return replace(rdma, devices=tuple(devices))


INFINIBAND = machine(*(infiniband(n) for n in range(8)))
ROCE = machine(*(roce(n) for n in range(8)))
EFA = machine(*(efa(n) for n in range(4)))
SOFT_ROCE = machine(soft_roce())
# Two for storage at half the rate, and a card with a second port that nobody uses.
DGX = machine(
    *(infiniband(n) for n in range(8)),
    *(infiniband(n, 200.0) for n in (8, 9)),
    replace(infiniband(9, **UNPLUGGED), name="mlx5_10", pci="0000:58:00.1"),
)
LAN = machine(roce(0, 25.0))  # a server whose ordinary network card could do RoCE
VM = machine(roce(0, 100.0))  # a cloud's accelerated network: a virtual function

EIGHT = Gpus(devices=tuple(replace(H100, index=n) for n in range(8)))
EIGHT_AMD = Gpus(devices=tuple(replace(MI300X, index=n) for n in range(8)))
