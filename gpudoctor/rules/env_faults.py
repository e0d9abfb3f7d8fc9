"""What is wrong with environment variables: slips, values that are not understood, leftovers."""

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from gpudoctor.facts.workload import Workload
from gpudoctor.launch.settings import EnvSet, EnvUnset, Setting
from gpudoctor.rules import variables

SUMMARY = 79  # characters


class Spelling(Struct, frozen=True):
    """Names and values that no library reads as they are meant, each with why."""

    slips: Mapping[str, str]  # the name that was meant
    gone: Mapping[str, str]  # the last version that read it
    wrong: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        return [*self.slips, *self.gone, *self.wrong]


def spelling(
    names: Sequence[str], values: Mapping[str, str], ours: Callable[[str], bool]
) -> Spelling:
    """Judge those names whose right one is `ours`."""
    meant = {name: right for name in names if (right := variables.meant(name)) and ours(right)}
    rows = _rows(values, ours)
    return Spelling(
        slips=meant,
        gone={name: row.until for name, row in rows.items() if row.status == "removed"},
        wrong={name: why for name in rows if (why := variables.misread(name, values[name]))},
    )


def left_over(
    names: Sequence[str],
    values: Mapping[str, str],
    ours: Callable[[str], bool],
    workload: Workload | None,
    rdma: bool = False,
) -> dict[str, str]:
    """What remained from debugging and matters here, each with what it costs."""
    job = workload or Workload()
    one_rank = job.knows("local_ranks") and job.local_ranks * job.nodes == 1
    one_node = job.knows("nodes") and job.nodes == 1
    counts = {"always": True, "ranks": not one_rank, "rdma": rdma and not one_node}
    return {
        name: row.leftover.cost
        for name, row in _rows(values, ours).items()
        if row.leftover and counts[row.leftover.matters]
        if _has_value(name, row.leftover, names, values)
    }


def _rows(values: Mapping[str, str], ours: Callable[[str], bool]) -> dict[str, variables.Variable]:
    """What is known of them; a file from another version may have more."""
    known = variables.known()
    return {name: known[name] for name in values if ours(name) and name in known}


def _has_value(
    name: str, leftover: variables.Leftover, names: Sequence[str], values: Mapping[str, str]
) -> bool:
    wanted = {name: leftover.when, **leftover.beside}
    if leftover.unless and any(re.fullmatch(leftover.unless, other) for other in names):
        return False
    return all(re.fullmatch(p, values.get(n, "").strip(), re.I) for n, p in wanted.items())


def mended(name: str, value: str) -> Setting:
    """A value as it was meant; none where that cannot be told."""
    right = variables.corrected(name, value)
    return EnvSet(name, right) if right else EnvUnset(name)


def stops(spelt: Spelling, values: Mapping[str, str]) -> bool:
    """Whether one of the wrong values ends the program."""
    return any(variables.stops(name, values[name]) for name in spelt.wrong)


def remarks(values: Mapping[str, str], ours: Callable[[str], bool]) -> list[str]:
    """What is worth knowing of names, and no fault."""
    lines = []
    for name, row in _rows(values, ours).items():
        if row.status == "deprecated" and row.replaced_by:
            lines.append(f"{name} is the old name of {row.replaced_by}: still read")
        elif row.status == "deprecated":
            lines.append(f"{name}: {row.note}")
        elif row.status == "unread":
            lines.append(f"{name} is read by no library, at most by a script; {row.note}")
    return lines


def short(text: str, length: int = 24) -> str:
    """The beginning, where it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
