"""What differs between two runs although nothing has changed: by field, each with its reason."""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gpudoctor.units import GIB, MIB

Alike = Callable[[Any, Any], bool]


class Noise(Struct, frozen=True):
    """Two values of a field that are no change.

    Attributes:
        reason: why they differ.
        alike: whether these two are no change.
        own: it only says which machine it is, so it counts between two runs of one node.
    """

    reason: str
    alike: Alike
    own: bool = False

    def covers(self, before: Any, after: Any, *, same_node: bool) -> bool:
        """Whether the difference is no change."""
        if self.own and same_node:
            return False
        try:
            return self.alike(before, after)
        except (AttributeError, TypeError, ValueError):  # not what the field should hold
            return False


class Items(Struct, frozen=True):
    """Which items of a list count, and why the others do not."""

    reason: str
    counts: Callable[[Any], bool]


UNSET = type("Unset", (), {"__repr__": lambda self: "unset"})()
"""Stands for what one side does not have."""


def always(before: Any, after: Any) -> bool:
    return True


def near(share: float = 0.0, least: float = 0.0) -> Alike:
    """No further apart than a share of the larger, or than so much."""

    def alike(before: Any, after: Any) -> bool:
        known = [value for value in (before, after) if value not in (None, UNSET)]
        if len(known) < 2 or not _are_numbers(*known):
            return _are_numbers(*known)  # that it became known is no change
        room = max(least, share * max(abs(before), abs(after)))
        return bool(abs(after - before) <= room)

    return alike


def grown(least: int) -> Alike:
    """A counter that did not grow by more than this; it falls when it begins anew."""

    def alike(before: Any, after: Any) -> bool:
        first, last = (0 if count in (None, UNSET) else count for count in (before, after))
        return bool(last - first <= least)

    return alike


def without(pattern: str) -> Alike:
    """The same text, or texts of a list, but for what the pattern finds."""

    def alike(before: Any, after: Any) -> bool:
        return re.sub(pattern, "", _flat(before)) == re.sub(pattern, "", _flat(after))

    return alike


def same_scopes(before: Any, after: Any) -> bool:
    """As many addresses of each scope: loopback, link, private, global."""
    return _scopes(before) == _scopes(after)


def _idle_aside(before: Any, after: Any) -> bool:
    both = isinstance(before, list) and isinstance(after, list)
    return both and {*before} - {"idle"} == {*after} - {"idle"}


def is_given(address: Any) -> bool:
    return bool(address.get("scope") != "link")


def is_large(file: Any) -> bool:
    size = file.get("bytes")
    return _are_numbers(size) and size >= 64 * MIB


def _nothing_new(before: Any, after: Any) -> bool:
    both = isinstance(before, list) and isinstance(after, list)
    return both and {*map(str, after)} <= {*map(str, before)}


def _same_ways(before: Any, after: Any) -> bool:
    """Whether as many routes go by each interface, and the default ones by the same."""
    both = isinstance(before, list) and isinstance(after, list)
    return both and _ways(before) == _ways(after)


def _ways(routes: list[Any]) -> list[tuple[str, ...]]:
    rows = [route for route in routes if isinstance(route, dict)]
    return sorted((str(row.get("interface")), str(row.get("kind"))) for row in rows)


def _one_need_not_ask(before: Any, after: Any) -> bool:
    """Whether one side made no attempts and those of the other reached the node."""
    reached = all(attempt["error"] in ("", "ECONNREFUSED") for attempt in (*before, *after))
    return reached and not (before and after)


def _not_restarted(before: Any, after: Any) -> bool:
    return bool(before <= 2 * after)


