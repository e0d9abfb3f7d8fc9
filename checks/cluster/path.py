"""What the network between nodes carries: full packets, and how many of them."""

from collections.abc import Mapping, Sequence
from shlex import quote

from gpudoctor import (
    Finding,
    Fix,
    Links,
    Members,
    Network,
    Nodes,
    Way,
    brief,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.hostlist import fold
from gpudoctor.rules.between import NO_PAIR, SILENT, STRANGER, covered, failed, owner, told
from gpudoctor.rules.between import summary as of_fault
from gpudoctor.rules.blame import Fault, faults
from gpudoctor.rules.differences import listed, remark, who
from gpudoctor.rules.leading import device_of
from gpudoctor.rules.majority import split
from gpudoctor.rules.suspects import Verdict, verdict

ETHERNET = 1500
TUNNEL = 1400  # what is left inside of VXLAN, IPsec and WireGuard over Ethernet
HEADERS = 28  # bytes of IPv4 and ICMP in front of what ping sends
SLOW = 0.7  # of the interface's speed, or of what other pairs reach; rule of thumb
ONE_CPU = 25_000  # Mb/s; more takes several CPUs and connections, and tells of those
SLOW_WITH_CPUS = 0.5
CRAWLS = 0.25  # each step takes four times as long
USELESS = 1.25e8  # bytes a second, 1 Gb/s; a virtual wire is as fast as the CPUs, and those do more
VIRTUAL = ("vmxnet3", "virtio_net", "hv_netvsc", "ena", "gve", "xen-netfront", "veth")
CARDS = ("physical", "bond", "infiniband")
BLACK_HOLE = [
    r"Watchdog caught collective operation timeout",
    r"ran for \d+ milliseconds before timing out",
    r"socketProgress.*Connection timed out",
]


@check(owner="network", symptoms=[*BLACK_HOLE, r"Message too long"])
def cluster_mtu(links: Links, members: Members | None) -> Finding:
    """Packets as large as the nodes send them pass between all nodes.

    Where a switch or a tunnel takes smaller packets than the nodes send, small messages pass and
    large ones vanish: every rank joins, and the first all-reduce hangs until "Watchdog caught
    collective operation timeout". A node with another MTU than the rest is where that begins.
    """
    tried = [w for w in links.ways if w.mss is not None or w.step in ("large", "throughput")]
    if not tried:
        return skip("no way between two nodes carried data" if links.ways else NO_PAIR)
    mtus = split({w.source: w.mtu for w in links.ways if w.mtu})
    swallowed = [w for w in failed(links, members) if w.step == "large" and not _is_other(w)]
    found = faults(tried, swallowed)
    evidence = [
        f"MTU {mtu}: {listed(names)}" for mtu, names in mtus.groups.items() if len(mtus.groups) > 1
    ]
    if found:
        blamed = dict.fromkeys(n for fault in found for n in fault.blamed)
        return fail(
            of_fault(found[0], len(tried), "full packets"),
            _narrow(found[0], mtus.usual),
            evidence=[*told(swallowed), *evidence, *covered(links)],
            basis="measured",
            owner="network",
            nodes=blamed,
        )
    if not mtus.alike:
        return warn(
            _unlike(mtus.groups, mtus.usual, mtus.outliers),
            _same_mtu(links.ways, mtus.usual or min(mtus.groups), mtus.outliers),
            evidence=[*evidence, "TCP settles on the smaller one; RDMA and UDP do not"],
            basis="measured",
            owner="node",
            nodes=mtus.outliers,
        )
    narrow = [w for w in tried if w.path_mtu and w.mtu and w.path_mtu < w.mtu]
    evidence = [f"{w.source} -> {w.target}: {w.path_mtu} bytes on the way" for w in narrow[:8]]
    size = f" of {mtus.usual} bytes" if mtus.usual else ""
    return ok(f"full packets{size} pass on {count_of(len(tried), 'way')}", evidence)


def _is_other(way: Way) -> bool:
    return way.error in (SILENT, STRANGER)  # a process, not a packet: cluster-reachability


def _narrow(fault: Fault, usual: int | None) -> Fix:
    way = fault.ways[0]
    sent = way.mtu or usual or 1500
    names = fault.blamed or (way.source,)
    interface = way.interface or "eth0"
    smaller = ETHERNET if sent > ETHERNET else TUNNEL
    there = remark(fold(names))
    return Fix(
        text=f"Let the switch carry {sent} bytes, or send less on {listed(names)}",
        commands=[
            f"ping -M do -c 3 -s {sent - HEADERS} {quote(way.address)}"
            f"  # on {remark(way.source)}: must pass",
            f"sudo ip link set dev {quote(interface)} mtu {smaller}  # on {there}, or less",
            "sudo sysctl -w net.ipv4.tcp_mtu_probing=1  # on all: for TCP alone, meanwhile",
        ],
        needs_root=True,
    )


def _unlike(
    groups: Mapping[int, tuple[str, ...]], usual: int | None, outliers: tuple[str, ...]
) -> str:
    if usual is None:
        return "MTU " + ", ".join(f"{mtu} on {who(names, 16)}" for mtu, names in groups.items())
    others = "/".join(str(mtu) for mtu in groups if mtu != usual)
    return f"MTU {others} on {who(outliers, 30)}, {usual} on {len(groups[usual])} others"


def _same_mtu(ways: tuple[Way, ...], mtu: int, outliers: tuple[str, ...]) -> Fix:
    names = outliers or tuple(dict.fromkeys(w.source for w in ways if w.mtu != mtu))
    interfaces = dict.fromkeys(w.interface for w in ways if w.source in names and w.interface)
    there = remark(fold(names))
    commands = [f"sudo ip link set dev {quote(i)} mtu {mtu}  # on {there}" for i in interfaces]
    text = f"Give {listed(names)} MTU {mtu} as well; the network's configuration must keep it"
    return Fix(text=text, commands=commands or [f"ip link  # mtu {mtu}"], needs_root=True)


@check(
    owner="network",
    symptoms=[
        r"Watchdog caught collective operation timeout",
        r"ran for \d+ milliseconds before timing out",
        r"socketProgress: Connection closed by remote peer",
    ],
)
def cluster_throughput(links: Links, nodes: Nodes | None, members: Members | None) -> Finding:
    """The network between the nodes is as fast as its interfaces and its other links.

    Gradients go over all links at every step, and the slowest one sets the pace: a cable that
    came up with a tenth of its speed, or a switch port that drops packets, makes the whole job
    slow, and a large one end in "Watchdog caught collective operation timeout".
    """
    figures = {(w.source, w.target): w for w in links.ways if w.bytes_per_second is not None}
    broke = [w for w in failed(links, members) if w.step == "throughput" and not _is_other(w)]
    if broke:
        first = faults(links.ways, broke)[0]
        return fail(
            of_fault(first, len(links.ways), "stream"),
            _see(list(first.ways), first.blamed),
            evidence=told(broke),
            basis="measured",
            owner=owner(first),
            nodes=first.blamed,
        )
    if not figures:
        return skip("throughput was not measured" if links.ways else NO_PAIR)
    pairs = _pairs(figures)
    found = verdict(pairs)
    rates = sorted(w.bytes_per_second or 0.0 for w in figures.values())
    evidence = [*_lines(figures, found), *covered(links)]
    slow = _slower(pairs, found, figures, nodes)
    if slow:
        return _named(slow, found, figures, evidence)
    below = [w for w in figures.values() if _share(w, figures, nodes) < SLOW]
    if below:
        return _below(below, figures, nodes, evidence)
    return ok(f"{_rate(rates[0])} to {_rate(rates[-1])} between two nodes over TCP", evidence)


def _pairs(figures: Mapping[tuple[str, str], Way]) -> dict[tuple[str, str], float | None]:
    """The slower direction of each pair."""
    pairs: dict[tuple[str, str], float | None] = {}
    for (source, target), way in figures.items():
        ends = (min(source, target), max(source, target))
        other = pairs.get(ends)
        rate = way.bytes_per_second or 0.0
        pairs[ends] = rate if other is None else min(other, rate)
    return pairs


def _slower(
    pairs: Mapping[tuple[str, str], float | None],
    found: Verdict,
    figures: Mapping[tuple[str, str], Way],
    nodes: Nodes | None,
) -> dict[tuple[str, ...], float]:
    """The nodes and links that are far below what the others reach: names -> share of it."""
    usual = found.usual or 0.0
    rates: dict[tuple[str, ...], float] = {}
    for node in found.nodes:
        rates[node,] = max(value or 0.0 for ends, value in pairs.items() if node in ends)
    rates |= {ends: pairs[ends] or 0.0 for ends in found.links if ends in pairs}
    slow = {}
    for names, rate in rates.items():
        speeds = [_speed(way, nodes) for ends, way in figures.items() if {*names} & {*ends}]
        known = [speed for speed in speeds if speed is not None]
        if len(known) < len(speeds):
            is_slow = rate < CRAWLS * usual and rate < USELESS
        else:
            is_slow = rate < usual * (SLOW if max(known) <= ONE_CPU else SLOW_WITH_CPUS)
        if is_slow:
            slow[names] = rate / usual
    return slow


def _named(
    slow: Mapping[tuple[str, ...], float],
    found: Verdict,
    figures: Mapping[tuple[str, str], Way],
    evidence: list[str],
) -> Finding:
    nodes = [names[0] for names in slow if len(names) == 1]
    worst = min(slow.values())
    usual = _rate(found.usual or 0.0)
    if nodes:
        said = f"{who(nodes, 30)} reaches {_rate(worst * (found.usual or 0.0))}, others {usual}"
    else:
        one, other = min(slow, key=slow.__getitem__)
        said = f"between {one} and {other} {worst:.0%} of what other pairs reach, {usual}"
    ways = [w for ends, w in figures.items() if set(ends) & set(next(iter(slow)))]
    return (fail if worst < CRAWLS else warn)(
        brief(said),
        _see(ways, nodes or next(iter(slow))),
        evidence=evidence,
        basis="measured",
        owner="node" if nodes else "network",
        nodes=nodes,
    )


def _share(way: Way, figures: Mapping[tuple[str, str], Way], nodes: Nodes | None) -> float:
    """Of the slower of the two interfaces; 1.0 where their speed says nothing."""
    back = figures.get((way.target, way.source))
    known = [_speed(w, nodes) for w in (way, back) if w is not None]
    if len(known) < 2 or None in known:
        return 1.0
    speed = min(speed for speed in known if speed is not None)
    return 1.0 if speed > ONE_CPU else (way.bytes_per_second or 0.0) * 8e-6 / speed


def _speed(way: Way, nodes: Nodes | None) -> float | None:
    """What the source's interface can do, by itself or by traffic control, if that is true."""
    network = nodes.each(Network).get(way.source) if nodes else None
    interface = network.interface(way.interface) if network else None
    if network is None or interface is None:
        return None
    if interface.limit_mbps:
        return interface.limit_mbps
    card = device_of(network, interface)
    is_real = card.kind in CARDS and card.driver not in VIRTUAL
    return card.speed_mbps if is_real else None


def _below(
    below: list[Way],
    figures: Mapping[tuple[str, str], Way],
    nodes: Nodes | None,
    evidence: list[str],
) -> Finding:
    worst = min(below, key=lambda way: _share(way, figures, nodes))
    share = _share(worst, figures, nodes)
    ends = f"{worst.source} -> {worst.target}"
    rate, speed = _rate(worst.bytes_per_second or 0.0), _speed(worst, nodes) or 0.0
    said = f"{ends}: {rate}, {share:.0%} of {worst.interface}'s {speed / 1000:g} Gb/s"
    return warn(brief(said), _see(below), evidence=evidence, basis="rule-of-thumb")


def _see(ways: list[Way], names: Sequence[str] = ()) -> Fix:
    """What to look at on some nodes, or else at both ends of the first way."""
    names = names or (ways[0].source, ways[0].target)
    way = next((way for way in ways if way.source in names), ways[0])
    interface = quote(way.interface or "eth0")
    what = f"the cable, the switch port and the counters of {interface}"
    return Fix(
        text=f"On {listed(names)}: look at {what}",
        commands=[
            f"ethtool {interface} | grep -E 'Speed|Duplex'",
            f"ethtool -S {interface} | grep -iE 'err|drop|discard' | grep -v ': 0'",
            f"ip -s link show {interface}",
            "nstat -az TcpRetransSegs",
        ],
    )


def _lines(figures: Mapping[tuple[str, str], Way], found: Verdict) -> list[str]:
    """The slowest ways, and what the verdict went by."""
    slowest = sorted(figures.values(), key=lambda way: way.bytes_per_second or 0.0)[:6]
    lines = [
        f"{way.source} -> {way.target}: {_rate(way.bytes_per_second or 0.0)} over"
        f" {count_of(way.streams, 'connection')}"
        + (f", {way.retransmits} segments sent again" if way.retransmits else "")
        for way in slowest
    ]
    if found.unclear and found.usual:
        named = ", ".join(f"{one} - {other}" for one, other in found.unclear[:4])
        lines.append(f"slower, but nobody can be told to be the cause: {named}")
    return lines


def _rate(bytes_per_second: float) -> str:
    gigabits = bytes_per_second * 8e-9
    return f"{gigabits:.3g} Gb/s" if gigabits >= 1 else f"{gigabits * 1000:.3g} Mb/s"
