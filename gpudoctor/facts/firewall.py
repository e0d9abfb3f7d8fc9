"""What the packet filter of this network namespace does with new TCP connections to it."""

from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact

Verdict = Literal["accept", "drop", "reject", "unknown"]
Action = Literal["accept", "drop", "reject", "jump", "goto", "return"]


class Rule(Struct, frozen=True, kw_only=True):
    """One rule. Of each condition any one value must fit; none at all fits anything.

    A first value "!" turns a condition round. Rules that no new TCP connection can meet are left
    out. `unclear`: there is a condition besides that is not understood, so whether the rule
    matches cannot be told.
    """

    action: Action
    target: str = ""  # the chain that it jumps to
    sources: tuple[str, ...] = ()  # "10.0.0.0/24"
    destinations: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()  # "eth0", "eth*"
    ports: tuple[tuple[int, int], ...] = ()  # inclusive ranges
    unclear: bool = False
    text: str = ""  # as its tool writes it, if it is unclear


class Chain(Struct, frozen=True, kw_only=True):
    """Rules that are asked one after the other."""

    name: str  # "input"; that which jumps name
    table: str = ""  # "inet filter": its family and name
    rules: tuple[Rule, ...] = ()
    first: bool = False  # connections come to it by themselves, not by a jump
    otherwise: Literal["accept", "drop", "return"] = "return"  # when no rule decided


class Firewall(Fact, frozen=True, kw_only=True):
    """Chains for connections that come in. Every first one must accept.

    When they cannot be read, the fact is Absent with the reason: never "none".
    """

    tool: str = ""  # what its owner edits: "ufw", "firewalld", "nftables", "iptables"; "": none
    chains: tuple[Chain, ...] = ()

    @property
    def filters(self) -> bool:
        """Whether it may stop anything at all."""
        stops = ("drop", "reject")
        return any(
            chain.otherwise in stops or any(rule.action in stops for rule in chain.rules)
            for chain in self.chains
        )
