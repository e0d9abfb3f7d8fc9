"""What the kernel's log says of the GPUs since the machine was started."""

from collections import Counter

from gpudoctor import Finding, Fix, Gpus, KernelLog, check, count_of, fail, ok, skip, warn
from gpudoctor.rules.gpu_log import OFF_THE_BUS, Event, events_of, slot
from gpudoctor.rules.per_gpu import NO_GPU


@check(
    owner="node",
    symptoms=[
        r"NVRM: Xid",
        r"SXid \(PCI",
        r"GPU has fallen off the bus",
        r"amdgpu.*(GPU reset|ring \S+ timeout)",
        r"uncorrectable hardware errors detected",
        r"PCI rejects atomics",
    ],
)
def gpu_kernel_log(kernel_log: KernelLog, gpus: Gpus | None) -> Finding:
    """The kernel has reported no GPU fault since the machine was started.

    The driver writes each fault of a GPU to the kernel's log, "NVRM: Xid ...: 79, GPU has
    fallen off the bus", and the job that meets it sees only a CUDA error or a hang in NCCL.
    What happened once since the start tends to happen again.
    """
    indices = {slot(gpu.bus_id): gpu.index for gpu in gpus.devices} if gpus else {}
    counts = Counter(_placed(event, set(indices)) for event in events_of(kernel_log.lines))
    order = ("fail", "warn", "info").index
    events = sorted(counts, key=lambda event: order(event.severity))
    evidence = [_line(event, counts[event], indices) for event in events]
    if not events or events[0].severity == "info":
        if not indices:
            return skip(NO_GPU)
        harmless = f"; {count_of(sum(counts.values()), 'harmless line')}" if counts else ""
        return ok(f"no fault in {kernel_log.source}{harmless}", evidence[:10])
    bad = [event for event in events if event.severity == events[0].severity]
    times = f", {counts[bad[0]]} times" if counts[bad[0]] > 1 else ""
    more = f"; and {count_of(len(bad) - 1, 'more', 'more')}" if bad[1:] else ""
    summary = f"{_where(bad[0], indices)}: {bad[0].what}{times}{more}"
    say = fail if bad[0].severity == "fail" else warn
    return say(summary, _fix(bad), evidence=evidence[:20], basis="vendor")


def _placed(event: Event, here: set[str]) -> Event:
    """On a shared node, what befell a GPU that is not among ours is no reason to fail.

    But one that fell off the bus is no longer listed, and may have been ours.
    """
    elsewhere = here and event.part == "GPU" and event.bus and event.bus not in here
    if elsewhere and event.severity == "fail" and event.what != f"Xid {OFF_THE_BUS}":
        return event._replace(severity="warn")
    return event


def _where(event: Event, indices: dict[str, int]) -> str:
    index = indices.get(event.bus)
    if index is not None:
        return f"GPU {index}"
    return f"{event.part} {event.bus}" if event.bus else f"a {event.part}"


def _line(event: Event, count: int, indices: dict[str, int]) -> str:
    place = f" ({event.bus})" if event.bus in indices else ""
    meaning = f", {event.meaning}" if event.meaning else ""
    times = f", {count} times" if count > 1 else ""
    return f"{_where(event, indices)}{place}: {event.what}{meaning}{times}"


def _fix(bad: list[Event]) -> Fix:
    text = "; ".join(dict.fromkeys(event.action for event in bad[:3]))
    text = text.replace(" (nvidia-smi --gpu-reset -i INDEX, as root)", "")
    lost = any(event.what == f"Xid {OFF_THE_BUS}" for event in bad)
    resets = [
        f"sudo nvidia-smi --gpu-reset -i {event.bus}.0"
        for event in bad
        if event.bus and event.what.startswith("Xid ")
    ]
    show = "sudo dmesg --ctime | grep -E 'NVRM|SXid|amdgpu|AER'"
    commands = dict.fromkeys([show, *(["sudo reboot"] if lost else resets)])
    return Fix(text=text[:1].upper() + text[1:], commands=commands, needs_root=True)
