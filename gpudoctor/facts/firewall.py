"""What the packet filter of this network namespace does with new connections to it."""

from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact

Verdict = Literal["accept", "drop", "reject", "unknown"]


class Opening(Struct, frozen=True, kw_only=True):
    """One rule, in order, for new TCP connections that come in.

    Empty matches anything. `unclear`: it has a condition that is not understood, so whether it
    matches a connection cannot be told.
    """

    verdict: Verdict
    source: str = ""  # "10.0.0.0/24"
    interface: str = ""
    ports: tuple[tuple[int, int], ...] = ()  # inclusive ranges
    unclear: bool = False
    text: str = ""  # as its tool writes it


class Firewall(Fact, frozen=True, kw_only=True):
    """Rules for connections that come in, where they can be read.

    When they cannot, the fact is Absent with the reason: never "none".
    """

    tool: str = ""  # what its owner edits: "ufw", "firewalld", "nftables", "iptables"; "": none
    rules: tuple[Opening, ...] = ()
    otherwise: Verdict = "accept"  # what happens to a connection that no rule matches

    @property
    def filters(self) -> bool:
        """Whether it may stop anything at all."""
        return self.otherwise != "accept" or any(r.verdict != "accept" for r in self.rules)
