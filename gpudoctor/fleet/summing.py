"""The rows of all nodes made into a fleet."""

from collections.abc import Iterable, Mapping, Sequence

import gpudoctor
from gpudoctor.finding import Owner, Status
from gpudoctor.fleet import figures
from gpudoctor.fleet.cohorts import cohorts
from gpudoctor.fleet.expected import Expected
from gpudoctor.fleet.gathered import Gathered
from gpudoctor.fleet.model import (
    Action,
    Command,
    Figure,
    Fleet,
    FleetNode,
    Hosts,
    Unread,
)
from gpudoctor.fleet.problems import problems
from gpudoctor.fleet.tables import Advice, worst
from gpudoctor.hostlist import fold
from gpudoctor.launch.plan import ORDER
from gpudoctor.report import Redaction, Tool, exit_code

MOST_FILES = 20  # named of each reason
MOST_COMMANDS = 5  # of one action, those for the most nodes
Key = tuple[Owner, str, str, bool]
ADMINS = ("node", "network", "cluster")  # whose faults no launch line mends


def sum_up(gathered: Gathered, expected: Expected | None, made: str) -> Fleet:
    """Everything that the formats show."""
    rows = gathered.rows
    places, missing, unexpected = _attendance(list(gathered.numbers), expected)
    number = len(expected.names) if expected else None
    if expected is None and (away := [n for each in gathered.clusters for n in each.missing]):
        missing = [name for name in away if name not in gathered.numbers]
        number = len(rows) + len(missing)
    unread = _unread(gathered)
    status = worst(
        [
            *(row.status for row in rows),
            *(each.finding.status for each in gathered.of_cluster),
            *([Status.ERROR] if missing or any(not each.foreign for each in unread) else []),
        ]
    )
    found, unlike = cohorts(gathered)
    numbers = {cohort.name: number for number, cohort in enumerate(found)}
    keys = figures.keys(row.figures for row in rows)
    counts = {each.value: sum(row.status is each for row in rows) for each in Status}
    excluded = _excluded(gathered)
    return Fleet(
        tool=Tool("gpudoctor", gpudoctor.__version__),
        made=made,
        first=min((row.started for row in rows), default=""),
        last=max((row.started for row in rows), default=""),
        status=status,
        exit_code=exit_code(status),
        counts=counts,
        reports=gathered.reports,
        expected=number,
        missing=hosts(missing),
        missing_places=_missing_places(missing, expected),
        unexpected=hosts(unexpected),
        unread=unread,
        repeated=hosts(gathered.repeated),
        interrupted=hosts(row.name for row in rows if not row.complete),
        actions=_actions(gathered),
        exclude=hosts(excluded),
        exclude_lines=_exclude_lines(excluded),
        unjudged=hosts(r.name for r in rows if r.status in (Status.ERROR, Status.SKIP)),
        problems=problems(gathered, places),
        cohorts=found,
        figures=_figures(gathered),
        checks=tuple(gathered.about),
        texts=tuple(gathered.texts.values),
        results=tuple(gathered.letters.values),
        figure_keys=keys,
        nodes=tuple(
            FleetNode(
                name=row.name,
                status=row.status,
                started=row.started,
                seconds=row.seconds,
                launcher=row.launcher,
                complete=row.complete,
                cohort=numbers[row.model],
                results=row.results,
                findings=row.findings,
                figures=tuple(row.figures.get(key.key) for key in keys),
                unlike=unlike.get(number, {}),
                place=place,
            )
            for number, (row, place) in enumerate(zip(rows, places, strict=True))
        ),
        cluster=gathered.clusters[0] if len(gathered.clusters) == gathered.reports == 1 else None,
        redaction=_redaction(gathered.redactions),
    )


def hosts(names: Iterable[str]) -> Hosts:
    """So many nodes, folded."""
    known = set(names)
    return Hosts(len(known), fold(known))


