"""What keeps other nodes out: a packet filter, a container's own network, a proxy."""

import re

from gpudoctor import (
    Container,
    Environment,
    EnvSet,
    Finding,
    Firewall,
    Fix,
    HostNetwork,
    JobPython,
    Master,
    Network,
    NetworkSettings,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.addresses import address_of, is_loopback, subnet, ways_out
from gpudoctor.rules.firewalls import Connection, opening, verdicts
from gpudoctor.rules.leading import NO_WAY, leading

PORTS = (32768, 60999)  # the kernel's net.ipv4.ip_local_port_range, if it does not tell
FEW = 0.01  # of the ports: as many as other services close
ASK_PROXIES = ("ray", "tensorflow", "jax", "python-etcd")  # by gRPC or HTTP; torch never does
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
ONE_NODE = "one node: nobody connects from outside; --nnodes 2 makes it count"
HANGS = [
    r"Connect(ion)? to .* failed.*(No route to host|Connection timed out)",
    r"socketPollConnect.*exceeded error retry count",
    r"Gloo connectFullMesh failed",
]


@check(
    owner="node",
    symptoms=[*HANGS, r"connect to .* returned (No route to host|Connection timed out)"],
)
def net_data_ports(
    firewall: Firewall,
    network: Network,
    workload: Workload,
    network_settings: NetworkSettings | None,
    master: Master | None,
) -> Finding:
    """Other nodes may connect to the ports that NCCL and gloo listen on.

    Opening MASTER_PORT is not enough: NCCL, gloo and torch's stores listen on ports that the
    kernel picks out of ip_local_port_range. If these are closed all ranks find each other, and
    then hang: "socketPollConnect: connect to ... returned No route to host, exceeded error
    retry count", "Gloo connectFullMesh failed".
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    if not firewall.filters:
        return ok("no rule on this node stops a new connection")
    interface = leading(network, master)
    own = address_of(interface) if interface else None
    if interface is None or own is None:
        return skip(NO_WAY)
    low, high = _range(network_settings)
    sources = _sources(network, own.ip, master)
    for source in sources:
        new = Connection(source, interface.name, low, own.ip)
        answers = verdicts(firewall, new, high)
        shut = [a for a in answers if a[2] in ("drop", "reject")]
        told = [f"{first}-{last}: {word}" for first, last, word in answers]
        if sum(last - first + 1 for first, last, _ in shut) > FEW * (high - low):
            first, last, word = max(shut, key=lambda answer: answer[1] - answer[0])
            summary = f"ports {first}-{last} are closed to {source} ({word})"
            closed = Connection(source, interface.name, first, own.ip)
            fix = _let_in(firewall, closed, sources, (low, high), master)
            evidence = [f"NCCL, gloo and torch listen on any of {low}-{high}", *told]
            return fail(summary, fix, evidence=evidence, basis="measured")
        if any(word == "unknown" for _, _, word in answers):
            return skip(f"{_whose(firewall)} rules do not tell whether {source} may connect")
    return ok(f"ports {low}-{high} are open to {' and '.join(sources)}")


@check(owner="launch", symptoms=[*HANGS, r"The client socket has timed out after \d+ms"])
def net_bridge(
    container: Container, network: Network, workload: Workload, master: Master | None
) -> Finding:
    """Other nodes can reach this container.

    A container on docker's bridge has an address that only its own machine knows. It reaches
    others, but nobody can connect to it, and publishing MASTER_PORT (-p 29500:29500) does not
    help: NCCL and gloo tell the others the container's address and ports of their own. The job
    hangs at its first collective.
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    if container.runtime == "none" or container.net_private is False:
        return ok("the host's own network")
    if container.launcher not in ("docker", "podman"):
        return ok(f"a network of {container.launcher}, which nodes share")
    interface = leading(network, master)
    if interface is None:
        return fail("no interface leads out of this container", Fix(HostNetwork()))
    if container.net_private is None and interface.kind != "veth":
        return skip("whether the container has a network of its own cannot be told")
    gateways = [route for route in ways_out(network) if route.gateway]
    if interface.kind not in ("veth", "tun", "other") or interface.name not in {
        route.interface for route in gateways
    }:
        return ok(f"{interface.name} ({interface.kind}) is not behind this machine's bridge")
    tried = master.attempts if master else ()
    if any(attempt.interface == interface.name and not attempt.gateway for attempt in tried):
        return ok(f"the master is in the same network as {interface.name}")
    evidence = [f"{a.ip}/{a.prefix} on {interface.name}" for a in interface.addresses]
    evidence += [f"everything else by way of {route.gateway}" for route in gateways]
    summary = f"{interface.name} is on a bridge of this machine: nobody reaches it from outside"
    if tried:
        return fail(summary, Fix(HostNetwork()), evidence=evidence, basis="measured")
    evidence.append("right only if the containers of all nodes are on this one bridge")
    return warn(summary, Fix(HostNetwork()), evidence=evidence, basis="rule-of-thumb")


@check(
    owner="launch",
    symptoms=[
        r"failed to connect to all addresses",
        r"HTTP proxy returned response code",
        r"Tunnel connection failed: \d+",
        r"StatusCode\.UNAVAILABLE",
    ],
)
def net_proxy(
    environment: Environment,
    workload: Workload,
    master: Master | None,
    network: Network | None,
    job_python: JobPython | None,
) -> Finding:
    """Connections between the nodes do not go to a proxy.

    gRPC (Ray, TensorFlow, JAX) and HTTP clients (etcd) ask http_proxy for every address that is
    not in no_proxy, also for the nodes' own. The proxy does not know them: "failed to connect to
    all addresses", "HTTP proxy returned response code 403". torch's and NCCL's own connections
    ask no proxy.
    """
    if workload.nodes == 1:
        return skip(ONE_NODE)
    present = [name for name in PROXIES if environment.values.get(name)]
    if not present:
        return ok("no proxy is set")
    hosts = [master.name, *master.addresses] if master else []
    if not hosts:
        return skip("a proxy is set, but no MASTER_ADDR that it might stand before")
    spared = environment.values.get("no_proxy") or environment.values.get("NO_PROXY") or ""
    if any(is_loopback(host) or _is_spared(host, spared) for host in hosts):
        return ok(f"{master.name if master else ''} is in no_proxy")
    packages = job_python.packages if job_python else {}
    asking = [name for name in ASK_PROXIES if name in packages]
    if not asking:
        return ok(f"{present[0]} is set, and nothing that the nodes meet by asks it")
    wanted = [*re.split(r"[,\s]+", spared), "localhost", "127.0.0.1", *hosts]
    interface = leading(network, master) if network else None
    own = address_of(interface) if interface else None
    wanted += [subnet(network, own.ip)] if own else []
    value = ",".join(dict.fromkeys(entry for entry in wanted if entry and "***" not in entry))
    summary = f"{present[0]} is set, and {hosts[0]} is not in no_proxy"
    evidence = [f"{name} {packages[name]} asks it" for name in asking]
    fix = Fix(EnvSet("no_proxy", value), EnvSet("NO_PROXY", value))
    return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")


def _range(settings: NetworkSettings | None) -> tuple[int, int]:
    if settings is None or settings.port_low is None or settings.port_high is None:
        return PORTS
    return settings.port_low, settings.port_high


def _sources(network: Network, own: str, master: Master | None) -> list[str]:
    """Where other nodes connect from: the master, and our own subnet, as far as is known."""
    attempts = master.attempts if master else ()
    far = [a.ip for a in attempts if a.gateway and (":" in a.ip) == (":" in own)]
    return far[:1] or [subnet(network, own)]


def _whose(firewall: Firewall) -> str:
    return f"{firewall.tool}'s" if firewall.tool else "the packet filter's"


def _let_in(
    firewall: Firewall,
    stopped: Connection,
    sources: list[str],
    data: tuple[int, int],
    master: Master | None,
) -> Fix:
    ports = [data]
    if master and master.here and not data[0] <= master.port <= data[1]:
        ports.insert(0, (master.port, master.port))
    return Fix(
        text="Let the job's nodes in; what nft and iptables are told, their file must keep",
        commands=opening(firewall, stopped, sources, ports),
        needs_root=True,
    )


def _is_spared(host: str, spared: str) -> bool:
    """Whether an entry of no_proxy fits a host: a name, its domain, an address or a network."""
    import ipaddress  # where there is a proxy only

    for entry in re.split(r"[,\s]+", spared.lower()):
        bare = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or (bare and (host.lower() == bare or host.lower().endswith(f".{bare}"))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
