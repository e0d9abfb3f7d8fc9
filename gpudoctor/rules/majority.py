"""Which nodes differ from the others: a majority accuses, a tie blames nobody."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

V = TypeVar("V", bound=Hashable)


class Split(Struct, Generic[V], frozen=True):
    """The nodes by the value that they have, the most frequent first, then by value.

    Attributes:
        groups: value -> names of the nodes that have it, in the order given.
        usual: the value of more than half of the nodes; None: a tie, or nobody knows.
    """

    groups: Mapping[V, tuple[str, ...]]
    usual: V | None

    @property
    def alike(self) -> bool:
        return len(self.groups) <= 1

    @property
    def outliers(self) -> tuple[str, ...]:
        """Those that do not have the usual value; nobody where there is no usual one."""
        if self.usual is None:
            return ()
        return tuple(
            name for value, names in self.groups.items() if value != self.usual for name in names
        )


def split(values: Mapping[str, V]) -> Split[V]:
    """Group nodes by value.

    Args:
        values: node -> value. A node of which nothing is known must be left out.
    """
    groups: dict[V, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), repr(item[0])))
    found = {value: tuple(names) for value, names in ordered}
    usual = next(iter(found), None)
    if usual is not None and 2 * len(found[usual]) <= len(values):
        usual = None
    return Split(found, usual)