def _attendance(
    names: Sequence[str], expected: Expected | None
) -> tuple[list[Mapping[str, str]], list[str], list[str]]:
    """Where each node stands, which were expected and are missing, which nobody expected.

    A node may call itself by its full name where the list has the short one, or the other way.
    """
    if expected is None:
        return [{} for _ in names], [], []
    seen = set(names)
    shorts: dict[str, list[str]] = {}
    for name in expected.names:
        shorts.setdefault(_short(name), []).append(name)
    places, unexpected, met = [], [], set()
    for name in names:
        like = shorts.get(_short(name), [])
        known = name if name in expected.places else like[0] if len(like) == 1 else ""
        if known and known != name and known in seen:
            known = ""  # that one is here itself
        met.add(known)
        places.append(expected.places.get(known, {}))
        if not known:
            unexpected.append(name)
    return places, [name for name in expected.names if name not in met], unexpected


def _short(name: str) -> str:
    """The first part of a name; an address is all one."""
    first = name.partition(".")[0]
    return name.lower() if first.isdecimal() or ":" in name else first.lower()


def _missing_places(missing: Sequence[str], expected: Expected | None) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name in missing:
        for column, value in (expected.places[name] if expected else {}).items():
            counted = found.setdefault(column, {})
            counted[value] = counted.get(value, 0) + 1
    return {
        column: dict(sorted(counted.items(), key=lambda item: -item[1]))
        for column, counted in found.items()
    }


def _unread(gathered: Gathered) -> tuple[Unread, ...]:
    found = [
        Unread(reason=why, foreign=foreign, count=len(files), files=tuple(files[:MOST_FILES]))
        for (why, foreign), files in gathered.refused.items()
    ]
    return tuple(sorted(found, key=lambda each: (each.foreign, -each.count)))


def _actions(gathered: Gathered) -> tuple[Action, ...]:
    """The steps of all nodes, those with the same words as one."""
    taken: dict[Key, dict[str, set[str]]] = {}
    like: dict[Key, Advice] = {}
    plans: list[tuple[tuple[int, ...], tuple[str, ...]]]
    plans = [(row.steps, (row.name,)) for row in gathered.rows]
    plans += [(each.steps, each.nodes) for each in gathered.of_cluster]
    for steps, names in plans:
        for number in steps:
            step = gathered.advice.values[number]
            key = (step.owner, step.launcher, step.text, step.needs_root)
            like.setdefault(key, step)
            taken.setdefault(key, {}).setdefault(step.command, set()).update(names)
    found = []
    for key, commands in taken.items():
        ordered = sorted(commands.items(), key=lambda item: (-len(item[1]), item[0]))
        found.append(
            Action(
                owner=like[key].owner,
                launcher=like[key].launcher,
                text=like[key].text,
                needs_root=like[key].needs_root,
                nodes=hosts(name for names in commands.values() for name in names),
                commands=tuple(
                    Command(command, hosts(names))
                    for command, names in ordered[:MOST_COMMANDS]
                    if command
                ),
                more=max(0, len(ordered) - MOST_COMMANDS),
            )
        )
    return tuple(sorted(found, key=lambda each: (ORDER.index(each.owner), -each.nodes.count)))


def _excluded(gathered: Gathered) -> set[str]:
    """Nodes with a failure that no launch line mends, and those that a cluster's checks name."""
    found = {
        row.name
        for row in gathered.rows
        if any(f.status is Status.FAIL and f.owner in ADMINS for f in row.findings)
    }
    for cluster in gathered.clusters:
        found.update(cluster.exclude)
    return found


def _exclude_lines(names: Iterable[str]) -> dict[str, str]:
    folded = fold(names)
    return {"slurm": f"sbatch --exclude={folded}"} if folded else {}


def _figures(gathered: Gathered) -> tuple[Figure, ...]:
    """Every figure, over the nodes of each cohort that tell it."""
    told: dict[tuple[int, str], list[tuple[float, str]]] = {}
    for row in gathered.rows:
        for key, value in row.figures.items():
            told.setdefault((figures.PLACES[key], row.model), []).append((value, row.name))
    return tuple(
        figures.spread(figures.KNOWN[place], cohort, values)
        for (place, cohort), values in sorted(
            told.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])
        )
    )


def _redaction(found: Sequence[Redaction]) -> Redaction:
    """What is hidden in at least some of the reports."""
    levels = {each.level for each in found}
    if len(found) == 1:
        return found[0]
    for level in ("public", "internal"):
        if level in levels:
            return Redaction(level=level)
    return Redaction()
