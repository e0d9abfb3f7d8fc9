"""Counters of network interfaces and of RDMA ports."""

from gpudoctor.facts.network import Interface
from gpudoctor.probes import Machine, netlink
from gpudoctor.probes.network import network
from gpudoctor.probes.rdma import COUNTERS, DEVICES, HW_COUNTERS, port_state
from gpudoctor.snapshot import Absent
from gpudoctor.watch.look import Link, Port

KINDS = ("physical", "wireless", "infiniband", "bond", "vlan", "macvlan", "veth")
SENT = "port_xmit_packets"
COUNTED = [f"counters/{name}" for name in COUNTERS]
COUNTED += [f"hw_counters/{name}" for name in HW_COUNTERS]
_RUNNING = 0x40  # IFF_RUNNING of linux/if.h


class NetworkSource:
    """The interfaces that a job can use: with an address, or part of one that has it."""

    def __init__(self, machine: Machine) -> None:
        found = network(machine)
        self._why = found.absent if isinstance(found, Absent) else ""
        self._kinds: dict[int, str] = {}
        if not isinstance(found, Absent):
            used = [i for i in found.interfaces if i.kind in KINDS and _is_addressed(i)]
            below = {name for interface in used for name in interface.below}
            parts = [i for i in found.interfaces if i.name in below and i.kind in KINDS]
            self._kinds = {i.index: i.kind for i in (*used, *parts)}

    def __call__(self) -> tuple[Link, ...] | Absent:
        if not self._kinds:
            return Absent(self._why or "no network interface has an address that others can reach")
        links = map(netlink.link, netlink.dump(netlink.GET_LINK))
        return tuple(
            Link(
                name=link.name,
                running=bool(link.flags & _RUNNING),
                wireless=self._kinds[link.ifindex] == "wireless",
                packets=link.packets or 0,
                errors=link.errors or 0,
                dropped=link.dropped or 0,
                carrier_changes=link.carrier_changes or 0,
            )
            for link in links
            if link.ifindex in self._kinds
        )


def _is_addressed(interface: Interface) -> bool:
    """A container's end of a cable, on its host, is part of a bridge or has no such address."""
    told = any(address.scope == "global" for address in interface.addresses)
    return told and not interface.above


class RdmaSource:
    """All ports of all RDMA devices."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __call__(self) -> tuple[Port, ...]:
        found = []
        for name in self._machine.list(DEVICES):
            for number in self._machine.list(f"{DEVICES}/{name}/ports"):
                place = f"{DEVICES}/{name}/ports/{number}"
                numbers = {path: self._machine.number(f"{place}/{path}") for path in COUNTED}
                counters = {
                    path.partition("/")[2]: number
                    for path, number in numbers.items()
                    if number is not None
                }
                counters[SENT] = self._machine.number(f"{place}/counters/{SENT}") or 0
                state = port_state(self._machine, place)
                found.append(Port(name=f"{name}:{number}", state=state, counters=counters))
        return tuple(found)
