"""The link to the other nodes: its speed, its packets' size, and that replies come back by it."""

from shlex import quote

from gpudoctor import (
    Environment,
    EnvSet,
    Finding,
    Fix,
    Interface,
    Master,
    Network,
    NetworkSettings,
    Rdma,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.addresses import address_of
from gpudoctor.rules.leading import NO_WAY, device_of, leading
from gpudoctor.rules.nccl_ports import carries

FAST = 10_000  # Mb/s; below, gradients of 1 GB take a second and more at each step
USELESS = 1_000  # Mb/s; below, 14 GB of them exceed NCCL's 10 minutes of patience
ERRORS = 100  # and more than ERROR_SHARE of all frames: a good cable has none in a day
ERROR_SHARE = 1e-5
SMALLEST_MTU = 1280  # bytes; RFC 8200: IPv6 does not work with less
LARGEST_MTU = 9216  # bytes, of Ethernet; TCP's window hides more at first
OVERHEAD = 20  # bytes that a tunnel adds at least, RFC 2003; VXLAN 50
DEVICES = ("physical", "bond", "infiniband")
ONE_NODE = "one node: nothing goes over the network; --nnodes 2 makes it count"
SLOW = [
    r"Watchdog caught collective operation timeout",
    r"ran for \d+ milliseconds before timing out",
]


@check(owner="network", symptoms=SLOW)
def net_link(
    network: Network,
    workload: Workload,
    master: Master | None,
    rdma: Rdma | None,
    environment: Environment | None,
) -> Finding:
    """The link to the other nodes is fast and free of errors.

    Each step waits for the slowest link. A cable or a switch port that came up with 100 Mb/s or
    half duplex looks alive, and the job runs a hundred times slower or ends in "Watchdog caught
    collective operation timeout".
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    interface = leading(network, master)
    if interface is None:
        return skip(NO_WAY)
    card = device_of(network, interface)
    down = [part for part in card.below if not _runs(network, part)]
    summary, evidence = _describe(card), _counted(card)
    if card.speed_mbps is not None and (card.speed_mbps < USELESS or card.duplex == "half"):
        return fail(summary, _renegotiate(card), evidence=evidence, basis="rule-of-thumb")
    if card.kind == "bond" and down:
        summary = f"{card.name} runs without {' and '.join(down)}"
        return warn(summary, _see(card, down), evidence=evidence, basis="measured")
    if card.errors and card.packets and card.errors > max(ERRORS, ERROR_SHARE * card.packets):
        summary = f"{card.name}: {card.errors} of {card.packets} frames had errors"
        return warn(summary, _see(card, [card.name]), evidence=evidence, basis="rule-of-thumb")
    if rdma is not None and carries(rdma, environment.values if environment else {}):
        return ok(f"{summary}; the data go over RDMA")
    for shaped in (interface, card):
        if shaped.limit_mbps is not None and shaped.limit_mbps < FAST:
            summary = f"{shaped.name} is limited to {_speed(shaped.limit_mbps)} by traffic control"
            judge = fail if shaped.limit_mbps < USELESS else warn
            return judge(summary, _unshape(shaped), evidence=evidence, basis="rule-of-thumb")
    if card.speed_mbps is None:
        return skip(f"{card.name} ({card.driver or card.kind}) does not tell its speed")
    if card.speed_mbps < FAST:
        return warn(summary, _faster(network, card), evidence=evidence, basis="rule-of-thumb")
    return ok(summary, evidence)


@check(owner="node", symptoms=[*SLOW, r"Connection reset by peer", r"Connection timed out"])
def net_wireless(network: Network, workload: Workload, master: Master | None) -> Finding:
    """The nodes do not talk to each other by wireless.

    Wireless loses packets and shares a few hundred Mb/s among everybody: each step takes minutes,
    and a moment of bad reception ends the job with "Watchdog caught collective operation timeout".
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    interface = leading(network, master)
    if interface is None:
        return skip(NO_WAY)
    if device_of(network, interface).kind != "wireless":
        return ok(f"{interface.name} leads to the other nodes, which is not wireless")
    wired = [i for i in network.interfaces if i.running and i.kind in DEVICES and address_of(i)]
    if wired:
        fix = _use(wired[0], f"{wired[0].name}, which has a cable")
    else:
        text = "Connect the nodes by a cable, and give MASTER_ADDR its address"
        fix = Fix(text=text, commands=["ip -br link"])
    return warn(f"{interface.name} leads to the other nodes: wireless", fix, basis="rule-of-thumb")


@check(
    owner="network",
    symptoms=[*SLOW, r"Message too long", r"IBV_WC_RETRY_EXC_ERR", r"Connection timed out"],
)
def net_mtu(network: Network, workload: Workload, master: Master | None) -> Finding:
    """Packets as large as this node sends them reach the other nodes.

    Where one end or a switch takes smaller packets than the other sends, small messages pass and
    large ones vanish: the job starts, and hangs in its first all-reduce until "Watchdog caught
    collective operation timeout". RDMA fails with "IBV_WC_RETRY_EXC_ERR".
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    interface = leading(network, master)
    if interface is None:
        return skip(NO_WAY)
    carrier = _narrower(network, interface)
    if carrier is not None:
        room = carrier.mtu - (OVERHEAD if interface.kind == "tunnel" else 0)
        summary = f"{interface.name} sends {interface.mtu} bytes, {carrier.name} takes {room}"
        return warn(summary, _set_mtu(interface, room), basis="measured")
    for attempt in master.attempts if master else ():
        there, ours = attempt.peer_mtu, min(interface.mtu, attempt.path_mtu or interface.mtu)
        if attempt.interface != interface.name or attempt.gateway or there is None:
            continue  # a router tells its own size: that is found out by itself
        if there < ours <= LARGEST_MTU:
            summary = f"{interface.name} has MTU {interface.mtu}, {attempt.ip} has {there}"
            evidence = ["told by the size of segments that the two ends agreed on"]
            evidence += ["TCP settles on the smaller one; RDMA, UDP and a switch in between do not"]
            fix = _set_mtu(interface, min(there, interface.mtu))
            return warn(summary, fix, evidence=evidence, basis="measured")
    if interface.mtu < SMALLEST_MTU:
        summary = f"{interface.name} sends at most {interface.mtu} bytes at a time"
        return warn(summary, _set_mtu(interface, 1500), basis="vendor")
    return ok(f"{interface.name} has MTU {interface.mtu}, and nothing smaller is seen on the way")


@check(
    owner="node",
    symptoms=[*SLOW, r"IPv4: martian source", r"No route to host", r"Connection timed out"],
)
def net_rp_filter(
    network: Network, network_settings: NetworkSettings, workload: Workload
) -> Finding:
    """Packets are not dropped for the interface that they come in by.

    With several interfaces in one subnet replies leave by the first of them. Strict reverse path
    filtering (rp_filter=1) then drops what comes in by the others, without a word in any log but
    "martian source", if that is on: connections of NCCL to those addresses time out.
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    twins = _in_one_subnet(network)
    if not twins:
        return ok("no two interfaces are in one subnet")
    subnet, interfaces = twins
    names = " and ".join(interface.name for interface in interfaces)
    every = network_settings.rp_filter_all or 0
    strict = [i for i in interfaces if max(every, i.rp_filter or 0) == 1]
    if all(i.rp_filter is None for i in interfaces):
        return skip(f"{names} are in {subnet}, but rp_filter cannot be read")
    if not strict:
        return ok(f"{names} are in {subnet}, and rp_filter is not strict")
    if network.own_rules:
        rules = count_of(network.own_rules, "rule")
        return ok(f"{names} are in {subnet}, with {rules} of routing of their own")
    setting = "net.ipv4.conf.all.rp_filter=2"
    fix = Fix(
        text="Let packets come in by any interface (2: loose), now and after a restart",
        commands=[
            f"sudo sysctl -w {setting}",
            f"echo {setting} | sudo tee /etc/sysctl.d/90-rp-filter.conf",
        ],
        needs_root=True,
    )
    summary = f"{names} are in {subnet}, and rp_filter is strict"
    evidence = [f"{i.name}: rp_filter {max(every, i.rp_filter or 0)}" for i in interfaces]
    return warn(summary, fix, evidence=evidence, basis="vendor")


def _describe(card: Interface) -> str:
    speed = "speed not told" if card.speed_mbps is None else _speed(card.speed_mbps)
    return f"{card.name}: {speed}" + (", half duplex" if card.duplex == "half" else "")


def _speed(mbps: float) -> str:
    return f"{mbps / 1000:g} Gb/s" if mbps >= 1000 else f"{mbps:g} Mb/s"


def _counted(card: Interface) -> list[str]:
    told = [f"driver {card.driver}"] if card.driver else []
    if card.errors is not None:
        told.append(f"{card.errors} of {card.packets} frames had errors")
    if card.carrier_changes is not None:
        told.append(f"the carrier came or went {card.carrier_changes} times")
    return told


def _runs(network: Network, name: str) -> bool:
    part = network.interface(name)
    return part is not None and part.running


def _renegotiate(card: Interface) -> Fix:
    return Fix(
        text="Renew cable or switch port: the two ends agreed on less than the card can do",
        commands=[
            f"sudo ethtool {quote(card.name)}",
            f"sudo ethtool -s {quote(card.name)} autoneg on",
        ],
        needs_root=True,
    )


def _unshape(interface: Interface) -> Fix:
    return Fix(
        text="Lift the limit, where somebody set it: a unit, a script, an annotation of the pod",
        commands=[f"sudo tc qdisc del dev {quote(interface.name)} root"],
        needs_root=True,
    )


def _see(card: Interface, parts: list[str]) -> Fix:
    commands = [f"sudo ethtool {quote(part)}" for part in parts]
    commands += [f"ip -s -s link show {quote(part)}" for part in parts]
    return Fix(
        text=f"See to the cable and the switch port of {' and '.join(parts)}",
        commands=commands,
        needs_root=True,
    )


def _faster(network: Network, card: Interface) -> Fix:
    better = [i for i in network.interfaces if (i.speed_mbps or 0) >= FAST and i.running]
    if better:
        best = max(better, key=lambda interface: interface.speed_mbps or 0)
        return _use(best, f"{best.name} ({_speed(best.speed_mbps or 0)})")
    return Fix(
        text="Connect the nodes by 10 Gb/s or more, or accumulate gradients over more steps",
        commands=[f"sudo ethtool {quote(card.name)}"],
        needs_root=True,
    )


def _use(interface: Interface, called: str) -> Fix:
    return Fix(
        EnvSet("NCCL_SOCKET_IFNAME", f"={interface.name}"),
        EnvSet("GLOO_SOCKET_IFNAME", interface.name),
        text=f"Use {called}, and give MASTER_ADDR an address that it leads to",
    )


def _narrower(network: Network, interface: Interface) -> Interface | None:
    """What carries an interface's packets and takes smaller ones."""
    extra = OVERHEAD if interface.kind == "tunnel" else 0
    for part in map(network.interface, interface.below):
        aside = interface.kind == "bridge" and part is not None and part.kind not in DEVICES
        if part is not None and part.mtu < interface.mtu + extra and not aside:
            return part
    return None


def _set_mtu(interface: Interface, mtu: int) -> Fix:
    return Fix(
        text="Set the same MTU on all nodes and switches; the connection's file keeps it",
        commands=[f"sudo ip link set {quote(interface.name)} mtu {mtu}"],
        needs_root=True,
    )


def _in_one_subnet(network: Network) -> tuple[str, list[Interface]] | None:
    """The first subnet of IPv4 that several interfaces for other nodes are in."""
    import ipaddress  # for several interfaces only

    outside = ("physical", "bond", "vlan", "macvlan", "veth", "infiniband")
    found: dict[str, list[Interface]] = {}
    for interface in network.interfaces:
        if interface.kind not in outside or not interface.running or interface.above:
            continue
        ours = [a for a in interface.addresses if a.is_ipv4 and a.scope == "global"]
        for address in ours:
            inside = ipaddress.ip_interface(f"{address.ip}/{address.prefix}").network
            together = found.setdefault(str(inside), [])
            if interface not in together:
                together.append(interface)
    return next(((net, all_of) for net, all_of in found.items() if len(all_of) > 1), None)
