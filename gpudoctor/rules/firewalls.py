"""Whether a packet filter lets a new TCP connection in: three answers, for it may be unclear."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.firewall import Chain, Firewall, Rule, Verdict

FIREWALLD_AGAIN = "sudo firewall-cmd --reload"
DEEPEST = 16  # jumps; the kernel allows no more


class Connection(Struct, frozen=True):
    """A new TCP connection. `source` may be a network: then some of it may be let in."""

    source: str
    interface: str
    port: int
    destination: str = ""  # an own address


def verdict(firewall: Firewall, connection: Connection) -> Verdict:
    """What becomes of a connection; "unknown": the rules do not tell."""
    answers = [_chain_says(firewall, chain, connection) for chain in _first(firewall, connection)]
    for stop in ("drop", "reject", "unknown"):
        if stop in answers:
            return stop
    return "accept"


def stopper(firewall: Firewall, connection: Connection) -> Chain | None:
    """The first chain that does not, or may not, let a connection in."""
    for chain in _first(firewall, connection):
        if _chain_says(firewall, chain, connection) != "accept":
            return chain
    return None


def verdicts(
    firewall: Firewall, connection: Connection, last_port: int
) -> list[tuple[int, int, Verdict]]:
    """What becomes of connections to a connection's port and all up to the last, in ranges."""
    firewall = _about(firewall, connection)
    edges = {connection.port, last_port + 1}
    for chain in firewall.chains:
        for rule in chain.rules:
            edges.update(edge for low, high in rule.ports for edge in (low, high + 1))
    starts = sorted(edge for edge in edges if connection.port <= edge <= last_port + 1)
    found: list[tuple[int, int, Verdict]] = []
    for start, end in itertools.pairwise(starts):
        answer = verdict(firewall, replace(connection, port=start))
        if found and found[-1][2] == answer:
            start = found.pop()[0]
        found.append((start, end - 1, answer))
    return found


def opening(
    firewall: Firewall,
    stopped: Connection,
    sources: Sequence[str],
    ports: Sequence[tuple[int, int]],
) -> list[str]:
    """Commands that let connections in, in the words of who stopped one of them."""
    chain = stopper(firewall, stopped)
    if chain is None:
        return []
    table = chain.table.split()[-1]
    older = chain.name.isupper()  # as iptables names them
    listed = [_span(low, high, ":") for low, high in ports]
    if firewall.tool == "firewalld" and (older or table == "firewalld"):
        return [*map(_trust, sources), FIREWALLD_AGAIN]
    if firewall.tool == "ufw" and older:
        words = f"to any port {','.join(listed)}"
        return [f"sudo ufw allow proto tcp from {source} {words}" for source in sources]
    if older:
        program = "ip6tables" if chain.table.startswith("ip6") else "iptables"
        program += "" if table == "filter" else f" -t {table}"
        words = f"-p tcp -m multiport --dports {','.join(listed)} -j ACCEPT"
        return [f"sudo {program} -I {chain.name} -s {source} {words}" for source in sources]
    spans = ", ".join(_span(low, high, "-") for low, high in ports)
    rule = f"sudo nft 'insert rule {chain.table} {chain.name}"
    words = f"tcp dport {{ {spans} }} accept'"
    return [f"{rule} {_family(source)} saddr {source} {words}" for source in sources]


def openings(source: str) -> list[str]:
    """Commands that let all of a subnet in: one for each tool that may guard another machine."""
    family = _family(source)
    return [
        f"sudo ufw allow from {source}  # ufw",
        f"{_trust(source)} && {FIREWALLD_AGAIN}  # firewalld",
        f"sudo nft insert rule inet filter input {family} saddr {source} accept  # nftables",
        f"sudo {family}tables -I INPUT -s {source} -j ACCEPT  # iptables",
    ]


def _trust(source: str) -> str:
    return f"sudo firewall-cmd --permanent --zone=trusted --add-source={source}"


def _span(low: int, high: int, between: str) -> str:
    return str(low) if low == high else f"{low}{between}{high}"


