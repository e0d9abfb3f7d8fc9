"""What the nodes with a problem have in common: named only if it is no accident.

A pattern holds for most of those that have the problem, is rare among those that do not, and
would come about by chance, with as many affected nodes anywhere, less than once in a hundred.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gpudoctor.fleet.model import Pattern
from gpudoctor.hostlist import fold

MOST_OF = 0.75  # of the affected
FEW_OF = 0.25  # of the others
LUCK = 0.01  # how often chance may do as much
FEWEST = 3  # nodes that say anything
TRIES = 8  # shares of the affected that a run of neighbours is sought for

_GPU = re.compile(r"\bGPUs? (\d+(?:, \d+)*(?: and \d+)?)")
_NIC = re.compile(r"\b(?:mlx[45]|bnxt_re|irdma|efa|rdmap|hns|rocep|ibp|ionic)_?\d\w*\b")
_BUS = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]\b")
_NUMBER = re.compile(r"\d+")


def devices(text: str) -> dict[str, set[str]]:
    """The devices that a text names: {"GPU": {"3"}, "NIC": {"mlx5_4"}}."""
    found = {
        "GPU": {n for match in _GPU.finditer(text) for n in _NUMBER.findall(match[1])},
        "NIC": {match[0] for match in _NIC.finditer(text)},
        "GPU bus id": {match[0] for match in _BUS.finditer(text)},
    }
    return {kind: names for kind, names in found.items() if names}


def device(named: Sequence[Mapping[str, set[str]]], have: Mapping[str, int]) -> Pattern | None:
    """The device that is nearly always the one.

    Args:
        named: for each affected node the devices that its problem names.
        have: how many devices of a kind a node has; a kind that is not there says nothing.
    """
    for kind in ("GPU", "NIC", "GPU bus id"):
        counted = Counter(name for each in named for name in each.get(kind, ()))
        if kind not in have or not counted:
            continue
        name, holds = counted.most_common(1)[0]
        of, there = len(named), max(have[kind], len(counted))
        share = min(1.0, sum(counted.values()) / of / there)
        chance = there * sum(_binomial(of, k, share) for k in range(holds, of + 1))
        if holds >= FEWEST and holds >= MOST_OF * of and chance <= LUCK:
            what = name if kind == "NIC" else f"{kind} {name}"
            words = f"always {what}" if holds == of else f"{what} on {holds} of {of}"
            return Pattern(kind=kind, value=name, holds=holds, of=of, words=words)
    return None


Judged = tuple[float, Pattern]  # how likely by chance


def shared(
    kind: str,
    affected: Sequence[int],
    values: Sequence[int],
    told: Sequence[str],
    tally: "Counter[int]",
    phrase: str = "{some} on {kind} {value}",
) -> Judged | None:
    """A value that most of the affected have and few others, and how likely that is by chance.

    Args:
        kind: what the values are of.
        affected: numbers of nodes.
        values: for each node the number of its value in `told`; 0: not known.
        tally: how many nodes have which value.
        phrase: how it is said.
    """
    counted = Counter(map(values.__getitem__, affected))
    counted.pop(0, None)
    if not counted:
        return None
    value, holds = counted.most_common(1)[0]
    nodes = tally.total() - tally[0]
    judged = _judged(holds, len(affected), tally[value], nodes)
    return _told(judged, kind, told[value], holds, len(affected), phrase) if judged else None


def neighbours(
    affected: Sequence[int], order: Sequence[int], names: Sequence[str]
) -> Judged | None:
    """The shortest run of nodes, in the order of their names, that holds most of the affected.

    Args:
        affected: numbers of nodes.
        order: all nodes with names of one form, by number.
        names: of the nodes.
    """
    place = {node: position for position, node in enumerate(order)}
    found = sorted(place[node] for node in affected if node in place)
    need = math.ceil(MOST_OF * len(affected))
    if len(found) < max(need, FEWEST):
        return None
    best = None
    least, most = max(need, FEWEST), len(found)
    for holds in {least + (most - least) * step // TRIES for step in range(TRIES + 1)}:
        start = min(range(len(found) - holds + 1), key=lambda n: found[n + holds - 1] - found[n])
        first, last = found[start], found[start + holds - 1]
        inside = order[first : last + 1]
        judged = _judged(holds, len(affected), len(inside), len(order), tried=len(order))
        if judged and (best is None or judged[0] < best[0][0]):
            best = judged, holds, fold(names[node] for node in inside)
    if best is None:
        return None
    return _told(best[0], "neighbours", best[2], best[1], len(affected), "{some} in {value}")


def orders(names: Sequence[str]) -> list[list[int]]:
    """Nodes whose names differ in one number alone, in its order; those of several numbers too."""
    forms: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for node, name in enumerate(names):
        numbers = tuple(map(int, _NUMBER.findall(name[:256])))
        if numbers:
            forms.setdefault(_NUMBER.sub("#", name[:256]), []).append((numbers, node))
    return [[node for _, node in sorted(found)] for found in forms.values()]


def name_groups(name: str) -> list[str]:
    """The groups that a name puts its node in: "gpu-002-05" is of "gpu-*" and "gpu-002-*"."""
    parts = re.split(r"(\d+)", name[:256])
    return [
        "".join(parts[:cut]) + "*" for cut in range(1, len(parts) - 1, 2) if parts[0] or cut > 1
    ]


def _judged(
    holds: int, of: int, having: int, nodes: int, tried: float = 0
) -> tuple[float, int] | None:
    """How likely it is by chance, and how many others have it; None: it is no pattern.

    Args:
        holds: so many of the affected have it.
        of: so many are affected.
        having: so many of all nodes have it.
        tried: how many like it could have been found instead; usually as many as there can be.
    """
    others, outside = having - holds, nodes - of
    if holds < FEWEST or holds < MOST_OF * of or outside <= 0 or others > FEW_OF * outside:
        return None
    chance = (tried or nodes / having) * _hypergeometric(nodes, having, of, holds)
    return (chance, others) if chance <= LUCK else None


def _told(
    judged: tuple[float, int], kind: str, value: str, holds: int, of: int, phrase: str
) -> Judged:
    chance, others = judged
    some = "all" if holds == of else f"{holds} of {of}"
    words = phrase.format(some=some, kind=kind, value=value)
    pattern = Pattern(kind=kind, value=value, holds=holds, of=of, others=others, words=words)
    return chance, pattern


def _hypergeometric(nodes: int, having: int, drawn: int, at_least: int) -> float:
    """How often so many of the drawn, or more, would have it by chance."""
    total = _log_choose(nodes, drawn)
    return math.fsum(
        math.exp(_log_choose(having, k) + _log_choose(nodes - having, drawn - k) - total)
        for k in range(at_least, min(having, drawn) + 1)
        if drawn - k <= nodes - having
    )


def _binomial(tries: int, hits: int, share: float) -> float:
    if share >= 1:
        return float(hits == tries)
    logs = _log_choose(tries, hits) + hits * math.log(share) + (tries - hits) * math.log1p(-share)
    return math.exp(logs)


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def best(found: Iterable[Judged | None]) -> Pattern | None:
    """The one that chance would bring about least; of equals the first."""
    known = [each for each in found if each is not None]
    return min(known, key=lambda each: each[0])[1] if known else None
