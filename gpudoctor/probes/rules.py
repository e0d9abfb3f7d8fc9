"""What the readers of nftables' and of iptables' rules share: a rule while it is being read."""

from collections.abc import Iterable

from gpudoctor.facts.firewall import Action, Rule

LAST_PORT = 65535
EVERYBODY = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}


class Draft:
    """A rule's conditions so far, judged for a new TCP connection to this machine.

    Attributes:
        never: no such connection meets it.
        unclear: it has a condition that is not understood.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.never = False
        self.unclear = False
        self._values: dict[str, tuple[str, ...]] = {}
        self._ports: tuple[tuple[int, int], ...] = ()

    def needs(self, answer: bool, negated: bool = False) -> None:
        """A condition whose answer is known."""
        self.never = self.never or answer == negated

    def narrow(self, field: str, values: Iterable[str], negated: bool = False) -> None:
        """A condition on `sources`, `destinations` or `interfaces`."""
        present = self._values.get(field, ())
        self.unclear |= bool(present) and present[0] not in EVERYBODY.values()
        told = ("!", *values) if negated else tuple(values)
        self._values = {**self._values, field: told}  # a copy of this draft has the old ones

    def ports(self, ranges: Iterable[tuple[int, int]], negated: bool = False) -> None:
        """A condition on the port that is connected to."""
        if self._ports:
            self.unclear = True
        ranges = sorted(ranges)
        self._ports = tuple(_others(ranges) if negated else ranges)

    def rule(self, action: Action, target: str = "") -> Rule:
        return Rule(
            action=action,
            target=target,
            sources=self._values.get("sources", ()),
            destinations=self._values.get("destinations", ()),
            interfaces=self._values.get("interfaces", ()),
            ports=self._ports,
            unclear=self.unclear,
            text=self.text if self.unclear else "",
        )


def _others(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    free, start = [], 0
    for low, high in ranges:
        if start < low:
            free.append((start, low - 1))
        start = high + 1
    return [*free, (start, LAST_PORT)] if start <= LAST_PORT else free
