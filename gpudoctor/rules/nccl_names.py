"""NCCL's lists of devices and interfaces: "eth,ib", "^docker", "=mlx5_0:1,mlx5_3"."""

from msgspec import Struct

MOST = 32  # entries that NCCL reads: MAX_IB_DEVS


class Entry(Struct, frozen=True):
    """One name of a list; without a port it means all."""

    name: str
    port: int | None = None

    def takes(self, name: str, port: int | None, exact: bool) -> bool:
        """Whether it means this device or interface."""
        alike = name == self.name if exact else name.startswith(self.name)
        return alike and (None in (port, self.port) or port == self.port)


class NameList(Struct, frozen=True):
    """A list as parseStringList and matchIfList of NCCL read it; `exact`: no prefixes."""

    entries: tuple[Entry, ...]
    exact: bool = False
    excludes: bool = False

    def takes(self, name: str, port: int | None = None) -> bool:
        """Whether NCCL may use it. An empty list means all."""
        named = not self.entries or any(e.takes(name, port, self.exact) for e in self.entries)
        return named is not self.excludes


def name_list(text: str) -> NameList:
    """Read the text; nothing is stripped, as NCCL strips nothing."""
    excludes = text.startswith("^")
    text = text[excludes:]
    exact = text.startswith("=")
    entries = []
    for word in text[exact:].split(","):
        name, *fields = word.split(":")
        if name:
            port = fields[0] if fields else ""
            entries.append(Entry(name, int(port) if port.isdigit() else None))
    return NameList(tuple(entries[:MOST]), exact, excludes)