def _family(source: str) -> str:
    return "ip6" if ":" in source else "ip"


def _about(firewall: Firewall, connection: Connection) -> Firewall:
    """The rules for a connection to any port: of thousands on a node of Kubernetes, a few."""
    chains = [
        replace(
            chain,
            rules=tuple(
                rule for rule in chain.rules if _matches_but_for_port(rule, connection) is not False
            ),
        )
        for chain in firewall.chains
    ]
    return replace(firewall, chains=tuple(chains))


def _first(firewall: Firewall, connection: Connection) -> Iterator[Chain]:
    other = "ip" if ":" in connection.source else "ip6"
    return (c for c in firewall.chains if c.first and c.table.split()[0] != other)


def _chain_says(firewall: Firewall, chain: Chain, connection: Connection) -> Verdict:
    answers = _walk(firewall, chain, connection, 0)
    if len(answers) == 1:
        (answer,) = answers
        return answer  # type: ignore[return-value]
    return "unknown" if "accept" in answers or "unknown" in answers else "drop"


def _walk(firewall: Firewall, chain: Chain, connection: Connection, depth: int) -> set[str]:
    """All that may become of it in a chain; "return": it goes on in the one that jumped here."""
    if depth > DEEPEST:
        return {"unknown"}
    answers: set[str] = set()
    for rule in chain.rules:
        matches = _matches(rule, connection)
        if matches is False:
            continue
        says: set[str] = {chain.otherwise if rule.action == "return" else rule.action}
        goes_on = False
        if rule.action in ("jump", "goto"):
            says = set(_follow(firewall, chain, rule, connection, depth))
            if "return" in says and rule.action == "jump":
                says.remove("return")
                goes_on = True
            elif "return" in says:
                says = says - {"return"} | {chain.otherwise}
        answers |= says
        if matches and not goes_on:
            return answers
    return answers | {chain.otherwise}


def _follow(
    firewall: Firewall, chain: Chain, rule: Rule, connection: Connection, depth: int
) -> set[str]:
    for target in firewall.chains:
        if (target.table, target.name) == (chain.table, rule.target):
            return _walk(firewall, target, connection, depth + 1)
    return {"unknown"}


def _matches(rule: Rule, connection: Connection) -> bool | None:
    """Whether a rule is for a connection; None: it cannot be told."""
    here = not rule.ports or any(low <= connection.port <= high for low, high in rule.ports)
    return _matches_but_for_port(rule, connection) if here else False


def _matches_but_for_port(rule: Rule, connection: Connection) -> bool | None:
    conditions = (
        _any_of(rule.sources, lambda value: _within(connection.source, value)),
        _any_of(rule.destinations, lambda value: _within(connection.destination, value)),
        _any_of(rule.interfaces, lambda value: _named(connection.interface, value)),
        None if rule.unclear else True,
    )
    if False in conditions:
        return False
    return None if None in conditions else True


def _any_of(values: tuple[str, ...], fits: Callable[[str], bool | None]) -> bool | None:
    if not values:
        return True
    turned = values[0] == "!"
    answers = [fits(value) for value in values[turned:]]
    answer = True if True in answers else None if None in answers else False
    return answer if answer is None else answer != turned


def _within(address: str, network: str) -> bool | None:
    """Whether an address, or all of a network, is in another; None: some of it, or unknown."""
    if not address:
        return None
    try:
        version, first, last = _ends(address)
        others, low, high = _ends(network)
    except ValueError:
        return None  # a name, or the name of a set
    if version != others or last < low or high < first:
        return False
    return True if low <= first and last <= high else None


@functools.cache
def _ends(text: str) -> tuple[int, int, int]:
    """The version and the first and last address of "10.0.0.0/24" or "10.0.0.5-10.0.0.9".

    Raises:
        ValueError: it is neither.
    """
    import ipaddress  # 3 ms, which a run on one node need not pay

    low, _, high = text.partition("-")
    network = ipaddress.ip_network(low, strict=False)
    last = ipaddress.ip_address(high) if high else network[-1]
    return network.version, int(network[0]), int(last)


def _named(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
