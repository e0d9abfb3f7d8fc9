"""What differs between the nodes of one job, and with whom."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from gpudoctor.rules.majority import Split, split
from gpudoctor.rules.traits import KINDS, NO_GPU, Group, Matters, Trait, model, traits
from gpudoctor.snapshot import Absent, Snapshot
from gpudoctor.units import parse_size

__all__ = ["KINDS", "NO_GPU", "Comparison", "Group", "Matters", "Trait"]
__all__ += ["cohorts", "compare", "model", "traits"]


K = TypeVar("K", bound=Hashable)


class Comparison(Struct, frozen=True):
    """A trait over nodes that should have it alike; `model` says which, if not all."""

    trait: Trait
    split: Split[str]
    model: str = ""


def cohorts(nodes: Iterable[Snapshot]) -> dict[str, list[Snapshot]]:
    """Nodes by the GPUs in them; where those are not known, with the most."""
    found: dict[str, list[Snapshot]] = {}
    unknown: list[Snapshot] = []
    for node in nodes:
        name = model(node)
        (found.setdefault(name, []) if name else unknown).append(node)
    if unknown:
        most = max(found, key=lambda name: len(found[name]), default="")
        found.setdefault(most, []).extend(unknown)
    return found


def compare(nodes: Iterable[Snapshot], *groups: Group) -> list[Comparison]:
    """Every trait that at least two nodes are known to have or to lack, alike or not.

    Args:
        nodes: with unique names.
        groups: of traits; none: all.
    """
    nodes = list(nodes)
    own = {node.name: traits(node) for node in nodes}
    of_model = cohorts(nodes)
    kinds = dict.fromkeys(trait for found in own.values() for trait in found)
    compared = []
    for trait in kinds:
        if groups and trait.group not in groups:
            continue
        for name, members in of_model.items() if trait.of_model else [("", nodes)]:
            values = {}
            for node in members:
                value = own[node.name].get(trait)
                if value is None and trait.unset and _has(node, trait.fact):
                    value = trait.unset
                if value is not None:
                    values[node.name] = value
            if len(values) > 1:
                several = name if len(of_model) > 1 else ""
                compared.append(Comparison(trait, split(merged(values, trait.close)), several))
    return compared


def _has(node: Snapshot, fact: str) -> bool:
    found = node.facts.get(fact)
    return found is not None and not isinstance(found, Absent)


def merged(values: Mapping[K, str], close: float) -> Mapping[K, str]:
    """The same values, those that are nearly alike told by the most frequent of them."""
    if not close or len(set(values.values())) == 1:
        return values
    told = Counter(values.values())
    sizes: dict[str, int] = {}
    for value in told:
        try:
            sizes[value] = parse_size(value)
        except ValueError:
            continue  # "unlimited"
    best: dict[str, str] = {}
    run: list[str] = []
    for value in sorted(sizes, key=sizes.__getitem__):
        if run and sizes[value] > sizes[run[0]] * (1 + close):
            run = []
        run.append(value)
        usual = max(run, key=told.__getitem__)
        best.update(dict.fromkeys(run, usual))
    return {name: best.get(value, value) for name, value in values.items()}
