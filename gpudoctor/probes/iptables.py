"""Read what `iptables-save` prints: pure functions of its text."""

import shlex
from collections.abc import Callable, Iterator

from gpudoctor.facts.firewall import Chain, Rule
from gpudoctor.probes.rules import LAST_PORT, Draft

_TABLES = ("raw", "mangle", "filter", "security")  # nat stops nothing
_FIRST = ("PREROUTING", "INPUT")
_FINAL = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return"}
# They do something, and the next rule is asked.
_PASSING = {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CHECKSUM", "TCPMSS", "CT", "SET"}
_PASSING |= {"NOTRACK", "TRACE", "AUDIT", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "SECMARK"}
_PASSING |= {"CONNSECMARK", "RATEEST", "TEE"}
_STOPPING = {"NFQUEUE", "QUEUE", "TARPIT", "SYNPROXY", "DELUDE", "CHAOS"}  # what then, who knows
# Modules that have no say of their own: their options do.
_MODULES = {
    "tcp",
    "comment",
    "conntrack",
    "state",
    "multiport",
    "addrtype",
    "pkttype",
    "mark",
    "rt",
}


def chains(text: str, family: str) -> list[Chain]:
    """The chains that a connection to this machine may come to; `family` is "ip" or "ip6".

    Raises:
        ValueError: this is no such text.
    """
    try:
        return _chains(text, family)
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        raise ValueError(f"not what iptables-save prints: {error!r}") from None


def _chains(text: str, family: str) -> list[Chain]:
    found: list[Chain] = []
    table = ""
    policies: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table, policies, rules = line[1:].strip(), {}, {}
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            policies[name], rules[name] = policy, []
        elif line.startswith("-A ") and table in _TABLES:
            chain, rule = _rule(line)
            if rule is not None:
                rules.setdefault(chain, []).append(rule)
        elif line.startswith("COMMIT") and table in _TABLES:
            found += _reachable(f"{family} {table}", policies, rules)
    return found


def _reachable(
    table: str, policies: dict[str, str], rules: dict[str, list[Rule]]
) -> Iterator[Chain]:
    waiting = [name for name in _FIRST if name in policies]
    seen = set(waiting)
    for name in waiting:
        jumps = [rule.target for rule in rules[name] if rule.target and rule.target not in seen]
        jumps = [target for target in dict.fromkeys(jumps) if target in policies]
        seen.update(jumps)
        waiting += jumps  # the loop goes on through these
        policy = policies[name].lower()
        yield Chain(
            name=name,
            table=table,
            rules=tuple(rules[name]),
            first=name in _FIRST,
            otherwise="drop" if policy == "drop" else "accept" if policy == "accept" else "return",
        )


def _rule(line: str) -> tuple[str, Rule | None]:
    """The chain of a rule, and the rule if it may decide over a new TCP connection."""
    words = shlex.split(line) if '"' in line else line.split()
    draft = Draft(line)
    rest = iter(words[2:])
    negated = False
    for word in rest:
        if word in ("-j", "-g"):
            return words[1], _decides(draft, next(rest, ""), goes=word == "-g")
        if word == "!":
            negated = True
            continue
        if word in ("-m", "--match"):
            draft.unclear |= next(rest, "") not in _MODULES
        elif word in _CONDITIONS:
            _CONDITIONS[word](draft, rest, negated)
        elif word.startswith("-"):
            draft.unclear = True
        negated = False
    return words[1], None


def _decides(draft: Draft, target: str, *, goes: bool) -> Rule | None:
    if draft.never or target in _PASSING or not target:
        return None
    if target in _FINAL:
        return draft.rule(_FINAL[target])  # type: ignore[arg-type]
    if target in _STOPPING:
        draft.unclear = True
        return draft.rule("drop")
    return draft.rule("goto" if goes else "jump", target)


_Condition = Callable[[Draft, Iterator[str], bool], None]


def _addresses(field: str) -> _Condition:
    return lambda draft, rest, negated: draft.narrow(field, next(rest).split(","), negated)


def _interface(draft: Draft, rest: Iterator[str], negated: bool) -> None:
    name = next(rest)
    draft.narrow("interfaces", [name[:-1] + "*" if name.endswith("+") else name], negated)


def _is_one_of(*values: str) -> _Condition:
    """What comes next is a list of words, one of which is true of a new TCP connection."""

    def judge(draft: Draft, rest: Iterator[str], negated: bool) -> None:
        said = {word.lower() for word in next(rest).split(",")}
        draft.needs(not said.isdisjoint(values), negated)

    return judge


def _ports(draft: Draft, rest: Iterator[str], negated: bool) -> None:
    ranges = []
    for part in next(rest).split(","):
        low, colon, high = part.partition(":")
        ranges.append((int(low or 0), int(high or LAST_PORT) if colon else int(low)))
    draft.ports(ranges, negated)


def _flags(draft: Draft, rest: Iterator[str], negated: bool) -> None:
    mask, wanted = (set(next(rest).split(",")) for _ in range(2))
    here = {"SYN"} if mask & {"SYN", "ALL"} else set()
    draft.needs(wanted - {"NONE"} == here, negated)


def _mark(draft: Draft, rest: Iterator[str], negated: bool) -> None:
    """Nothing marked it yet, or so we take it."""
    draft.needs(int(next(rest).partition("/")[0], 0) == 0, negated)


def _ignored(draft: Draft, rest: Iterator[str], negated: bool) -> None:
    next(rest)


_CONDITIONS: dict[str, _Condition] = {
    "-s": _addresses("sources"),
    "-d": _addresses("destinations"),
    "-i": _interface,
    "-p": _is_one_of("tcp", "6", "all", "0"),
    "--dport": _ports,
    "--dports": _ports,
    "--tcp-flags": _flags,
    "--syn": lambda draft, rest, negated: draft.needs(True, negated),
    "--ctstate": _is_one_of("new"),
    "--state": _is_one_of("new"),
    "--dst-type": _is_one_of("local"),
    "--src-type": _is_one_of("unicast"),
    "--pkt-type": _is_one_of("unicast"),
    "--mark": _mark,
    "--comment": _ignored,
    "--rt-type": lambda draft, rest, negated: draft.needs(next(rest) == "", negated),
}
