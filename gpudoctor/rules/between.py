"""What stops packets between nodes: in words, and with the commands that let them through."""

import re
from collections.abc import Sequence
from shlex import quote

from gpudoctor.facts.firewall import Firewall
from gpudoctor.facts.links import Links, Way
from gpudoctor.facts.members import Members, Nodes
from gpudoctor.facts.network import Network, NetworkSettings
from gpudoctor.finding import Fix, Owner
from gpudoctor.rules.addresses import subnet
from gpudoctor.rules.blame import Fault
from gpudoctor.rules.differences import remark, who
from gpudoctor.rules.firewalls import Connection, opening, openings, verdict
from gpudoctor.units import brief, count_of

PORTS = (32768, 60999)  # the kernel's net.ipv4.ip_local_port_range, if it does not tell
STRANGER, SILENT = "STRANGER", "SILENT"
NO_PAIR = "no pair of nodes was tried: with two nodes or more --cluster does it"
WORDS = {
    "ECONNREFUSED": "refused",
    "ETIMEDOUT": "dropped on the way",
    "EHOSTUNREACH": "rejected by a firewall, or no such host",
    "ENETUNREACH": "no route leads there",
    "EACCES": "forbidden",
    "EPERM": "forbidden by a firewall",
    "ECONNRESET": "reset",
    STRANGER: "somebody else answers there",
    SILENT: "accepted, then silence",
}


def covered(links: Links) -> list[str]:
    """What was tried, where that is not everything."""
    if links.unfinished:
        return [f"{links.pairs} of {links.pairs_all} pairs were tried: {links.unfinished}"]
    if links.pairs < links.pairs_all:
        return [f"{links.pairs} of {links.pairs_all} pairs were tried, in {links.rounds} rounds"]
    return []


def failed(links: Links, members: Members | None) -> list[Way]:
    """The ways that do not work, but for those of nodes that were lost: they do not listen."""
    lost = {member.name for member in members.members if member.lost} if members else set()
    return [way for way in links.ways if way.error and not lost & {way.source, way.target}]


def told(ways: Sequence[Way], most: int = 8) -> list[str]:
    """A line for each way that fails, the first of them."""
    lines = [
        f"{way.source} -> {way.target} {way.address}:{way.port}: {word(way)}"
        f" ({way.error} at {way.step or 'connect'})"
        for way in ways[:most]
    ]
    more = len(ways) - most
    return [*lines, *([f"and {count_of(more, 'way')} more"] if more > 0 else [])]


def word(way: Way) -> str:
    return WORDS.get(way.error, way.error)


def summary(fault: Fault, total: int, what: str = "connections") -> str:
    """ "n7 takes no connections from 7 nodes: no answer: dropped on the way"."""
    reason = word(fault.ways[0])
    if fault.kind == "all":
        return brief(f"{what} fail on {len(fault.ways)} of {total} ways between nodes: {reason}")
    name = who(fault.nodes, 24)
    if fault.kind == "link":
        directions = " -> " if len(fault.ways) == 1 else " and "
        ends = (fault.ways[0].source, fault.ways[0].target)
        return brief(f"{what} fail between {directions.join(ends)}: {reason}")
    partners = {name for way in fault.ways for name in (way.source, way.target)}
    others = count_of(len(partners) - 1, "node")
    words = {
        "in": f"{name} takes no {what} from {others}",
        "out": f"{name} gets no {what} through to {others}",
        "both": f"{name} has no {what} to or from {others}",
    }
    return brief(f"{words[fault.kind]}: {reason}")


def owner(fault: Fault) -> Owner:
    """Of one node its admin; of a way between good nodes, or of all, whose network it is."""
    return "node" if fault.blamed else "network"


