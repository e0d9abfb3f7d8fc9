"""The master: the place where all ranks meet before they talk to each other."""

from collections.abc import Sequence
from shlex import quote

from gpudoctor import (
    Attempt,
    Container,
    EnvSet,
    Finding,
    Fix,
    Job,
    Master,
    Network,
    NetworkSettings,
    Owner,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.addresses import is_loopback, outward, subnet, within
from gpudoctor.rules.firewalls import openings
from gpudoctor.rules.job_variables import malformed
from gpudoctor.rules.leading import lead_out

AT_ONCE = (
    1.0  # seconds; that nobody answers ARP the kernel says after 3, a firewall says it at once
)
SLOW_SECONDS = 1.0  # a name that takes this long is asked for by every rank
# What connect(2) says, by the ICMP message that came: net/ipv4/icmp.c and net/ipv6/icmp.c.
REJECTS = ("EACCES", "EPERM", "EHOSTUNREACH")
ITS_ADDRESS = "hostname -I  # on node 0"
REFUSING = {"blackhole": "EINVAL", "unreachable": "EHOSTUNREACH", "prohibit": "EACCES"}
OWN_ROUTES = {
    "ENETUNREACH": "no route leads there",
    "EHOSTUNREACH": "a route here says unreachable",
    "EACCES": "a route here prohibits it",
    "EINVAL": "a route here is a black hole",
    "ENODEV": "no interface here has the name behind its %",
}


@check(
    owner="network",
    symptoms=[
        r"The client socket has timed out after \d+ms while trying to connect to",
        r"The client socket has failed to connect to",
        r"The IPv[46] network addresses of .* cannot be retrieved",
        r"RendezvousConnectionError",
        r"RendezvousTimeoutError",
        r"errno: 11[013] - (Connection timed out|Connection refused|No route to host)",
    ],
)
def net_master(
    master: Master,
    workload: Workload,
    job: Job | None,
    network: Network | None,
    container: Container | None,
) -> Finding:
    """The master's address resolves and can be reached from here.

    Every rank connects to MASTER_ADDR:MASTER_PORT before anything else. Where nothing comes
    through it waits for minutes, on paid GPUs: "The client socket has timed out after
    300000ms while trying to connect to (10.0.0.1, 29500)".
    """
    if wrong := malformed(master.name):
        return skip(f"MASTER_ADDR {wrong}: see net-job")
    in_pod = container is not None and container.kubernetes
    if master.resolve_error:
        return _unresolved(master, in_pod, _asks(job))
    evidence = _evidence(master)
    if master.here:
        return _here(master, workload, job, network, in_pod)
    if not master.attempts:
        return skip("the job is on one node, and its master elsewhere: nothing was sent")
    reached = [a for a in master.attempts if a.error in ("", "ECONNREFUSED")]
    first = master.attempts[0]
    if reached and (first.error == "ETIMEDOUT" or not reached[0].error):
        return _reached(reached[0], first, master, evidence)
    # Where no route leads, as for IPv6 on most machines, no address is lost.
    way = next((attempt for attempt in master.attempts if not attempt.route_error), first)
    if reached:
        return _closed(reached[0], master, _asks(job), evidence)
    summary, fix = _stopped(way, master.port, network, container)
    owner: Owner = "launch" if fix.settings else "node" if way.route_error else "network"
    return fail(summary, fix, evidence=evidence, basis="measured", owner=owner)


def _reached(found: Attempt, first: Attempt, master: Master, evidence: Sequence[str]) -> Finding:
    if first.error == "ETIMEDOUT":
        better = EnvSet("MASTER_ADDR", found.ip)
        summary = f"{first.ip} does not answer, {found.ip} does: each rank tries it first"
        return warn(summary, Fix(better), evidence=evidence, basis="measured")
    if master.resolve_seconds > SLOW_SECONDS:
        line = f"echo {quote(f'{found.ip} {master.name}')} | sudo tee -a /etc/hosts"
        fix = Fix(text="Name it in /etc/hosts", commands=[line], needs_root=True)
        summary = f"{master.name} resolves in {master.resolve_seconds:.1f} s"
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    by = f" by {found.interface}" if found.interface else ""
    return ok(f"{found.ip} port {master.port} answers{by}", evidence)


def _asks(job: Job | None) -> bool:
    """Whether a person asks; else this is the job, and all its nodes start at this moment."""
    return job is not None and job.told_by.get("master_addr") == "--master-addr"


def _evidence(master: Master) -> list[str]:
    named = f"{master.name} is {', '.join(master.addresses)} ({master.resolve_seconds:.2f} s)"
    lines = [] if master.addresses == (master.name,) else [named]
    for attempt in master.attempts:
        said = attempt.error or "connected"
        way = f", by {attempt.interface} from {attempt.source}" if attempt.interface else ""
        via = f" via {attempt.gateway}" if attempt.gateway else ""
        mtu = f", path MTU {attempt.path_mtu}" if attempt.path_mtu else ""
        lines.append(f"{attempt.ip}: {said} after {attempt.seconds:.2f} s{way}{via}{mtu}")
    return lines


def _unresolved(master: Master, in_pod: bool, asked: bool) -> Finding:
    summary = f"{master.name} does not resolve: {master.resolve_error}"
    if in_pod:
        text = (
            "Give the pods' headless Service `clusterIP: None` and"
            " `publishNotReadyAddresses: true`, and name the master POD.SERVICE"
        )
        finding = fail if asked else warn  # the master's pod may not have an address yet
        return finding(summary, Fix(text=text), basis="measured", owner="launch")
    # No other name of it is known here, so no address either.
    text = (
        "Name the master by its address, which `hostname -I` shows there;"
        f" or give {master.name} a line in /etc/hosts of every node"
    )
    fix = Fix(text=text, commands=[ITS_ADDRESS])
    return fail(summary, fix, basis="measured", owner="launch")


def _here(
    master: Master, workload: Workload, job: Job | None, network: Network | None, in_pod: bool
) -> Finding:
    ips = ", ".join(master.addresses)
    summary = f"this machine is the master ({ips})"
    rank = job.node_rank if job else None
    if rank is None and job and job.rank == 0:
        rank = 0
    own = outward(network)
    evidence = _evidence(master)
    named = master.name == "localhost" or is_loopback(master.name)
    loopback = named or (all(map(is_loopback, master.addresses)) and rank)
    if workload.nodes > 1 and loopback and not (rank == 0 and in_pod):
        address = [EnvSet("MASTER_ADDR", own[1].ip)] if own and not rank else []
        text = "Name the master by the address that the other nodes reach it at"
        fix = Fix(*address, text=text, commands=[] if address else [ITS_ADDRESS])
        finding = warn if rank == 0 else fail
        said = f"MASTER_ADDR={master.name} is each node itself, and the job has {workload.nodes}"
        return finding(said, fix, evidence=evidence, basis="vendor", owner="launch")
    if rank and workload.nodes > 1 and not master.bind_error:
        text = "Set MASTER_ADDR to node 0's address on every node, not to each one's own"
        fix = Fix(text=text, commands=[ITS_ADDRESS])
        said = f"{summary}, yet this is node {rank}"
        return warn(said, fix, evidence=evidence, basis="vendor", owner="launch")
    return ok(summary, evidence)


def _closed(found: Attempt, master: Master, asked: bool, evidence: Sequence[str]) -> Finding:
    where = f"{found.ip} port {master.port}"
    if not asked:
        return ok(f"{where} can be reached; nothing listens yet", evidence)
    fix = Fix(
        text=f"Start node 0 first, or for a trial let something listen on {master.name}; if it"
        " does, a firewall there resets connections",
        commands=[f"python3 -m http.server {master.port}"],
    )
    summary = f"nothing listens on {where}, or a firewall resets it"
    return warn(summary, fix, evidence=evidence, basis="measured", owner="launch")


def _stopped(
    found: Attempt, port: int, network: Network | None, container: Container | None
) -> tuple[str, Fix]:
    """Where the way ends, and what opens it."""
    if found.route_error:
        said = OWN_ROUTES.get(found.route_error, found.route_error)
        return f"{found.ip}: {said}", _route_fix(found, network, container)
    late = found.error == "EHOSTUNREACH" and found.seconds >= AT_ONCE
    if found.silent or late:
        hop = found.silent or found.ip
        summary = f"{found.ip}: no machine with this address answers"
        if hop == found.gateway:
            summary = f"{hop}: the gateway to it does not answer"
        text = f"Is {hop} right, is that machine on, and in this network?"
        return summary, Fix(text=text, commands=[f"ip neigh show {hop}"])
    where, fix = f"{found.ip} port {port}", _opening(found, network, container)
    if found.error in REJECTS:
        return f"{where}: rejected by a firewall ({found.error})", fix
    if found.error == "ETIMEDOUT":
        return f"{where}: no answer in {found.seconds:.0f} s, as if a firewall drops it", fix
    if found.error == "ENETUNREACH":
        return f"{where}: no route on the way, or a firewall ({found.error})", fix
    return f"{where}: {found.error}", fix


def _opening(found: Attempt, network: Network | None, container: Container | None) -> Fix:
    """All ports: NCCL and gloo listen on others than the master's."""
    if container and container.kubernetes:
        text = (
            "Let a NetworkPolicy allow all traffic between the job's pods, and no service mesh"
            ' stand between them (sidecar.istio.io/inject: "false")'
        )
        return Fix(text=text)
    own = outward(network)
    source = found.source or (own[1].ip if own else "")
    if not source:
        return Fix(text="On the master, let this node's subnet in")
    return Fix(
        text="On the master, let this node's subnet in, by the line of what guards it; in a cloud,"
        " let the job's security group in from itself",
        commands=openings(subnet(network, source)),
        needs_root=True,
    )


def _route_fix(found: Attempt, network: Network | None, container: Container | None) -> Fix:
    refusing = [r for r in network.routes if r.kind in REFUSING] if network else []
    lines = [
        f"sudo ip route del {route.kind} {route.destination}"
        for route in refusing
        if REFUSING[route.kind] == found.route_error and within(found.ip, route.destination)
    ]
    if lines:
        return Fix(text="Remove the route that stops it", commands=lines, needs_root=True)
    own = outward(network)
    if network and own is None:
        return lead_out(container)
    have = f"; this node is in {subnet(network, own[1].ip)}" if own else ""
    return Fix(
        text=f"Name an address of the master that this node has a route to{have}",
        commands=[f"ip route get {found.ip}"],
    )


@check(
    owner="job",
    symptoms=[
        r"EADDRINUSE",
        r"The server socket has failed to (listen|bind)",
        r"errno: 98 - Address already in use",
        r"Address already in use",
    ],
)
def net_port(master: Master, job: Job | None, network_settings: NetworkSettings | None) -> Finding:
    """Nobody else has the master's port on the master.

    Rank 0 opens it. A job that was killed by halves, or another on the same machine, still
    has it: "The server socket has failed to listen on any local network address. port:
    29500, ... EADDRINUSE".
    """
    if not master.here:
        return skip(f"the port is rank 0's, which is on {master.name}")
    if job and (job.rank or job.node_rank):
        return skip("the port is rank 0's, which this is not")
    if not master.bind_error:
        low, high = (0, 0)
        if network_settings:
            low, high = network_settings.port_low or 0, network_settings.port_high or 0
        taken = f"in the range of outgoing connections ({low} to {high}), which may take it"
        return ok(f"port {master.port} is free", [taken] if low <= master.port <= high else [])
    if master.held_by_launcher:
        return ok(f"port {master.port} is held by this job's own {master.holder}")
    if master.bind_error == "EACCES":
        fix = Fix(EnvSet("MASTER_PORT", "29500"))
        return fail(f"port {master.port} may be opened by root only", fix, basis="measured")
    by = f", by {master.holder}" if master.holder else ""
    other = [EnvSet("MASTER_PORT", str(master.free_port))] if master.free_port else []
    fix = Fix(
        *other,
        text=f"End what has port {master.port}, if it is a leftover of yours",
        commands=[f"kill {master.holder_pid}"] if master.holder_pid else [],
    )
    return fail(f"port {master.port} is taken{by}", fix, basis="measured")
