"""NCCL_IB_HCA: the RDMA devices that NCCL is to use."""

from collections.abc import Mapping, Sequence

from gpudoctor import (
    Environment,
    EnvSet,
    Finding,
    Fix,
    Gpus,
    NcclSettings,
    Rdma,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.nccl_names import NameList, name_list
from gpudoctor.rules.nccl_ports import Port, all_ports, fabric, idle, named, told

HCA = "NCCL_IB_HCA"


@check(
    owner="job",
    symptoms=[
        r"NET/IB : No device found",
        r"Attempted to (?:connect|merge) incompatible devices",
        r"NCCL_IB_HCA set to",
    ],
)
def nccl_hca(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
) -> Finding:
    """NCCL_IB_HCA names the RDMA devices that are meant, and only those.

    Its names are prefixes unless the list begins with "=": mlx5_1 also takes mlx5_10 to
    mlx5_19. A name that this node does not have is passed over: "NET/IB : No device found", and
    TCP instead, while the other nodes wait on RDMA. InfiniBand and RoCE together end in
    "Attempted to connect incompatible devices".
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    ports = all_ports(rdma)
    if not ports:
        return skip("no device here that NCCL_IB_HCA could name: EFA comes by a plug-in")
    if HCA not in values:
        return _unnamed(rdma, len(gpus.alive) if gpus else 0)
    names, taken = name_list(values[HCA]), named(rdma, values)
    shown = f"{HCA}={values[HCA]}"
    unknown = [] if names.excludes else _unknown(names, ports)
    if not taken or unknown:
        return _not_here(shown, taken, unknown, rdma)
    if more := _by_prefix_alone(names, ports):
        meant = f"{'^' * names.excludes}={values[HCA].lstrip('^')}"
        exact = Fix(EnvSet(HCA, meant))
        first, others = next(iter(more.items()))
        summary = f'{first} in {HCA} also means {", ".join(others)}: begin the list with "="'
        return warn(summary[:79], exact, evidence=[shown], basis="vendor")
    up = [port for port in taken if port.active]
    if {"InfiniBand", "Ethernet"} <= {port.port.link_layer for port in up}:
        return _mixed([p for p in up if p.port.link_layer == "InfiniBand"], up)
    return ok(f"{count_of(len(taken), 'port')} of {len(ports)}: {_some(taken)}", [shown])


def _some(ports: Sequence[Port]) -> str:
    """ "mlx5_0:1, mlx5_1:1, ..., mlx5_7:1"."""
    labels = [port.label for port in ports]
    return ", ".join(labels if len(labels) < 4 else [*labels[:2], "...", labels[-1]])


def _unnamed(rdma: Rdma, rails: int) -> Finding:
    up = [port for port in all_ports(rdma) if port.active]
    fast = [port for port in up if port.port.link_layer == "InfiniBand"]
    other = [port for port in up if port.is_roce]
    # With a port of InfiniBand for each GPU none takes the other kind, which is farther away.
    if fast and other and len({port.card for port in fast}) < rails:
        return _mixed(fast, up)
    evidence = [f"also active, Ethernet: {', '.join(p.label for p in other)}"] if fast else []
    return ok(
        f"not set: NCCL may use {count_of(len(up), 'active port')}", evidence if other else []
    )


def _mixed(keep: Sequence[Port], ports: Sequence[Port]) -> Finding:
    fix = Fix(EnvSet(HCA, _exactly(keep)))
    evidence = [f"{port.label}: {port.port.link_layer}" for port in ports]
    summary = f"NCCL may use InfiniBand and Ethernet at once, {count_of(len(ports), 'port')}"
    return warn(summary, fix, evidence=evidence, basis="vendor")


def _not_here(shown: str, taken: Sequence[Port], unknown: Sequence[str], rdma: Rdma) -> Finding:
    ports = all_ports(rdma)
    evidence = [f"this node has {', '.join(dict.fromkeys(p.device.name for p in ports))}"]
    if any(name != name.strip() for name in unknown):
        evidence.append("NCCL strips no blanks: the names must follow the commas at once")
    meant = [p for p in ports if p.device.name in {name.strip() for name in unknown}]
    wanted = [*taken, *meant] or fabric(rdma, {}) or ports
    fix = Fix(EnvSet(HCA, _exactly(wanted)))
    if not taken:
        summary = f"{shown} leaves no device of this node"
        return fail(summary[:79], fix, evidence=evidence, basis="vendor")
    said = " and ".join(f'"{name}"' for name in unknown)
    return warn(f"{HCA}: no device here is {said}"[:79], fix, evidence=evidence, basis="vendor")


def _unknown(names: NameList, ports: Sequence[Port]) -> list[str]:
    """Entries that no port of this node has."""
    return [
        entry.name if entry.port is None else f"{entry.name}:{entry.port}"
        for entry in names.entries
        if not any(entry.takes(p.device.name, p.port.number, names.exact) for p in ports)
    ]


def _by_prefix_alone(names: NameList, ports: Sequence[Port]) -> Mapping[str, list[str]]:
    """For entries that are the whole name of a device: the others that begin with it."""
    devices = list(dict.fromkeys(port.device.name for port in ports))
    listed = {entry.name for entry in names.entries}
    if names.exact:
        return {}
    more = {
        name: [d for d in devices if d.startswith(name) and d not in listed]
        for name in listed
        if name in devices
    }
    return {name: others for name, others in sorted(more.items()) if others}


def _exactly(ports: Sequence[Port]) -> str:
    return "=" + ",".join(dict.fromkeys(port.device.name for port in ports))
