"""Who said a line, and when: what launchers, loggers, kernels and collectors put before it."""

import re
from typing import Any

from msgspec import Struct

_ISO = (
    r"(?P<iso>\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d:\d\d(?:[.,:]\d+)?)(?P<zone>Z| ?[+-]\d\d:?\d\d)?"
)
_MONTH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_HOST = r"[A-Za-z\d][\w.-]*"

# Each stands at the beginning of what those before it have left of a line.
_PREFIX = re.compile(
    "|".join(
        (
            rf"\[?{_ISO}\]?(?: std(?:out|err) [FP])?(?: - |:? ?)",
            # c10's and torchrun's: [E1121 10:22:33.123 ProcessGroupNCCL.cpp:616]
            r"\[?[IWEF](?P<day>\d{4}) (?P<clock>\d\d:\d\d:\d\d)\.\d+ +(?:\d+ )?[\w./-]+:\d+\] ?",
            r"\[[IWEF] [\w./-]+:\d+\] ?",
            # [rank3]: of PyTorch, [default3]: of torchrun, [Rank 3] of c10d
            r"\[(?:rank|default|trainer|worker)?:? ?(?P<rank>\d+)\](?::\|?|(?= ?\S)) ?",
            r"\[Rank (?P<rank2>\d+)\]:? ?",
            r"\[PG [^\]]*Rank (?P<rank3>\d+)\] ?",
            r"\[[^\]<>]*,(?P<rank4>\d+)\]<\w+>: ?",  # [1,3]<stderr>: of mpirun
            r" *(?P<rank5>\d{1,5}): (?=\S)",  # srun --label
            r"\[NeMo [IWE] (?P<nemo>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) [^\]]*\] ?",
            r"\[(?:DEBUG|INFO|WARNING|ERROR)\] ?(?:\[[\w./-]+:\d+(?::\w+)?\] ?)?",
            # NCCL and RCCL: host:pid:tid [cudaDev]
            rf"(?!\d\d:\d\d:\d\d )(?P<host>{_HOST}):(?P<pid>\d+):\d+ (?:\[(?P<gpu>\d+)\] )?"
            r"(?=.*NCCL )",
            r"(?P<service>[A-Za-z][\w.-]*-\d+) +\| ",  # docker compose
            r"\((?P<actor>\w+) pid=(?P<pid2>\d+)(?:, ip=(?P<host2>[\d.]+))?\) ?",  # Ray
            r"\[ *(?P<boot>\d+\.\d{6})\](?:\[ *[TC]\d+\])? ?",  # dmesg
            rf"\[?(?:[A-Z][a-z]{{2}} )?(?P<month>{_MONTH}) +(?P<date>\d{{1,2}})"
            r" (?P<clock2>\d\d:\d\d:\d\d)(?:\.\d+)?(?: \d{4})?\]? ",
            r"(?:<\d{1,3}>|(?:kern|daemon|user) *:\w+ *: )",  # dmesg -r, dmesg -x
            # syslog and journal
            rf"(?P<host3>{_HOST}) (?P<unit>kernel|[a-z][\w./@-]*\[\d+\]): ",
            r"(?P<host4>[a-z][a-z.-]*\d[a-z\d.-]*): (?=\[|[\w.-]+:\d+:\d+ )",  # pdsh
        )
    )
)
_MOST = 8  # prefixes of one line
_DAYS = (0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335)  # before a month of a leap year


class Origin(Struct, frozen=True, kw_only=True):
    """What a line tells of its own origin, and the rest of it.

    Attributes:
        clock: the kind of clock that `when` is of: "local", "utc", "boot"; empty: no time.
        when: seconds since New Year, of no certain year, or since the boot.
    """

    text: str
    rank: int | None = None
    host: str = ""
    pid: int | None = None
    gpu: int | None = None
    time: str = ""
    clock: str = ""
    when: float = 0.0


def origin(line: str) -> Origin:
    """What stands before the words of a line, read and taken off."""
    known: dict[str, Any] = {}
    at = 0
    for _ in range(_MOST):
        match = _PREFIX.match(line, at)
        if match is None or match.end() == at:
            break
        for name, value in match.groupdict().items():
            if value is not None:
                known.setdefault(name.rstrip("2345"), value)
        at = match.end()
    host = known.get("host", "")
    return Origin(
        text=line[at:],
        rank=_number(known.get("rank")),
        host="" if host == "localhost" else host,
        pid=_number(known.get("pid")),
        gpu=_number(known.get("gpu")),
        **_time(known),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) < 10 else None


def _time(known: dict[str, str]) -> dict[str, Any]:
    """The first time that stands in a line."""
    for name in ("iso", "nemo"):
        if text := known.get(name):
            zone = known.get("zone", "")
            when = _seconds(int(text[5:7]), int(text[8:10]), text[11:19]) - _offset(zone)
            return {"time": text[:19], "clock": "utc" if zone else "local", "when": when}
    if "day" in known:
        month, date = int(known["day"][:2]), int(known["day"][2:])
        text = f"{known['day'][:2]}-{known['day'][2:]} {known['clock']}"
    elif "month" in known:
        month, date = _MONTH.split("|").index(known["month"]) + 1, int(known["date"])
        text = f"{known['month']} {known['date']} {known['clock']}"
    elif "boot" in known:
        when = float(known["boot"])
        return {"time": f"{when:.0f} s after boot", "clock": "boot", "when": when}
    else:
        return {}
    return {"time": text, "clock": "local", "when": _seconds(month, date, known["clock"])}


def _seconds(month: int, date: int, clock: str) -> float:
    """Since New Year: not all times have a year."""
    days = _DAYS[min(max(month, 1), 12) - 1] + date
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _offset(zone: str) -> float:
    digits = zone.strip().lstrip("+-").replace(":", "")
    if not digits.isdigit():
        return 0.0
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone.strip().startswith("-") else seconds
