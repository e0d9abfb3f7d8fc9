"""Ids of checks -> the command lines that run them."""

from collections.abc import Iterable

DEEP = ("bandwidth-straggler",)  # judges several nodes after a measurement
_EVERYWHERE = "  # on every node of the job"


def commands(ids: Iterable[str]) -> list[str]:
    """Those for this machine, for several nodes together, and for launch files."""
    alone, several, launch = [], [], False
    for name in ids:
        if name.startswith("launch-"):
            launch = True
        elif of_several(name):
            several.append(name)
        else:
            alone.append(name)
    lines = [f"gpudoctor check {' '.join(alone)}"] if alone else []
    if several:
        flags = max(map(of_several, several), key=len)
        lines.append(f"gpudoctor check {flags} {' '.join(several)}{_EVERYWHERE}")
    return [*lines, "gpudoctor lint FILE"] if launch else lines


def of_several(name: str) -> str:
    """As the catalogue's, without importing every check."""
    if name in DEEP:
        return "--cluster --deep"
    return "--cluster" if name.startswith("cluster-") else ""
