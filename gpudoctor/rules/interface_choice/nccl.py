"""NCCL: lists of prefixes, tried over the interfaces in the order of getifaddrs(3).

The rules follow src/misc/socket.cc and src/bootstrap.cc; what changed from version to version
stands in data/interface_choice.json. The lab asks the real libraries.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.network import Address, Interface, Network
from gpudoctor.rules.interface_choice import Choice, Pick, listed, name_of
from gpudoctor.rules.nccl_names import NameList, name_list

Version = tuple[int, ...]

MOST = 16  # MAX_IFS of src/include/socket.h
FAMILIES = {"AF_INET": True, "AF_INET6": False}

NONE_FOUND = "Bootstrap : no socket interface found"
NONE_FOUND_FOR_DATA = "NET/Socket : no interface found"
NONE_IN_SUBNET = "NET/Socket : No usable listening interface found"
BAD_COMM_ID = (
    "Invalid NCCL_COMM_ID, please use format: <ipv4>:<port> or [<ipv6>]:<port> or <hostname>:<port>"
)


class Rules(Struct, frozen=True):
    """A row of the table."""

    since: tuple[int, int]
    automatic: tuple[str, ...]
    running: bool
    subnet_is_inverted: bool
    source: str


def bootstrap(network: Network, told: Mapping[str, str], version: Version | None) -> Choice:
    """Where ranks find each other: one address, over which everything else is arranged."""
    return _agreed(version, lambda rules: _bootstrap(network, told, rules))


def sockets(network: Network, told: Mapping[str, str], version: Version | None) -> Choice:
    """What carries the data where there is no RDMA: every interface that is found."""
    return _agreed(version, lambda rules: _find(network, told, rules, MOST, NONE_FOUND_FOR_DATA))


def _bootstrap(network: Network, told: Mapping[str, str], rules: Rules) -> Choice:
    if "NCCL_COMM_ID" in told:  # it alone decides, even over NCCL_SOCKET_IFNAME
        return _beside(network, told["NCCL_COMM_ID"], rules)
    return _find(network, told, rules, 1, NONE_FOUND)


def _find(network: Network, told: Mapping[str, str], rules: Rules, most: int, error: str) -> Choice:
    family = FAMILIES.get(told.get("NCCL_SOCKET_FAMILY", ""))
    name = told.get("NCCL_SOCKET_IFNAME", "")
    if len(name) > 1:  # a single letter counts as not set
        picked = _matching(network, name_list(name), family, rules)[:most]
        return Choice(
            picked=picked, why=f"NCCL_SOCKET_IFNAME={name}", error="" if picked else error
        )
    for words in rules.automatic:
        if words == "subnet":
            comm_id = told.get("NCCL_COMM_ID", "")
            choice = _beside(network, comm_id, rules) if len(comm_id) > 1 else Choice()
            if choice.picked or choice.unknown or choice.error == BAD_COMM_ID:
                return choice
        elif picked := _matching(network, name_list(words), family, rules)[:most]:
            return Choice(picked=picked, why=_reason(words))
    return Choice(error=error)


def _reason(words: str) -> str:
    if words.startswith("^"):
        *others, last = (f"{word}*" for word in words[1:].split(","))
        return f"the first that is not {', '.join(others)} or {last}"
    return {
        "ib": "ib* comes first",
        "docker": "nothing but docker* and lo is there",
        "lo": "nothing but lo is there",
    }.get(words, f"nothing but {words}* is there")


def _matching(
    network: Network, words: NameList, ipv4: bool | None, rules: Rules
) -> tuple[Pick, ...]:
    found: dict[str, Pick] = {}
    for interface, address in listed(network):
        name = name_of(interface, address)
        if rules.running and not interface.running:
            continue
        if ipv4 is not None and address.is_ipv4 is not ipv4:
            continue
        if address.ip != "::1" and name not in found and words.takes(name):
            found[name] = Pick(name, address.ip)
    return tuple(found.values())[:MOST]


def _beside(network: Network, comm_id: str, rules: Rules) -> Choice:
    """The first interface in the subnet of NCCL_COMM_ID, be it switched on or not."""
    import ipaddress  # only for this rare variable

    remote, _, zone = host_of(comm_id).partition("%")
    if not remote:
        return Choice(error=BAD_COMM_ID)
    try:
        wanted = ipaddress.ip_address(remote)
    except ValueError:
        return Choice(unknown=f"NCCL_COMM_ID={comm_id} has a name, which is not resolved here")
    for interface, address in listed(network):
        if address.is_ipv4 is not (wanted.version == 4):
            continue
        subnet = ipaddress.ip_network(f"{address.ip}/{address.prefix}", strict=False)
        inside = wanted in subnet
        if wanted.version == 6:
            inside = inside and zone == _zone(interface, address)
        elif rules.subnet_is_inverted:
            inside = not inside
        if inside:
            pick = Pick(name_of(interface, address), address.ip)
            return Choice(picked=(pick,), why=f"NCCL_COMM_ID={comm_id}")
    return Choice(error=NONE_IN_SUBNET, why=f"NCCL_COMM_ID={comm_id}")


def _zone(interface: Interface, address: Address) -> str:
    return interface.name if address.ip.lower().startswith("fe80:") else ""


def host_of(comm_id: str) -> str:
    """The address in "10.0.0.1:29600" or "[fe80::1%eth0]:29600"; empty: there is none."""
    if len(comm_id) < 2:
        return ""
    if comm_id.startswith("["):
        host, bracket, _ = comm_id[1:].partition("]")
        return host if bracket else ""
    words = [word.partition(":")[0] for word in comm_id.split(",")]
    return next(filter(None, words), "")


@functools.cache
def _table() -> tuple[Rules, ...]:
    return msgspec.convert(table("interface_choice")["nccl"], tuple[Rules, ...])


def rules(version: Version | None) -> Sequence[Rules]:
    """The rules of a version; where it is not known, those of all."""
    if version is None:
        return _table()
    known = [row for row in _table() if row.since <= version]
    return known[-1:] or _table()[:1]


def _agreed(version: Version | None, choose: Callable[[Rules], Choice]) -> Choice:
    """What all rules that may apply agree on."""
    choices = {row.since: choose(row) for row in rules(version)}
    first = next(iter(choices.values()))
    if all(
        (c.picked, c.error, c.unknown) == (first.picked, first.error, first.unknown)
        for c in choices.values()
    ):
        return first
    said = [
        f"{choice.picked[0].interface if choice.picked else 'none'} since {since[0]}.{since[1]}"
        for since, choice in choices.items()
    ]
    return Choice(unknown=f"it depends on NCCL's version: {', '.join(said)}")
