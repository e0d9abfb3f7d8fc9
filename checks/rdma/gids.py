"""The addresses that RoCE goes by."""

from collections.abc import Mapping, Sequence

from gpudoctor import (
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    Gid,
    Gpus,
    HostNetwork,
    JobPython,
    NcclSettings,
    Network,
    Rdma,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.nccl_ports import (
    INDEX_BY_ITSELF,
    Port,
    gid_by_nccl,
    idle,
    is_ipv4,
    is_link_local,
    named,
    number,
    told,
)

INDEX = "NCCL_IB_GID_INDEX"


@check(
    owner="job",
    symptoms=[
        r"ibv_modify_qp failed with error (?:Invalid argument|No such device|Connection timed out)",
        r"ibv_query_gid failed",
        r"IBV_WC_RETRY_EXC_ERR",
    ],
)
def rdma_gid(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
    job_python: JobPython | None,
    network: Network | None,
) -> Finding:
    """NCCL takes a routable GID on every RoCE port.

    A RoCE port has a table of addresses, two for each IP address of its interface, and NCCL
    takes the one at NCCL_IB_GID_INDEX, or since 2.21 the RoCE v2 one with an IPv4 address. An
    empty or wrong one ends in "Call to ibv_modify_qp failed with error Invalid argument",
    "No such device" or "Connection timed out".
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    ports = _used(rdma, values)
    if not ports:
        return skip("no RoCE port that NCCL would use")
    nccl = job_python.nccl if job_python else None
    index = number(values.get(INDEX, ""))
    if index is None or index < 0:
        if nccl is not None and nccl < INDEX_BY_ITSELF:
            return _first_of_table(ports, nccl)
        taken = {port.label: gid_by_nccl(port.port, values) for port in ports}
        if lacking := [port for port in ports if taken[port.label] is None]:
            return _no_address(lacking, values.get("NCCL_IB_ADDR_FAMILY", ""))
    else:
        taken = {p.label: next((g for g in p.port.gids if g.index == index), None) for p in ports}
        if bad := {label: why for label, gid in taken.items() if (why := _wrong(gid))}:
            return _wrong_index(values[INDEX], bad, ports, nccl)
    if network is not None and (away := _elsewhere(taken, network)):
        evidence = [f"{label}: its address is on {name}, not in here" for label, name in away]
        summary = f"{count_of(len(away), 'RoCE port')} of interfaces outside this network namespace"
        return warn(summary, Fix(HostNetwork()), evidence=evidence, basis="vendor", owner="launch")
    return ok(f"{count_of(len(ports), 'RoCE port')}, each with a routable GID")


def _used(rdma: Rdma, values: Mapping[str, str]) -> list[Port]:
    """The RoCE ports, unless InfiniBand is there for the traffic and nobody names them."""
    ports = [port for port in named(rdma, values) if port.active and port.opens]
    roce = [port for port in ports if port.is_roce]
    return roce if len(roce) == len(ports) or values.get("NCCL_IB_HCA") else []


def _wrong(gid: Gid | None) -> str:
    if gid is None:
        return "is empty"
    if is_link_local(gid):
        return "is link-local"
    return "is RoCE v1, which no router passes on" if gid.type.endswith("v1") else ""


def _wrong_index(
    value: str, bad: Mapping[str, str], ports: Sequence[Port], nccl: tuple[int, int] | None
) -> Finding:
    label, why = next(iter(bad.items()))
    right = {gid.index for port in ports if (gid := gid_by_nccl(port.port, {}))}
    old = nccl is not None and nccl < INDEX_BY_ITSELF
    fix = Fix(EnvSet(INDEX, str(right.pop()))) if old and len(right) == 1 else Fix(EnvUnset(INDEX))
    evidence = [f"GID {value} of {port} {words}" for port, words in bad.items()]
    evidence += [_table(port) for port in ports if port.label == label]
    say = fail if "is empty" in bad.values() else warn
    return say(f"{INDEX}={value}: on {label} it {why}", fix, evidence=evidence, basis="vendor")


def _first_of_table(ports: Sequence[Port], nccl: tuple[int, int]) -> Finding:
    """NCCL before 2.21 takes the first GID, mostly a link-local one of RoCE v1."""
    first = {p.label: next((g for g in p.port.gids if g.index == 0), None) for p in ports}
    if not (bad := {label: why for label, gid in first.items() if (why := _wrong(gid))}):
        return ok(f"{count_of(len(ports), 'RoCE port')}, the first GID of each is routable")
    right = {gid.index for port in ports if (gid := gid_by_nccl(port.port, {}))}
    fix = Fix(EnvSet(INDEX, str(right.pop() if len(right) == 1 else 3)))  # 3: as drivers fill it
    label, why = next(iter(bad.items()))
    version = ".".join(map(str, nccl))
    summary = f"NCCL {version} takes GID 0 of {label}, which {why.partition(',')[0]}"
    return warn(summary, fix, evidence=[_table(port) for port in ports], basis="vendor")


def _no_address(ports: Sequence[Port], family: str) -> Finding:
    interface, version = ports[0].port.interface, "IPv6" if family == "AF_INET6" else "IPv4"
    text = f"Give {interface or 'the interface of ' + ports[0].label} an {version} address"
    fix = Fix(
        text=text,
        commands=[f"ip -br address show dev {interface}"] if interface else (),
    )
    summary = f"{ports[0].label} has no routable GID of {version}"
    evidence = [_table(port) for port in ports]
    return warn(summary, fix, evidence=evidence, basis="vendor", owner="node")


def _elsewhere(taken: Mapping[str, Gid | None], network: Network) -> list[tuple[str, str]]:
    """Ports whose chosen address belongs to an interface that is not seen from here."""
    return [
        (label, gid.interface)
        for label, gid in taken.items()
        if gid and gid.interface and network.interface(gid.interface) is None
    ]


def _table(port: Port) -> str:
    """ "mlx5_0:1 has 0 (link-local, RoCE v1), 3 (IPv4, RoCE v2)"."""
    rows = []
    for gid in port.port.gids[:8]:
        family = "IPv4" if is_ipv4(gid) else "link-local" if is_link_local(gid) else "IPv6"
        rows.append(f"{gid.index} ({family}, {gid.type.replace('IB/', '')})")
    return f"{port.label} has {', '.join(rows) or 'no GID at all'}"
