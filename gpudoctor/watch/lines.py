"""New lines of the kernel's log and of the logs that are followed."""

import re
from collections.abc import Iterator
from typing import Literal

from gpudoctor.rules import gpu_log
from gpudoctor.watch.course import Course
from gpudoctor.watch.event import Trouble
from gpudoctor.watch.look import Told

KERNEL = "kernel's log"
OF_MEMORY = r"(?i)oom[-_]|out of memory"  # what stands around it
KILLED = r"Killed process (?P<pid>\d+) \((?P<name>[^)]*)\)"
UNKNOWN = "python-exception"  # which no rule knows: it may have been caught
LEVELS: dict[str, Literal["error", "warning"]] = {"fail": "error", "warn": "warning"}


def troubles(course: Course) -> Iterator[Trouble]:
    """What the new lines tell; each thing once."""
    gpus = {gpu_log.slot(gpu.bus_id): gpu.index for gpu in course.now.gpus or ()}
    pids = {process.pid for process in course.now.job.processes} if course.now.job else set()
    rest = []
    for line in course.now.kernel or ():
        event = gpu_log.event_of(line)
        if event is not None:
            yield from _of_gpu(event, gpus)
        elif match := re.search(KILLED, line):
            yield _killed(match, pids)
        elif not re.search(OF_MEMORY, line):
            rest.append(line)
    text = "".join(f"{line}\n" for line in rest).encode("utf-8", "replace")
    for told in course.reader.read(KERNEL, text) if rest else ():
        if told.role != "note":
            yield _told(told, "warning", "kernel")
    for told in course.now.logs.told if course.now.logs else ():
        if told.role != "note":
            unsure = told.role == "remark" or told.id == UNKNOWN
            yield _told(told, "warning" if unsure else "error", "logs")


def _of_gpu(event: gpu_log.Event, gpus: dict[str, int]) -> Iterator[Trouble]:
    if event.part == "NVSwitch" and event.severity == "info":
        return  # "Non-fatal": they come and go
    index = gpus.get(event.bus)
    elsewhere = bool(gpus) and event.part == "GPU" and bool(event.bus) and index is None
    off = event.what == f"Xid {gpu_log.OFF_THE_BUS}"  # then it is no longer listed
    level = LEVELS.get(event.severity, "warning")
    yield Trouble(
        id="gpu-kernel-log",
        subject=f"GPU {index}" if index is not None else f"{event.part} {event.bus}".strip(),
        level="warning" if elsewhere and not off else level,
        text=event.what,
        means=event.meaning,
        do=event.action[:1].upper() + event.action[1:],
        check="gpu-kernel-log",
        source="kernel",
        mark=event.what,
    )


def _killed(match: re.Match[str], pids: set[int]) -> Trouble:
    ours = int(match["pid"]) in pids
    return Trouble(
        id="memory-killed",
        subject=f"process {match['pid']} ({match['name']})",
        level="error" if ours else "warning",
        text="the kernel killed it for memory",
        means="ranks that wait for it hang until NCCL times out",
        do="Raise the memory limit, or use fewer DataLoader workers",
        check="cgroup-memory",
        source="kernel",
        mark=match["pid"],
    )


def _told(told: Told, level: Literal["error", "warning"], source: str) -> Trouble:
    return Trouble(
        id=told.id,
        subject=told.log if told.rank is None else f"{told.log}, rank {told.rank}",
        level=level,
        text=told.means,
        do=told.do,
        check=told.check,
        source=source,
        mark=told.means,
    )
