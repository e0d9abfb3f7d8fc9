"""Whether every node resolves and reaches every other one, and the master's port."""

from collections.abc import Iterator
from shlex import quote

from gpudoctor import (
    EnvSet,
    Finding,
    Fix,
    Job,
    Links,
    Members,
    Nodes,
    Way,
    brief,
    check,
    count_of,
    fail,
    ok,
    skip,
    unknown,
    warn,
)
from gpudoctor.rules.addresses import is_loopback
from gpudoctor.rules.between import (
    NO_PAIR,
    SILENT,
    STRANGER,
    WORDS,
    covered,
    failed,
    let_through,
    neighbours,
    owner,
    sharpened,
    summary,
    told,
)
from gpudoctor.rules.blame import faults
from gpudoctor.rules.differences import listed, remark, who
from gpudoctor.rules.firewalls import openings

BEFORE_DATA = ("", "connect", "hello", "small")
CONNECTS = [
    r"socketPollConnect.*(No route to host|Connection (timed out|refused))",
    r"Gloo connectFullMesh failed",
    r"The client socket has (timed out|failed to connect)",
    r"Net : Connect to .* failed : (Connection refused|No route to host)",
]


@check(owner="network", symptoms=[*CONNECTS, r"errno: 11[013] - (Connection|No route)"])
def cluster_reachability(links: Links, nodes: Nodes | None, members: Members | None) -> Finding:
    """Every node reaches every other one, by name and on any port.

    NCCL, gloo and torch's stores listen on ports that the kernel picks, and every rank connects to
    several others. Where one node's firewall, route or hosts file is in the way, all ranks find
    each other at MASTER_PORT, and then hang: "socketPollConnect: connect to ... returned No route
    to host", "Gloo connectFullMesh failed".
    """
    if not links.ways:
        return skip(NO_PAIR)
    broken = [w for w in failed(links, members) if _is_unreached(w)]
    found = [sharpened(fault, links, nodes) for fault in faults(links.ways, broken)]
    if found:
        first, blamed = found[0], dict.fromkeys(n for fault in found for n in fault.blamed)
        return fail(
            summary(first, len(links.ways)),
            let_through(first, nodes),
            evidence=[*told(broken), *covered(links)],
            basis="measured",
            owner=owner(first),
            nodes=blamed,
        )
    if links.master_port and (refusing := _master_port(links, nodes)):
        return refusing
    wrong = list(_misnamed(links))
    if wrong:
        return _names(links, wrong, _master_name(nodes))
    return _met(links, members)


def _met(links: Links, members: Members | None) -> Finding:
    lost = members is not None and any(member.lost for member in members.members)
    untold = 2 * links.pairs - len(links.ways)
    if untold > 0 and not lost:  # of a node that was lost cluster-nodes tells
        return unknown(f"of {count_of(untold, 'way')} nothing was told")
    pairs = count_of(links.pairs, "pair")
    return ok(f"{pairs} connected, both ways, on fresh ports", covered(links))


def _is_unreached(way: Way) -> bool:
    return way.step in BEFORE_DATA or way.error in (STRANGER, SILENT)


def _master_port(links: Links, nodes: Nodes | None) -> Finding | None:
    """MASTER_PORT, where somebody asked for that very port to be proved."""
    master, port = links.master, links.master_port
    if links.master_error:
        taken = brief(f"{master} cannot listen on port {port}: {links.master_error}")
        fix = Fix(
            EnvSet("MASTER_PORT", str(port + 1 if port < 65535 else port - 1)),
            text="Take a port that is free, or end what has it",
            commands=[f"sudo ss -ltnp 'sport = :{port}'  # on {remark(master)}"],
            needs_root=True,
        )
        return fail(taken, fix, basis="measured", owner="launch", nodes=[master])
    shut = {attempt.source: attempt.error for attempt in links.tries if attempt.error}
    if not shut:
        return None
    most = 2 * len(shut) > len(links.tries)
    blamed = [master] if most else sorted(shut)
    why = next(iter(shut.values()))
    said = brief(f"{who(shut, 24)} cannot reach {master}:{port}: {WORDS.get(why, why)}")
    address = next((w.address for w in links.ways if w.target == master and w.address), master)
    text = (
        f"On {master}: open port {port}" if most else f"On {listed(shut)}: see what is in the way"
    )
    commands = (
        openings(neighbours(master, address, nodes))
        if most
        else [f"nc -vz {quote(address)} {port}"]
    )
    evidence = [f"{name}: {error}" for name, error in list(shut.items())[:10]]
    fix = Fix(text=text, commands=commands, needs_root=most)
    return fail(said, fix, evidence=evidence, basis="measured", owner="node", nodes=blamed)


def _misnamed(links: Links) -> Iterator[tuple[Way, str]]:
    """Ways whose source knows the target's name wrongly, and how.

    That nobody resolves a node's name is common (pods have none), and nothing goes by it.
    """
    by_target: dict[str, list[Way]] = {}
    for way in links.ways:
        by_target.setdefault(way.target, []).append(way)
    own = {way.target: set(way.own) for way in links.ways}
    elsewhere = {ip: way.target for way in links.ways for ip in way.own}
    for target, ways in by_target.items():
        rightly = [way for way in ways if set(way.resolved) & set(way.own)]
        for way in ways:
            one_machine = bool(own.get(way.source, set()) & set(way.own))
            if way in rightly or not way.own or one_machine:
                continue
            first = next(iter(way.resolved), "")
            if first and is_loopback(first):
                yield way, f"{first}, its own machine"
            elif elsewhere.get(first, target) != target:
                yield way, f"{first}, which is {elsewhere[first]}"
            elif rightly:
                yield way, first or f"nothing ({way.resolve_error or 'no address'})"


def _names(links: Links, wrong: list[tuple[Way, str]], master: str) -> Finding:
    of_master = [(way, what) for way, what in wrong if master and _is(way.target, master)]
    shown = of_master or wrong
    way, what = shown[0]
    sources = list(dict.fromkeys(way.source for way, _ in shown))
    nodes = len({way.source for way in links.ways})
    everyone = 2 * len(sources) >= nodes and nodes > 2
    said = brief(f"{who(sources, 20)} takes {way.target} for {what}")
    evidence = [f"{w.source}: {w.target} is {text}; it has {w.own[0]}" for w, text in wrong[:10]]
    name = way.target.partition("#")[0]  # "n1#2" is a second n1
    fix = Fix(
        text=f"On {listed(sources)}: put right the line of {name} in /etc/hosts, or DNS",
        commands=[
            f"grep -n {quote(name)} /etc/hosts",
            f"sudo sed -i '1i {remark(way.own[0])} {remark(name)}' /etc/hosts  # the first counts",
        ],
        needs_root=True,
    )
    return (fail if of_master else warn)(
        said,
        fix,
        evidence=[*evidence, *covered(links)],
        basis="measured",
        owner="node",
        nodes=() if everyone else sources,
    )


def _master_name(nodes: Nodes | None) -> str:
    jobs = nodes.each(Job).values() if nodes else ()
    return next((job.master_addr for job in jobs if job.master_addr), "")


def _is(name: str, other: str) -> bool:
    """Whether two names mean one host, where one of them is the short one."""
    if name == other:
        return True
    short = other.partition(".")[0] if not other[:1].isdigit() else other
    return name.partition(".")[0] == short
