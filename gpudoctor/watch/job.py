"""The job's processes, its shared memory and its memory limit."""

import signal
from collections.abc import Iterator

from gpudoctor.units import count_of, size
from gpudoctor.watch.course import FEW, Course
from gpudoctor.watch.event import Trouble, lasting
from gpudoctor.watch.look import Job, Process, Space

SHM_FILLING = 0.8  # of /dev/shm; the practice documents' mark
SHM_FULL = 0.01  # free of it, and no more than
SHM_FULL_BYTES = 16 << 20
MEMORY_NEAR = 0.95  # of the limit; the kernel starts to reclaim hard, rule of thumb
WORKS, IDLE = 0.2, 0.01  # of a core; a rank that waits in NCCL or CUDA spins on a whole one


def troubles(course: Course) -> Iterator[Trouble]:
    """What is not well in the look of now."""
    job, first = course.now.job, course.first.job
    if job is None or first is None:
        return
    for space in job.shm:
        yield from _shm(course, space)
    yield from _memory(course, first, job)
    for process in job.processes:
        yield from _ended(course, process, job)
        yield from _stopped(course, process)
    yield from _idle(course, job)


def _shm(course: Course, space: Space) -> Iterator[Trouble]:
    if not space.total_bytes:  # a tmpfs without a limit
        return
    share = 1 - space.free_bytes / space.total_bytes
    most = course.most(f"shm {space.path}", share)
    fields = {
        "subject": space.path,
        "text": f"{100 * share:.0f} % of {size(space.total_bytes)} used",
        "check": "shm-size",
        "source": "job",
        "end": f"there is room again; it was {100 * most:.0f} % full at most",
    }
    if space.free_bytes < min(SHM_FULL * space.total_bytes, SHM_FULL_BYTES):
        yield Trouble(
            id="shm-full",
            level="error",
            means='the next DataLoader batch or NCCL buffer dies of "Bus error"',
            do="Free what is left of dead jobs, and start with a larger --shm-size",
            **fields,
        )
    if share >= SHM_FILLING:
        yield Trouble(
            id="shm-filling",
            level="warning",
            means='when it is full, DataLoader workers and NCCL die of "Bus error"',
            do="Use fewer workers or give it more; `gpudoctor shm --measure` tells who holds it",
            **fields,
        )


def _memory(course: Course, first: Job, job: Job) -> Iterator[Trouble]:
    killed = course.now.kernel is not None  # its log tells who
    for group in job.memory:
        subject = f"memory of {group.path}" if group.path else "memory"
        limit, kept = group.limit_bytes, group.kept_bytes
        told = group.oom_kills is not None
        kills = course.grown(f"kills in {group.path}", group.oom_kills or 0) if told else 0
        if kills > 0:
            killed = True
            yield _oom(subject, "error", kills, f" at the limit of {size(limit)}" if limit else "")
        if limit and kept is not None and kept > MEMORY_NEAR * limit:
            yield Trouble(
                id="memory-limit",
                subject=subject,
                level="warning",
                text=f"{100 * kept / limit:.0f} % of the limit of {size(limit)} used",
                means="at the limit the kernel kills a process: exit code 137 or -9",
                do="Raise the limit, or use fewer DataLoader workers",
                check="cgroup-memory",
                source="job",
                end="no longer near the limit",
            )
    if first.host_oom_kills is not None and job.host_oom_kills is not None and not killed:
        kills = job.host_oom_kills - first.host_oom_kills
        if kills > 0:
            yield _oom("memory of this machine", "warning", kills, ", of whatever job")


def _oom(subject: str, level: str, kills: int, where: str) -> Trouble:
    return Trouble(
        id="memory-oom",
        subject=subject,
        level="error" if level == "error" else "warning",
        text=f"the kernel killed {count_of(kills, 'process', 'processes')}{where}",
        means="a rank that waits for a killed one hangs until NCCL times out",
        do="Raise the memory limit, or use fewer DataLoader workers",
        check="cgroup-memory",
        source="job",
        mark=str(kills.bit_length()),  # said again when it has doubled
    )


def _ended(course: Course, process: Process, job: Job) -> Iterator[Trouble]:
    if not process.ended:
        return
    others = sum(not other.ended for other in job.processes)
    words, bad = how_ended(process.status)
    waited = others > 0 and not _is_over(process, job)
    if not bad and not course.long(("ended", process.pid), waited):
        return  # ranks end one after the other
    left = f"{count_of(others, 'other')} still there"
    means = "the others wait for it until NCCL times out" if others else ""
    yield Trouble(
        id="rank-ended",
        subject=_name(process),
        level="error" if bad else "warning",
        text=f"{words}, {left}" if others else words,
        means=means,
        do="See its last lines: `gpudoctor triage LOG`",
        source="job",
        mark=words,
    )


def _is_over(process: Process, job: Job) -> bool:
    """Whether who started it, or all that it started, have ended, too: what is left is not its."""
    family = [p for p in job.processes if p.pid == process.parent or p.parent == process.pid]
    return bool(family) and all(p.ended for p in family)


def how_ended(status: int | None) -> tuple[str, bool]:
    """How a process ended, and whether that was bad, by its status as wait(2) tells it."""
    if status is None:
        return "ended, its exit code is not known", False
    number = status & 0x7F
    if not number:
        return f"ended with exit code {status >> 8}", status != 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = ", by somebody, or by the kernel for memory" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}", True


def _stopped(course: Course, process: Process) -> Iterator[Trouble]:
    stopped = course.holds(("stopped", process.pid), process.state in "Tt" and not process.ended)
    stuck = course.long(("stuck", process.pid), process.state == "D" and not process.ended)
    if process.state and stopped.looks >= FEW:
        yield Trouble(
            id="rank-stopped",
            subject=_name(process),
            level="warning",
            text=f"stopped (state {process.state}) for {lasting(stopped.seconds)}",
            means="the others wait for it until NCCL times out",
            do=f"Let it go on with `kill -CONT {process.pid}`, or detach the debugger",
            source="job",
            end="runs again",
        )
    if stuck:
        yield Trouble(
            id="rank-stuck",
            subject=_name(process),
            level="warning",
            text=f"waits in the kernel (state D) for {lasting(stuck.seconds)}",
            means="a disk, a network mount or the GPU's driver does not answer it",
            do=f"See where: `sudo cat /proc/{process.pid}/stack`",
            check="storage-mounts",
            source="job",
            end="goes on",
        )


def _idle(course: Course, job: Job) -> Iterator[Trouble]:
    last = course.last.job
    seconds = course.now.at - course.last.at
    if last is None or seconds <= 0:
        return
    before = {process.pid: process.cpu_seconds for process in last.processes}
    alive = [p for p in job.processes if not p.ended and p.pid in before]
    starters = {process.parent for process in alive}  # torchrun works for a moment, then waits
    busy = {
        _name(p): (p.cpu_seconds - before[p.pid]) / seconds for p in alive if p.pid not in starters
    }
    idle = course.idle(busy, WORKS, IDLE)
    working = sum(much >= WORKS for much in busy.values())
    # Where most do nothing they wait for those at work: to evaluate, or to save.
    for name, held in idle.items() if working >= len(idle) else ():
        yield Trouble(
            id="rank-idle",
            subject=name,
            level="warning",
            text=f"no CPU time for {lasting(held.seconds)}, {count_of(working, 'other')} at work",
            means="the others may be waiting for it",
            do=f"See what it does: `py-spy dump --pid {name.split()[1]}`",
            source="job",
            end="works again",
        )


def _name(process: Process) -> str:
    return f"process {process.pid} ({process.name})"