def let_through(fault: Fault, nodes: Nodes | None) -> Fix:
    """Commands for the first of the ways that a fault explains."""
    way = fault.ways[0]
    if way.error == SILENT:
        text = f"On {who(fault.nodes)}: see whether it is frozen or overloaded"
        commands = [
            "uptime; ps -eo stat,pid,comm --sort=stat | grep '^D'",
            "sudo dmesg -T | tail -50",
        ]
        return Fix(text=text, commands=commands, needs_root=True)
    if way.error == STRANGER:
        text = f"Two machines have the address {way.address}, or something stands in between"
        return Fix(
            text=text,
            commands=[
                f"sudo arping -c 3 -I {quote(way.interface or 'eth0')} {quote(way.address)}"
                f"  # on {remark(way.source)}; answers of two machines?"
            ],
            needs_root=True,
        )
    if way.error == "ENETUNREACH":
        text = f"On {who([way.source])}: add a route to {way.address}"
        return Fix(text=text, commands=["ip route", f"ip route get {quote(way.address)}"])
    where = who(fault.nodes) if fault.blamed else "all nodes"
    if fault.kind == "out":
        text = f"On {where}: let it connect to the other nodes; see what filters its output"
        commands = ["sudo nft list ruleset | grep -A8 'hook output'", "sudo iptables -S OUTPUT"]
        return Fix(text=text, commands=commands, needs_root=True)
    text = f"On {where}: let the other nodes connect, on any port that its kernel picks"
    if fault.kind == "link":
        text = f"See what stands between {' and '.join(fault.nodes)}, and lets others through"
        commands = [f"traceroute -T -p {way.port} {quote(way.address)}  # on {remark(way.source)}"]
        opens = _openings(way, nodes)
        commands += [f"{c}{',' if '#' in c else '  #'} on {remark(way.target)}" for c in opens]
        return Fix(text=text, commands=commands, needs_root=True)
    return Fix(text=text, commands=_openings(way, nodes), needs_root=True)


def sharpened(fault: Fault, links: Links, nodes: Nodes | None) -> Fault:
    """Of a fault that blames nobody: the one node whose own firewall stops these connections."""
    if fault.blamed or nodes is None:
        return fault
    own = {way.target: way.own for way in links.ways}
    said: dict[str, set[str]] = {}
    for way in fault.ways:
        words = _firewall_says(way, own.get(way.source, ()), nodes)
        said.setdefault(way.target, set()).update(words)
    guilty = [name for name, words in said.items() if words & {"drop", "reject"}]
    if not guilty and all(said.values()):  # a rule that is not understood, where others have none
        guilty = [name for name, words in said.items() if "unknown" in words]
    return Fault("in", tuple(guilty), fault.ways) if len(guilty) == 1 else fault


def _firewall_says(way: Way, sources: Sequence[str], nodes: Nodes) -> set[str]:
    """What the target's firewall does with connections from these addresses; none: not known."""
    firewall = nodes.each(Firewall).get(way.target)
    network = nodes.each(Network).get(way.target)
    holder = network.holder_of(way.address) if network else None
    if firewall is None or holder is None:
        return set()
    alike = [ip for ip in sources if (":" in ip) is (":" in way.address)]
    asked = [Connection(ip, holder.name, way.port, way.address) for ip in alike]
    return {verdict(firewall, connection) for connection in asked}


def neighbours(name: str, address: str, nodes: Nodes | None) -> str:
    """The subnet that a node's address is in, as commands that open a firewall name it."""
    network = nodes.each(Network).get(name) if nodes else None
    found = subnet(network, address)
    return found if re.fullmatch(r"[\da-fA-F.:]+/\d+", found) else "SUBNET"


def _openings(way: Way, nodes: Nodes | None) -> list[str]:
    """In the words of the target's own firewall, where it tells what it has."""
    source = neighbours(way.target, way.address, nodes)
    network = nodes.each(Network).get(way.target) if nodes else None
    firewall = nodes.each(Firewall).get(way.target) if nodes else None
    holder = network.holder_of(way.address) if network else None
    if nodes is None or firewall is None or holder is None:
        return openings(source)
    settings = nodes.each(NetworkSettings).get(way.target, NetworkSettings())
    ports = (settings.port_low or PORTS[0], settings.port_high or PORTS[1])
    stopped = Connection(source, holder.name, way.port, way.address)
    return opening(firewall, stopped, [source], [ports]) or openings(source)
