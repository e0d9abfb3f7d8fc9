"""Which of a node's addresses carry the job's data: the others measure the way to those."""

from gpudoctor.cluster.links.card import Own
from gpudoctor.facts.devices import Devices
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.master import Master
from gpudoctor.facts.names import Names
from gpudoctor.facts.nccl import NcclAnswer, NcclSettings
from gpudoctor.facts.network import Address, Interface, Network
from gpudoctor.rules.addresses import outward
from gpudoctor.rules.interface_choice import Choice, gloo, listed, nccl
from gpudoctor.rules.interface_choice.reach import interface_of, way
from gpudoctor.snapshot import Absent, Snapshot


def own_addresses(node: Snapshot) -> tuple[Own, ...]:
    """The addresses of a node that others may reach, those that its job's data takes first.

    NCCL's choice where the node has GPUs, else gloo's. Where that cannot be told, or is the
    loopback, the interface that leads to the master, or out, comes first.
    """
    network = node.get(Network)
    if isinstance(network, Absent):
        return ()
    choice = _choice(node, network)
    chosen = [(pick, interface_of(network, pick)) for pick in choice.picked]
    picks = [pick for pick, found in chosen if found and found.kind != "loopback"]
    first = [pick.ip for pick in picks]
    towards = interface_of(network, picks[0]) if picks else None
    names = [towards.name] if towards else []
    master = node.get(Master)
    leads, _ = way(network, None if isinstance(master, Absent) else master)
    names += [leads] if leads else []
    usual = outward(network, leads)
    names += [usual[0].name] if usual else []

    def order(found: tuple[Interface, Address]) -> tuple[int, int]:
        interface, address = found
        picked = first.index(address.ip) if address.ip in first else len(first)
        named = names.index(interface.name) if interface.name in names else len(names)
        return picked, named

    wide = [found for found in listed(network) if _is_wide(*found)]
    # Nodes of one machine, with no network, still have its loopback.
    return tuple(_own(*found) for found in sorted(wide or listed(network), key=order))


def _choice(node: Snapshot, network: Network) -> Choice:
    environment, settings = node.get(Environment), node.get(NcclSettings)
    values = {} if isinstance(environment, Absent) else environment.values
    told = (NcclSettings() if isinstance(settings, Absent) else settings).under(values)
    devices, names = node.get(Devices), node.get(Names)
    if (not isinstance(devices, Absent) and devices.gpus) or "NCCL_SOCKET_IFNAME" in told:
        return nccl.sockets(network, told, _version(node))
    known = None if isinstance(names, Absent) else names
    return gloo.choose(network, told.get("GLOO_SOCKET_IFNAME", ""), known)


def _version(node: Snapshot) -> nccl.Version | None:
    answer, python = node.get(NcclAnswer), node.get(JobPython)
    if not isinstance(answer, Absent) and answer.version:
        return answer.version
    return None if isinstance(python, Absent) else python.nccl


def _is_wide(interface: Interface, address: Address) -> bool:
    return interface.kind != "loopback" and interface.up and address.scope == "global"


def _own(interface: Interface, address: Address) -> Own:
    rates = [rate for rate in (interface.speed_mbps, interface.limit_mbps) if rate]
    return Own(
        ip=address.ip,
        interface=interface.name,
        mtu=interface.mtu,
        speed_mbps=min(rates, default=None),
    )