def _same_origin(before: Any, after: Any) -> bool:
    return UNSET in (before, after) or without(r"pid \d+")(before, after)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _flat(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _scopes(value: Any) -> list[str]:
    """The scope of every address in it, text that is none left out."""
    if isinstance(value, dict):
        return _scopes(value.get("ip"))
    if isinstance(value, list):
        return sorted(scope for item in value for scope in _scopes(item))
    return [scope for word in str(value or "").split() if (scope := _scope(word))]


def _scope(word: str) -> str:
    import ipaddress

    try:
        address = ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return ""
    kinds = ("loopback", "link_local", "private", "multicast")
    kind = next((kind for kind in kinds if getattr(address, f"is_{kind}")), "global")
    return f"IPv{address.version} {kind}"


FREE = Noise("others write to it, too: less than half or more than double counts", near(0.5))
TOTAL = Noise("the kernel keeps a little more or less for itself", near(0.01))
USED = Noise("what runs takes more or less of it from moment to moment", near(0.5, GIB))
TOOK = Noise("how long looking took", always)
PID = Noise("numbers of processes are given out as they come", always)
COUNTS = Noise("counts on for as long as the machine is up", always)
NAME = Noise("it is the machine's own name", always, own=True)
PLACE = Noise("it is this rank's or node's place in the job", always, own=True)
ADDRESS = Noise("addresses are a machine's own; their scopes count", same_scopes, own=True)
TOLD = Noise("what was told is compared, not who told it", always)
ERRORS = Noise("single errors come with time; it begins anew when the driver is loaded", grown(10))
LOAD = Noise("what else runs changes it", near(0.5, 1000))
FIGURE = Noise("a measurement scatters", near(0.1))

FIELDS: dict[str, Noise] = {
    "allocation.local_rank": PLACE,
    "cgroup.cpu_periods": COUNTS,
    "cgroup.cpu_throttled_periods": COUNTS,
    "cgroup.memory_reclaimable_bytes": USED,
    "cgroup.memory_used_bytes": USED,
    "cgroup.oom_kills": Noise("counts on; that it grew is news", grown(0)),
    "cgroup.pids_used": LOAD,
    "clock.estimated_error_seconds": Noise("`max_error_seconds` is what counts", always),
    "clock.max_error_seconds": Noise("drifts between corrections", near(0.9, 1.0)),
    "clock.now": Noise("time goes on", always),
    "clock.rtc_offset_seconds": Noise("the hardware's clock drifts", near(least=1.0)),
    "clock.state": Noise("said by `synchronised`; leap seconds are no change", always),
    "clock.status": Noise("said by `synchronised`; the rest is how the daemon works", always),
    "container.clues": Noise("evidence; what follows from it is told beside it", always),
    "device_nodes.nodes.gid": Noise("numbers of a group are the image's; `error` counts", always),
    "gpu_speed.cpus": PLACE,
    "gpu_speed.devices.busy_percent": LOAD,
    "gpu_speed.devices.d2h_gbs": FIGURE,
    "gpu_speed.devices.memory_used_bytes": USED,
    "gpu_speed.devices.seconds": TOOK,
    "gpu_speed.load_average": LOAD,
    "gpus.devices.bus_id": Noise("where a GPU sits differs from node to node", always, own=True),
    "gpus.devices.busy_percent": Noise("work comes and goes", near(least=50)),
    "gpus.devices.clock_mhz": Noise("follows the work from moment to moment", always),
    "gpus.devices.ecc_corrected_total": Noise("single corrected bits are usual", grown(1000)),
    "gpus.devices.links.errors": ERRORS,
    "gpus.devices.memory_used_bytes": USED,
    "gpus.devices.pcie_replays": ERRORS,
    "gpus.devices.power_w": Noise("follows the work from moment to moment", near(0.5, 100)),
    "gpus.devices.processes.memory_bytes": USED,
    "gpus.devices.processes.pid": PID,
    "gpus.devices.temperature_c": Noise("follows work and room", near(least=15)),
    "gpus.devices.temperature_memory_c": Noise("follows work and room", near(least=15)),
    "gpus.devices.throttle": Noise("a GPU without work idles", _idle_aside),
    "gpus.devices.uuid": NAME,
    "job.claims": Noise("evidence; what follows from it is told beside it", always),
    "job.local_rank": PLACE,
    "job.node_rank": PLACE,
    "job.rank": PLACE,
    "kernel_log.lines": Noise("old lines fall out of it; new ones are news", _nothing_new),
    "limits.nproc": Noise("the kernel's default follows the memory", always, own=True),
    "master.attempts": Noise("the master's node asks nobody", _one_need_not_ask, own=True),
    "master.attempts.seconds": TOOK,
    "master.attempts.source": ADDRESS,
    "master.free_port": Noise("the next free one at that moment", always),
    "master.here": PLACE,
    "master.holder": Noise("numbers of processes", without(r"pid \d+")),
    "master.holder_pid": PID,
    "master.resolve_seconds": TOOK,
    "job.told_by": TOLD,
    "names.addresses": ADDRESS,
    "names.hostname": NAME,
    "names.hosts_lines": ADDRESS,
    "names.seconds": TOOK,
    "nccl_answer.address": ADDRESS,
    "nccl_settings.origins.*": Noise("`environment` tells what is set; numbers", _same_origin),
    "network.interfaces.addresses": ADDRESS,
    "network.interfaces.errors": Noise("single errors are usual", grown(100)),
    "network.interfaces.index": Noise("given out as interfaces come up", always),
    "network.interfaces.packets": COUNTS,
    "network.routes": Noise("subnets are a site's own; interfaces count", _same_ways, own=True),
    "network.routes.source": ADDRESS,
    "network_mounts.mounts.seconds": TOOK,
    "network_settings.conntrack_used": LOAD,
    "processes.all_threads": LOAD,
    "processes.files_used": Noise("what else runs changes it", near(0.5, 10_000)),
    "processes.own_threads": LOAD,
    "rdma.devices.ports.counters.*": ERRORS,
    "rdma.devices.ports.gids": Noise("made of addresses, a machine's own", always, own=True),
    "shm.free_bytes": FREE,
    "shm.total_bytes": TOTAL,
    "shm_files.count": Noise("what runs makes and removes files", always),
    "shm_files.files.age_seconds": Noise("time goes on", always),
    "shm_files.files.bytes": USED,
    "shm_write.tried_bytes": Noise("how much is tried follows the job", always),
    "storage.places.free_bytes": FREE,
    "storage.places.inodes": TOTAL,
    "storage.places.inodes_free": FREE,
    "storage.places.total_bytes": TOTAL,
    "system.hostname": NAME,
    "system.memory_available_bytes": FREE,
    "system.memory_bytes": TOTAL,
    "system.swap_used_bytes": USED,
    "system.uptime_seconds": Noise("time goes on; less than half is a restart", _not_restarted),
    "torch_run.devices.compute_seconds": TOOK,
    "torch_run.devices.memory_free_bytes": FREE,
    "torch_run.import_seconds": TOOK,
    "workload.told_by": TOLD,
}
"""By fact and field, without the items of lists; "*" stands for any key of a mapping."""

ITEMS = {
    "network.interfaces.addresses": Items("link-local ones are made of random numbers", is_given),
    "shm_files.files": Items("names are random and small files many", is_large),
}
"""Lists of which not every item counts."""

VARIABLES = re.compile(
    r"(.*_)?(RANK|LOCALRANKID|LOCAL_RANKID|LOCALID|NODEID|PROCID|RUN_ID|JOB_?ID|STEP_ID|BUILD_ID)"
    r"|\w*RESTART_COUNT|JOB_COMPLETION_INDEX|TORCHELASTIC_ERROR_FILE"
)
JOB = Noise("numbers the run, or the rank in it", always)


def noise_at(path: str) -> Noise | None:
    """What is declared of a field."""
    parent, _, name = path.rpartition(".")
    if parent == "environment.values":
        return JOB if VARIABLES.fullmatch(name) else None
    return FIELDS.get(path) or FIELDS.get(f"{parent}.*")


_SECONDS = re.compile(r"\d+(\.\d+)? ?(s|ms|seconds)\b|pid \d+")


def same_reason(before: str, after: str) -> bool:
    """Whether two reasons are one, but for times and process numbers in them."""
    return _SECONDS.sub("", before) == _SECONDS.sub("", after)
