"""Look at resource limits, and at how many processes and files there are already."""

import contextlib
import os
import resource

from gpudoctor.facts.limits import Limit, Limits, Processes
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent


@probe()
def limits(machine: Machine) -> Limits | Absent:
    """The limits that the job inherits from this process."""
    if not machine.live:
        return Absent("limits are those of a running process: not known from --root")
    return Limits(
        memlock=_limit(resource.RLIMIT_MEMLOCK),
        stack=_limit(resource.RLIMIT_STACK),
        nofile=_limit(resource.RLIMIT_NOFILE),
        nproc=_limit(resource.RLIMIT_NPROC),
        address_space=_limit(resource.RLIMIT_AS),
    )


def _limit(number: int) -> Limit:
    soft, hard = (
        None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(number)
    )
    return Limit(soft, hard)


@probe(isolated=True, timeout=3.0)
def processes(machine: Machine) -> Processes | Absent:
    """Threads of this user, and what the whole kernel has and allows."""
    if not machine.live:
        return Absent("processes are counted where they run: not known from --root")
    files_used, files_max = parse_files(machine.text("/proc/sys/fs/file-nr") or "")
    return Processes(
        own_threads=sum(_threads(p, os.getuid()) for p in os.listdir("/proc") if p.isdigit()),
        all_threads=parse_threads(machine.read("/proc/loadavg")),
        threads_max=machine.number("/proc/sys/kernel/threads-max"),
        pid_max=machine.number("/proc/sys/kernel/pid_max"),
        files_used=files_used,
        files_max=files_max,
    )


def _threads(pid: str, uid: int) -> int:
    # One stat(2), whose link count is 2 + threads: psutil needs 20 times as long, and a large
    # node has thousands of processes.
    with contextlib.suppress(OSError):  # it is gone meanwhile, or hidden
        tasks = os.stat(f"/proc/{pid}/task")
        if tasks.st_uid == uid:
            return max(1, tasks.st_nlink - 2)
    return 0


def parse_threads(loadavg: str) -> int:
    """All threads of the kernel, whatever a pid namespace hides: "0.1 0.1 0.1 2/345 6789"."""
    return int(loadavg.split()[3].partition("/")[2])


def parse_files(file_nr: str) -> tuple[int | None, int | None]:
    """Open files and their limit in the whole kernel: "allocated free max"."""
    numbers = [int(word) for word in file_nr.split() if word.isdigit()]
    return (numbers[0] - numbers[1], numbers[2]) if len(numbers) == 3 else (None, None)
