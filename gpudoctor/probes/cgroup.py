"""Look at the limits of this process's cgroups: version 1, version 2, or both at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.mounts import Mount, mounts
from gpudoctor.snapshot import Absent

CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
# Version 1 says "no limit" with the largest whole number of pages, here of 64 KiB.
NO_LIMIT = 0x7FFFFFFFFFFF0000
# By version: limit, usage, prefix of the counts in memory.stat, and where OOM kills are counted.
MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_", "memory.oom_control"),
    2: ("memory.max", "memory.current", "", "memory.events"),
}


class Way(Struct, frozen=True):
    """The directories of one controller, from this process's own up to the visible root."""

    version: int
    levels: tuple[str, ...]


class Level(Struct, frozen=True):
    """A limit somewhere on the way, and what is used of it."""

    at: str
    limit: int
    used: int
    reclaimable: int = 0

    @property
    def free(self) -> int:
        return self.limit - self.used + self.reclaimable


@probe()
def cgroup(machine: Machine) -> Cgroup | Absent:
    """The tightest limit of each kind that can be seen from here."""
    process = "/proc/self" if machine.live else "/proc/1"
    try:
        text = machine.read(f"{process}/cgroup")
    except FileNotFoundError:
        if not machine.exists(process):
            raise
        return Absent("this kernel has no cgroups")
    groups = parse_groups(text)
    found = mounts(machine)
    ways = {name: way(name, groups, found) for name in CONTROLLERS}
    if not any(ways.values()):
        own = groups.get("memory", groups.get("", "?"))
        return Absent(f"the cgroup of this process ({own}) is not mounted here: limits unknown")
    return Cgroup(
        version=1 if "memory" in groups else 2,
        unseen=tuple(name for name, seen in ways.items() if seen is None),
        **_memory(machine, ways["memory"]),
        **_cpu(machine, ways["cpu"]),
        **_cpuset(machine, ways["cpuset"]),
        **_pids(machine, ways["pids"]),
    )


def memory_of(machine: Machine, text: str) -> dict[str, Any]:
    """The fields of `Cgroup` about memory, by /proc/PID/cgroup of any process.

    Raises:
        OSError: mounts cannot be read.
    """
    return _memory(machine, way("memory", parse_groups(text), mounts(machine)))


def parse_groups(text: str) -> dict[str, str]:
    """The cgroup by controller from /proc/PID/cgroup; that of version 2 by ""."""
    groups = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        groups.update(dict.fromkeys(controllers.split(","), path.removesuffix(" (deleted)")))
    return groups


def way(controller: str, groups: Mapping[str, str], found: Sequence[Mount]) -> Way | None:
    """Where a controller's files are; None when this process's cgroup is not in sight.

    It is out of sight where its hierarchy is not mounted, or where it lies outside of the
    cgroup namespace (`/../other`).
    """
    version = 1 if controller in groups else 2
    path = groups.get(controller, groups.get("", ""))
    best: Way | None = None
    for mount in found:
        if version == 1:
            mounted = mount.filesystem == "cgroup" and controller in mount.options
        else:
            mounted = mount.filesystem == "cgroup2"
        below = f"{path}/".removeprefix(mount.root.rstrip("/") + "/")
        names = [name for name in below.split("/") if name]
        if mounted and f"{path}/" != below and ".." not in names:
            levels = [names[:count] for count in range(len(names), -1, -1)]
            seen = Way(version, tuple("/".join([mount.target, *level]) for level in levels))
            # The mount that shows more of the way up; of equal ones the later hides the other.
            if best is None or len(seen.levels) >= len(best.levels):
                best = seen
    return best


def parse_limit(text: str | None) -> int | None:
    """A limit as either version writes it; None is none."""
    if not text or not text.isdigit():
        return None  # "max", or "-1"
    count = int(text)
    return None if count >= NO_LIMIT else count


def parse_counts(text: str | None) -> dict[str, int]:
    """The numbers by name in memory.stat, cpu.stat, memory.events and memory.oom_control."""
    pairs = [line.split() for line in (text or "").splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def parse_cpus(text: str | None) -> int | None:
    """How many CPUs a list such as "0-3,8" names; None if it names none."""
    count = 0
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += int(last or first) - int(first) + 1
    return count or None


def _memory(machine: Machine, way: Way | None) -> dict[str, Any]:
    if way is None:
        return {}
    limit_name, used_name, prefix, kills_name = MEMORY_FILES[way.version]

    def used(at: str) -> tuple[int, int]:
        stat = parse_counts(machine.text(f"{at}/memory.stat"))
        cache = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
        return machine.number(f"{at}/{used_name}") or 0, cache

    limits = [Level(at, n, *used(at)) for at, n in _limits(machine, way, limit_name)]
    highs = [Level(at, n, *used(at)) for at, n in _limits(machine, way, "memory.high")]
    limit, high = _tightest(limits), _tightest(highs)
    level, own = limit or high, way.levels[0]
    places = {own, level.at if level else own}
    kills = [parse_counts(machine.text(f"{at}/{kills_name}")) for at in places]
    return {
        "memory_limit_bytes": limit.limit if limit else None,
        "memory_high_bytes": high.limit if high else None,
        "memory_used_bytes": level.used if level else machine.number(f"{own}/{used_name}"),
        "memory_reclaimable_bytes": level.reclaimable if level else None,
        "oom_kills": max((k["oom_kill"] for k in kills if "oom_kill" in k), default=None),
    }


def _cpu(machine: Machine, way: Way | None) -> dict[str, Any]:
    quotas = []
    for at in way.levels if way else ():
        if way and way.version == 1:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [machine.text(f"{at}/{name}") for name in names]
        else:
            words = [*(machine.text(f"{at}/cpu.max") or "").split(), "", ""]
        quota, period = parse_limit(words[0]), parse_limit(words[1])
        if quota is not None and period:
            quotas.append((quota / period, at))
    if not quotas:
        return {}
    quota_cpus, at = min(quotas)
    stat = parse_counts(machine.text(f"{at}/cpu.stat"))
    return {
        "cpu_quota": quota_cpus,
        "cpu_periods": stat.get("nr_periods"),
        "cpu_throttled_periods": stat.get("nr_throttled"),
    }


def _cpuset(machine: Machine, way: Way | None) -> dict[str, Any]:
    for at in way.levels if way else ():
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            count = parse_cpus(machine.text(f"{at}/{name}"))
            if count is not None:
                return {"cpuset_cpus": count}
    return {}


def _pids(machine: Machine, way: Way | None) -> dict[str, Any]:
    if way is None:
        return {}
    limits = [
        Level(at, limit, machine.number(f"{at}/pids.current") or 0)
        for at, limit in _limits(machine, way, "pids.max")
    ]
    level = _tightest(limits)
    if level is None:
        return {"pids_used": machine.number(f"{way.levels[0]}/pids.current")}
    return {"pids_limit": level.limit, "pids_used": level.used}


def _limits(machine: Machine, way: Way, name: str) -> list[tuple[str, int]]:
    """Every directory on the way that has such a limit, and the limit."""
    found = [(at, parse_limit(machine.text(f"{at}/{name}"))) for at in way.levels]
    return [(at, limit) for at, limit in found if limit is not None]


def _tightest(limits: Sequence[Level]) -> Level | None:
    """The limit that is reached first, which need not be the smallest."""
    return min(limits, key=lambda level: (level.free, level.limit), default=None)
