"""GPUs: idle, slowed down, failing, gone."""

from collections.abc import Iterator
from typing import Literal

from gpudoctor.facts.gpus import Gpu
from gpudoctor.rules.throttling import is_laptop, slowed
from gpudoctor.units import count_of
from gpudoctor.watch.course import FEW, Course
from gpudoctor.watch.event import Trouble, lasting

WORKS, IDLE = 20, 1  # per cent; NVML samples up to the last second
HELD = 0.5  # of the memory that it had while it worked: less, and the job has ended
SILENT = "no answer"
RESET = "Drain the node and reset the GPU when the job has ended"


def troubles(course: Course) -> Iterator[Trouble]:
    """What is not well in the look of now."""
    now, first = course.now.gpus, course.first.gpus
    if now is None or first is None:
        return
    here = {_key(gpu): gpu for gpu in now}
    for before in first:
        gpu = here.get(_key(before))
        if gpu is None or gpu.lost:
            yield from _lost(course, before, gpu.lost if gpu else "it is not listed any more")
        else:
            course.holds(("silent", before.index), False)
            yield from _memory(before, gpu)
            yield from _heat(course, gpu)
    yield from _idle(course, [gpu for gpu in now if not gpu.lost])


def _key(gpu: Gpu) -> tuple[str, str, int]:
    return gpu.vendor, gpu.bus_id, 0 if gpu.bus_id else gpu.index


def _lost(course: Course, gpu: Gpu, why: str) -> Iterator[Trouble]:
    silent = why.startswith(SILENT)
    if silent and course.holds(("silent", gpu.index), True).looks < FEW:
        return  # a driver that is busy may be late
    yield _trouble(
        gpu,
        "gpu-lost",
        "error",
        f"does not answer: {why}",
        "the job on it dies or hangs, the others wait until NCCL times out",
        "Drain the node and reboot it; if it comes back, see cables, cooling and seating",
        "gpu-recovery",
        "answers again",
    )


def _memory(before: Gpu, gpu: Gpu) -> Iterator[Trouble]:
    errors = (gpu.ecc_uncorrected or 0) - (before.ecc_uncorrected or 0)
    if before.ecc_uncorrected is not None and errors > 0:
        yield _trouble(
            gpu,
            "gpu-ecc",
            "error",
            f"{count_of(errors, 'uncorrected memory error')} since the start",
            'a kernel that meets one ends with "uncorrectable ECC error encountered"',
            RESET,
            "gpu-ecc",
            mark=str(errors.bit_length()),  # said again when it has doubled
        )
    if gpu.remap_failed and not before.remap_failed:
        text = "replacing a bad memory row failed"
        what = "the bad memory stays in use"
        do = "Drain the node, run the vendor's diagnostics, and have the GPU replaced"
        yield _trouble(gpu, "gpu-remap-failed", "error", text, what, do, "gpu-remap", mark="1")
    pending = gpu.remap_pending or gpu.pages_pending
    if pending and not (before.remap_pending or before.pages_pending):
        text = "bad memory waits to be replaced at the next reset"
        what = "until then the job may meet it again"
        yield _trouble(gpu, "gpu-remap", "warning", text, what, RESET, "gpu-remap", mark="1")
    action = gpu.recovery_action or "none"
    if action != "none" and action != (before.recovery_action or "none"):
        text, level = f"the driver asks for: {action}", _level(action != "drain p2p")
        what = "what runs on it may hang or fail"
        yield _trouble(gpu, "gpu-recovery", level, text, what, RESET, "gpu-recovery", "no more")


def _heat(course: Course, gpu: Gpu) -> Iterator[Trouble]:
    braked, heated = slowed(gpu)
    working = "idle" not in (gpu.throttle or ())  # some report a slowdown whenever they rest
    held = course.holds(("slowed", gpu.index), bool(braked or heated) and working)
    hot = gpu.temperature_c is not None and gpu.temperature_slowdown_c is not None
    over = hot and (gpu.temperature_c or 0) >= (gpu.temperature_slowdown_c or 0)
    too_hot = course.holds(("hot", gpu.index), over)
    text = "Have cooling, fans, inlet temperature and power feed looked at"
    if held.looks >= FEW:
        words = f"slowed down for {lasting(held.seconds)}: {', '.join([*braked, *heated])}"
        what = "every step waits for the slowest GPU"
        level = _level(bool(braked) and not is_laptop(gpu))
        end = "at full speed again"
        yield _trouble(gpu, "gpu-throttle", level, words, what, text, "gpu-throttle", end)
    if too_hot.looks >= FEW:
        words = f"{gpu.temperature_c} °C, it slows down at {gpu.temperature_slowdown_c} °C"
        what = "it lowers its clocks, and switches itself off if it gets hotter"
        end = "cooler again"
        yield _trouble(gpu, "gpu-temperature", "warning", words, what, text, "gpu-temperature", end)


def _idle(course: Course, gpus: list[Gpu]) -> Iterator[Trouble]:
    known = {f"GPU {gpu.index}": gpu for gpu in gpus if gpu.busy_percent is not None}
    busy = {name: float(gpu.busy_percent or 0) for name, gpu in known.items()}
    idle = course.idle(busy, WORKS, IDLE)
    working = sum(much >= WORKS for much in busy.values())
    for name, gpu in known.items():
        if busy[name] >= WORKS:
            course.most(f"memory of {name}", gpu.memory_used_bytes or 0)
    if idle and not working:
        if len(idle) < len(course.worked & set(known)):
            return
        if not any(_holds_memory(course, name, known[name]) for name in idle):
            return  # the job has ended
        waited = lasting(min(held.seconds for held in idle.values()))
        yield Trouble(
            id="gpu-stall",
            subject="all GPUs",
            level="warning",
            text=f"{count_of(len(idle), 'GPU')} idle for {waited}, their memory still taken",
            means="the job waits: for data, a checkpoint, a rank that died, or another node",
            do="See the log's last lines: `gpudoctor triage LOG`",
            check="storage-mounts",
            source="gpus",
            end="at work again",
        )
        return
    if len(idle) > working:
        return  # most wait for those that work: to evaluate, or to save
    for name, held in idle.items():
        if not _holds_memory(course, name, known[name]):
            continue  # another job, which has ended
        yield Trouble(
            id="gpu-idle",
            subject=name,
            level="warning",
            text=f"idle for {lasting(held.seconds)} while {count_of(working, 'other')} work"
            + ("s" if working == 1 else ""),
            means="if it is of the same job: its rank hangs or died, and the others wait for it",
            do="See the rank's last lines and `py-spy dump --pid PID`",
            check="gpu-kernel-log",
            source="gpus",
            end="at work again",
        )


def _holds_memory(course: Course, name: str, gpu: Gpu) -> bool:
    most = course.marks.get(f"memory of {name}", 0)
    return (gpu.memory_used_bytes or 0) > 0 and (gpu.memory_used_bytes or 0) >= HELD * most


def _level(bad: bool) -> Literal["error", "warning"]:
    return "error" if bad else "warning"


def _trouble(
    gpu: Gpu,
    id: str,
    level: Literal["error", "warning"],
    text: str,
    means: str,
    do: str,
    check: str,
    end: str = "over",
    mark: str = "",
) -> Trouble:
    return Trouble(
        id=id,
        subject=f"GPU {gpu.index}",
        level=level,
        text=text,
        means=means,
        do=do,
        check=check,
        source="gpus",
        mark=mark,
        end=end,
    )
