"""The interfaces that NCCL and gloo choose on each node: together they must make one network."""

from collections.abc import Collection, Mapping
from shlex import quote

from gpudoctor import (
    Devices,
    Environment,
    EnvSet,
    Finding,
    Fix,
    JobPython,
    Names,
    NcclSettings,
    Network,
    Nodes,
    Status,
    System,
    brief,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.addresses import is_loopback, subnet, within
from gpudoctor.rules.differences import ONE_NODE, judged, remark, who
from gpudoctor.rules.interface_choice import Choice, Pick, gloo
from gpudoctor.rules.interface_choice.nccl import bootstrap
from gpudoctor.rules.leading import leading
from gpudoctor.rules.levelling import level
from gpudoctor.rules.majority import split
from gpudoctor.rules.traits import MTU
from gpudoctor.snapshot import Absent, Snapshot

VARIABLES = {"NCCL": "NCCL_SOCKET_IFNAME", "gloo": "GLOO_SOCKET_IFNAME"}


@check(
    owner="launch",
    symptoms=[
        r"Bootstrap ?: no socket interface found",
        r"NET/Socket : no interface found",
        r"Unable to find address for: ",
        r"Gloo connectFullMesh failed",
        r"socketStartConnect: Connect to .* failed",
    ],
)
def cluster_interface(nodes: Nodes) -> Finding:
    """All nodes choose interfaces of one network.

    One launch line says NCCL_SOCKET_IFNAME=eth0 for all nodes, and one of them calls that card
    ens3: "Bootstrap : no socket interface found". Or nobody says anything, and one node takes a
    bridge of containers that all others have too, at the same address: they connect to themselves.
    """
    if len(nodes.snapshots) < 2:
        return skip(ONE_NODE)
    networks = nodes.each(Network)
    if len(networks) < 2:
        return skip("the interfaces of fewer than two nodes are known")
    library = "NCCL" if any(d.gpus for d in nodes.each(Devices).values()) else "gloo"
    known = [node for node in nodes.snapshots if node.name in networks]
    choices = {node.name: _choice(node, networks[node.name], library) for node in known}
    picks = {name: choice.picked[0] for name, choice in choices.items() if choice.picked}
    wrong = _lacking(choices, library) or _alone(nodes, picks, library)
    if wrong:
        names, said, lines = wrong
        fix, blamed = _one_name(networks, library), _few(names, choices)
        return fail(brief(said), fix, evidence=lines[:8], basis="vendor", nodes=blamed)
    if not picks:
        return skip(f"what {library} takes cannot be told: {next(iter(choices.values())).unknown}")
    astray = _astray(networks, picks)
    if astray:
        usual = next(iter(astray.values()))
        said = f"{library} takes {picks[min(astray)]} on {who(astray, 24)}, others one in {usual}"
        lines = [f"{name}: {picks[name]}, though it has one in {usual}" for name in astray]
        fix, blamed = _one_name(networks, library), _few(astray, picks)
        return warn(brief(said), fix, evidence=lines[:8], basis="measured", nodes=blamed)
    speeds = judged(nodes, "interface", level, blank="", spare=lambda c: c.trait is MTU)
    if speeds.status is Status.WARN:
        return speeds
    names = split({name: pick.interface for name, pick in picks.items()}).groups
    told = "; ".join(f"{interface} on {who(some, 24)}" for interface, some in names.items())
    return ok(brief(f"{library} takes {told}"))


Wrong = tuple[Collection[str], str, list[str]]


def _lacking(choices: Mapping[str, Choice], library: str) -> Wrong | None:
    """Nodes where the library finds no interface, in a line, and its words."""
    errors = {name: choice.error for name, choice in choices.items() if choice.error}
    if not errors:
        return None
    why = next(iter(errors.values()))
    lines = [f"{name}: {error} ({choices[name].why})" for name, error in errors.items()]
    return list(errors), f"{library} finds no interface on {who(errors, 24)}: {why}", lines


def _alone(nodes: Nodes, picks: Mapping[str, Pick], library: str) -> Wrong | None:
    """Nodes whose pick leads to themselves: the loopback, or what another machine has as well."""
    hosts = {name: system.hostname for name, system in nodes.each(System).items()}
    if len(hosts) == len(nodes.snapshots) and len(set(hosts.values())) == 1:
        return None  # all on one machine, where the loopback is as good as any
    inside = [name for name, pick in picks.items() if is_loopback(pick.ip)]
    if inside:
        lines = [f"{name}: {picks[name]}" for name in inside]
        return inside, f"{library} takes the loopback on {who(inside, 30)}", lines
    for ip, names in split({name: pick.ip for name, pick in picks.items()}).groups.items():
        if len({hosts.get(name, name) for name in names}) > 1:
            lines = [f"{name}: {picks[name]}" for name in names]
            return names, f"{library} takes {ip} on {who(names, 30)}: each its own", lines
    return None


def _choice(node: Snapshot, network: Network, library: str) -> Choice:
    environment, settings = node.get(Environment), node.get(NcclSettings)
    values = {} if isinstance(environment, Absent) else environment.values
    if library == "gloo":
        names = node.get(Names)
        known = None if isinstance(names, Absent) else names
        return gloo.choose(network, values.get(VARIABLES["gloo"], ""), known)
    told = (NcclSettings() if isinstance(settings, Absent) else settings).under(values)
    python = node.get(JobPython)
    return bootstrap(network, told, None if isinstance(python, Absent) else python.nccl)


def _astray(networks: Mapping[str, Network], picks: Mapping[str, Pick]) -> dict[str, str]:
    """Nodes that take an address outside the network of the others, though they have one in it."""
    usual = split({name: subnet(networks[name], pick.ip) for name, pick in picks.items()}).usual
    if usual is None or "/" not in usual:
        return {}
    found = {}
    for name, pick in picks.items():
        own = [a.ip for i in networks[name].interfaces if i.up for a in i.addresses]
        if not within(pick.ip, usual) and any(within(ip, usual) for ip in own):
            found[name] = usual
    return found


def _few(names: Collection[str], all_nodes: Collection[str]) -> tuple[str, ...]:
    """Those to blame: fewer than half, or nobody."""
    return tuple(sorted(names)) if 2 * len(names) < len(all_nodes) else ()


def _one_name(networks: Mapping[str, Network], library: str) -> Fix:
    """A value that means the interface to the other nodes on every one of them."""
    leads = {name: leading(network, None) for name, network in networks.items()}
    found = sorted({interface.name for interface in leads.values() if interface})
    variable = VARIABLES[library]
    if not found:
        text = f"Set {variable} on each node to the interface that leads to the others"
        return Fix(text=text, commands=["ip -br address"])
    if library == "NCCL":
        return Fix(EnvSet(variable, f"={','.join(found)}"))
    if len(found) == 1:
        return Fix(EnvSet(variable, found[0]))
    lines = [
        f"export {variable}={quote(interface.name)}  # on {remark(name)}"
        for name, interface in list(leads.items())[:8]
        if interface
    ]
    text = f"Set {variable} on each node by itself: gloo wants all the names that it lists"
    return Fix(text=text, commands=lines)
