"""What the kernel's log says of the GPUs since the machine was started."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from gpudoctor import Finding, Fix, Gpus, KernelLog, check, count_of, data, fail, ok, skip, warn
from gpudoctor.rules.per_gpu import NO_GPU

BUS = r"(?P<bus>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)"
XID = rf"(?i)NVRM: Xid \((?:PCI:)?{BUS}\): (?P<code>\d+)(?:, (?P<rest>.*))?"
SXID = rf"(?i)SXid \(PCI:{BUS}\): (?P<code>\d+), (?P<kind>Fatal|Non-fatal)"
FALLEN = rf"(?i)NVRM: GPU (?:at (?:PCI:)?)?{BUS}.* has fallen off the bus"
ACTION = r"(?i)to 0x(?P<number>[0-9a-f]+) \((?P<name>[^)]*)\)"
OFF_THE_BUS, RECOVERY, NVLINK_5 = 79, 154, range(144, 151)  # Xids
RESET = "drain the node and reset the GPU; ask the vendor if it comes back"
RESEAT = "check power, cooling, riser and seating of the GPU"
RESET_ALL = "restart the fabric manager and reset all GPUs; ask the vendor if it comes back"

# Without numbers: what is said, how bad that is, what it means, what to do.
SPOKEN = [
    (r"\b[1-9]\d* (new )?uncorrectable hardware errors", "fail", "uncorrected errors", RESET),
    (r"GPU reset.*(failed|end with ret = -)|GPU recovery failed", "fail", "reset failed", RESET),
    (r"[Ff]atal error during GPU init", "fail", "the driver could not start the GPU", RESET),
    (r"GPU reset begin", "warn", "the driver reset the GPU", RESET),
    (r"ring \S+ timeout(?!.*soft recovered)", "warn", "a queue hung", RESET),
    (r"PCI rejects atomics", "warn", "ROCm left a GPU out", "use a slot with PCIe atomics"),
    (r"NVRM: .*RmInitAdapter failed", "warn", "the driver could not start the GPU", RESEAT),
    (r"AER: .*Uncorrect\w+ \(Fatal\)", "fail", "fatal PCIe error", RESEAT),
    (r"AER: .*Uncorrect\w+ \(Non-Fatal\)", "warn", "uncorrected PCIe error", RESEAT),
]


class Event(NamedTuple):
    """Something that the kernel reported, and what is known of its kind."""

    severity: str
    what: str
    meaning: str
    action: str
    bus: str = ""
    part: str = "GPU"


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
    indices = {_slot(gpu.bus_id): gpu.index for gpu in gpus.devices} if gpus else {}
    counts = Counter(_placed(event, set(indices)) for event in _events(kernel_log.lines))
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


def _events(lines: Iterable[str]) -> list[Event]:
    """What the lines report, but for what a reset has mended since."""
    found: list[Event] = []
    for line in lines:
        event = _event(line)
        if event is None or (re.search(FALLEN, line) and event in found):
            continue  # the driver says it twice
        if event.what == f"Xid {RECOVERY}" and re.search(r"to 0x0 \(", line):
            found = [earlier for earlier in found if earlier.bus != event.bus]
        found.append(event)
    return found


def _event(line: str) -> Event | None:
    if match := re.search(XID, line):
        code, bus = int(match["code"]), _slot(match["bus"])
        rest = match["rest"] or ""
        return _recovery(bus, rest) if code == RECOVERY else _xid(bus, code, rest)
    if match := re.search(SXID, line):
        kind = match["kind"].lower()
        severity = "fail" if kind == "fatal" else "info"
        what, meaning = f"SXid {int(match['code'])}", f"{kind} error of an NVSwitch"
        return Event(severity, what, meaning, RESET_ALL, _slot(match["bus"]), "NVSwitch")
    if match := re.search(FALLEN, line):
        return _xid(_slot(match["bus"]), OFF_THE_BUS)
    for pattern, severity, what, action in SPOKEN:
        if re.search(pattern, line):
            buses = re.findall(BUS, line)
            return Event(severity, what, "", action, _slot(buses[-1]) if buses else "")
    return None


def _xid(bus: str, code: int, rest: str = "") -> Event:
    row = next((row for row in data.table("xid")["codes"] if row["code"] == code), None)
    if row is None:
        return Event("info", f"Xid {code}", "not known", "look it up in NVIDIA's catalogue", bus)
    # Those of NVLink 5 say themselves how bad it is: "NETIR_LINK_EVT Fatal XC0 i0 Link 08".
    fatal = code in NVLINK_5 and re.search(r"\bFatal\b", rest)
    severity = "fail" if fatal else row["severity"]
    return Event(severity, f"Xid {code}", row["meaning"], row["action"], bus)


def _recovery(bus: str, rest: str) -> Event:
    """Xid 154 says itself what must be done."""
    action = re.search(ACTION, rest)
    name = action["name"] if action else "not told"
    severity = "warn" if name.lower() == "drain p2p" else "fail"
    if not action or int(action["number"], 16) == 0:
        severity = "info"
    meaning = f"the driver asks for: {name}"
    return Event(severity, f"Xid {RECOVERY}", meaning, f"drain the node; {name}", bus)


def _placed(event: Event, here: set[str]) -> Event:
    """On a shared node, what befell a GPU that is not among ours is no reason to fail.

    But one that fell off the bus is no longer listed, and may have been ours.
    """
    elsewhere = here and event.part == "GPU" and event.bus and event.bus not in here
    if elsewhere and event.severity == "fail" and event.what != f"Xid {OFF_THE_BUS}":
        return event._replace(severity="warn")
    return event


def _slot(bus: str) -> str:
    """Domain, bus and device as the kernel writes them, without the function."""
    domain, _, rest = bus.lower().partition(".")[0].partition(":")
    return f"{int(domain, 16):04x}:{rest}" if rest else ""


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
