"""The kernel's lines about GPUs -> what they report: Xid, SXid, amdgpu, errors of the bus."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from gpudoctor.data import table

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


def events_of(lines: Iterable[str]) -> list[Event]:
    """What the lines report, but for what a reset has mended since."""
    found: list[Event] = []
    for line in lines:
        event = event_of(line)
        if event is None or (re.search(FALLEN, line) and event in found):
            continue  # the driver says it twice
        if event.what == f"Xid {RECOVERY}" and re.search(r"to 0x0 \(", line):
            found = [earlier for earlier in found if earlier.bus != event.bus]
        found.append(event)
    return found


def event_of(line: str) -> Event | None:
    if match := re.search(XID, line):
        code, bus = int(match["code"]), slot(match["bus"])
        rest = match["rest"] or ""
        return _recovery(bus, rest) if code == RECOVERY else _xid(bus, code, rest)
    if match := re.search(SXID, line):
        kind = match["kind"].lower()
        severity = "fail" if kind == "fatal" else "info"
        what, meaning = f"SXid {int(match['code'])}", f"{kind} error of an NVSwitch"
        return Event(severity, what, meaning, RESET_ALL, slot(match["bus"]), "NVSwitch")
    if match := re.search(FALLEN, line):
        return _xid(slot(match["bus"]), OFF_THE_BUS)
    for pattern, severity, what, action in SPOKEN:
        if re.search(pattern, line):
            buses = re.findall(BUS, line)
            return Event(severity, what, "", action, slot(buses[-1]) if buses else "")
    return None


def _xid(bus: str, code: int, rest: str = "") -> Event:
    row = next((row for row in table("xid")["codes"] if row["code"] == code), None)
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


def slot(bus: str) -> str:
    """Domain, bus and device as the kernel writes them, without the function."""
    domain, _, rest = bus.lower().partition(".")[0].partition(":")
    return f"{int(domain, 16):04x}:{rest}" if rest else ""
