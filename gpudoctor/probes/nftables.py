"""Read what `nft -j list ruleset` prints: pure functions of its JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Literal

from gpudoctor.facts.firewall import Chain, Rule
from gpudoctor.probes.rules import EVERYBODY, LAST_PORT, Draft

_FAMILIES = ("inet", "ip", "ip6", "netdev")
_HOOKS = ("ingress", "prerouting", "input")
_FINAL = ("accept", "drop", "reject", "return")
_JUMPS = ("jump", "goto")
# They do something, and the next expression is looked at.
_PASSING = {"counter", "log", "mangle", "notrack", "ct helper", "comment", "dup", "flow", "set"}
_STOPPING = {"queue", "synproxy", "tproxy"}  # what then, who knows

Expression = Mapping[str, Any]
Sets = Mapping[tuple[str, str], Any]


def chains(text: str, managed: Iterable[str] = ()) -> list[Chain]:
    """The chains that a connection to this machine may come to.

    Args:
        text: the tool's output.
        managed: tables that iptables-save tells of: "ip filter". Here they are hard to read.

    Raises:
        ValueError: this is no such JSON.
    """
    try:
        entries = json.loads(text)["nftables"]
        return list(_chains(entries, set(managed)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not what nft prints: {error!r}") from None


def _chains(entries: Iterable[Expression], managed: set[str]) -> Iterator[Chain]:
    sets: dict[tuple[str, str], Any] = {}
    found: dict[tuple[str, str], Expression] = {}
    rules: dict[tuple[str, str], list[Expression]] = {}
    for entry in entries:
        for kind, what in entry.items():
            table = f"{what['family']} {what['table']}" if "table" in what else ""
            if table in managed or what.get("family") not in _FAMILIES:
                continue
            if kind in ("set", "map"):
                sets[table, what["name"]] = what.get("elem", [])
            elif kind == "chain":
                found[table, what["name"]] = what
            elif kind == "rule":
                rules.setdefault((table, what["chain"]), []).append(what)
    waiting = [
        place
        for place, chain in found.items()
        if chain.get("type") == "filter" and chain.get("hook") in _HOOKS
    ]
    first = set(waiting)
    seen = set(waiting)
    for place in waiting:
        table, name = place
        own = tuple(rule for raw in rules.get(place, ()) for rule in _rules(raw, table, sets))
        jumps = [(table, rule.target) for rule in own if rule.target]
        jumps = [to for to in dict.fromkeys(jumps) if to in found and to not in seen]
        seen.update(jumps)
        waiting += jumps  # the loop goes on through these
        drops = found[place].get("policy") == "drop"
        policy: Literal["accept", "drop"] = "drop" if drops else "accept"
        yield Chain(
            name=name,
            table=table,
            rules=own,
            first=place in first,
            otherwise=policy if place in first else "return",
        )


def _rules(raw: Expression, table: str, sets: Sets) -> Iterator[Rule]:
    """What a rule decides over a new TCP connection: one for each entry of a verdict map."""
    text = json.dumps(raw["expr"])
    draft = Draft(text if len(text) <= 200 else f"{text[:200]}...")
    for expression in raw["expr"]:
        ((kind, what),) = expression.items()
        if kind == "match":
            _match(draft, what, table, sets)
        elif kind == "vmap":
            for key, decision in _entries(what["data"], table, sets):
                each = copy(draft)
                _match(each, {"op": "==", "left": what["key"], "right": key}, table, sets)
                yield from _decides(each, decision)
        elif kind in _FINAL or kind in _JUMPS or kind in _STOPPING:
            yield from _decides(draft, expression)
            return
        elif kind not in _PASSING:
            draft.unclear = True  # limit, quota, xt, meter, ...


def _decides(draft: Draft, decision: Expression) -> Iterator[Rule]:
    ((kind, what),) = decision.items()
    if draft.never or kind == "continue":
        return
    if kind in _JUMPS:
        yield draft.rule(kind, what["target"])  # type: ignore[arg-type]
    elif kind in _FINAL:
        yield draft.rule(kind)  # type: ignore[arg-type]
    else:
        draft.unclear = True
        yield draft.rule("drop")


def _match(draft: Draft, what: Expression, table: str, sets: Sets) -> None:
    """Put a condition into words of a draft."""
    negated = what["op"] == "!="
    left, right = what["left"], what["right"]
    if what["op"] not in ("==", "!=", "in") or not isinstance(left, dict):
        draft.unclear = True
        return
    values = _elements(right, table, sets)
    match left:
        case _ if values is None:
            draft.unclear = True
        case {"payload": {"protocol": "ip" | "ip6", "field": "saddr"}}:
            draft.narrow("sources", map(_address, values), negated)
        case {"payload": {"protocol": "ip" | "ip6", "field": "daddr"}}:
            draft.narrow("destinations", map(_address, values), negated)
        case {"meta": {"key": "nfproto"}}:
            draft.narrow("sources", [EVERYBODY.get(v, "") for v in values], negated)
        case {"payload": {"protocol": "tcp" | "th", "field": "dport"}}:
            draft.ports(map(_range, values), negated)
        case {"payload": {"protocol": "udp" | "icmp" | "icmpv6" | "sctp" | "dccp" | "esp" | "ah"}}:
            draft.never = True
        case {"payload": {"protocol": "ip" | "ip6", "field": "protocol" | "nexthdr"}}:
            draft.needs("tcp" in values or 6 in values, negated)
        case {"meta": {"key": "l4proto"}}:
            draft.needs("tcp" in values or 6 in values, negated)
        case {"meta": {"key": "iifname" | "iif"}}:
            draft.narrow("interfaces", map(str, values), negated)
        case {"meta": {"key": "pkttype"}}:
            draft.needs("host" in values or "unicast" in values, negated)
        case {"meta": {"key": "mark"}} | {"&": [{"meta": {"key": "mark"}}, _]}:
            draft.needs(0 in values, negated)  # nothing marked it yet, or so we take it
        case {"ct": {"key": "state"}}:
            draft.needs("new" in values, negated)
        case {"ct": {"key": "status"}}:
            draft.needs(False, negated)
        case {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, mask]}:
            here = {"syn"} if "syn" in _words(mask) else set()
            draft.needs(_words(right) == here, negated)
        case {"fib": {"result": "type", "flags": ["daddr"] | "daddr"}}:
            draft.needs("local" in values, negated)
        case _:
            draft.unclear = True


def _elements(right: Any, table: str, sets: Sets) -> list[Any] | None:
    """The values that a condition compares with; None: they are not told."""
    if isinstance(right, str) and right.startswith("@"):
        right = sets.get((table, right[1:]))
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    if right is None:
        return None
    listed = right if isinstance(right, list) else [right]
    listed = [v["elem"]["val"] if isinstance(v, dict) and "elem" in v else v for v in listed]
    known = all(not isinstance(v, dict) or v.keys() & {"range", "prefix"} for v in listed)
    return listed if known else None


def _entries(data: Any, table: str, sets: Sets) -> Iterator[tuple[Any, Expression]]:
    if isinstance(data, str):
        data = sets.get((table, data.removeprefix("@")), [])
    if isinstance(data, dict):
        data = data["set"]
    yield from data


def _address(value: Any) -> str:
    match value:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [low, high]}:
            return f"{low}-{high}"
    return str(value)


def _range(value: Any) -> tuple[int, int]:
    match value:
        case {"range": [low, high]}:
            return _port(low), _port(high)
    return _port(value), _port(value)


def _port(value: Any) -> int:
    """Numbers are asked for; a name would be that of a service."""
    number = int(value)
    if not 0 <= number <= LAST_PORT:
        raise ValueError(f"not a port: {number}")
    return number


def _words(value: Any) -> set[str]:
    match value:
        case {"|": parts}:
            return {word for part in parts for word in _words(part)}
        case list():
            return {str(word) for word in value}
    return {str(value)} - {"0"}
