"""Look at the clock."""

import os
import struct
import time

from gpudoctor.facts.clock import Clock
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

_TIMEX = struct.Struct("@I4li")  # modes, offset, freq, maxerror, esterror, status: as in timex.h
_TIMEX_ROOM = 512  # bytes; the whole structure takes 208
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0"
# What each daemon has in /run while it runs. A container has a /run of its own.
_DAEMONS = (
    ("chronyd", "chrony/chronyd.pid"),
    ("chronyd", "chronyd.pid"),
    ("systemd-timesyncd", "systemd/timesync"),
    ("ntpd", "ntpd.pid"),
    ("ptp4l", "ptp4l"),
)


@probe(isolated=True)  # ctypes takes 5 ms to import, and a seccomp filter may kill
def clock(machine: Machine) -> Clock | Absent:
    """What the kernel says of its clock."""
    try:
        state, status, max_error, estimated_error = _adjtimex()
    except OSError as error:
        return Absent(f"the kernel does not tell of its clock: adjtimex: {error}", broken=True)
    now = time.time()
    hardware = machine.number("/sys/class/rtc/rtc0/since_epoch")
    current = machine.text(f"{_CLOCKSOURCE}/current_clocksource") or ""
    available = (machine.text(f"{_CLOCKSOURCE}/available_clocksource") or "").split()
    return Clock(
        state=state,
        status=status,
        max_error_seconds=max_error / 1e6,
        estimated_error_seconds=estimated_error / 1e6,
        now=now,
        rtc_offset_seconds=None if hardware is None else round(now - hardware, 3),
        daemons=daemons(machine),
        clocksource=current,
        clocksources=tuple(name for name in available if name != current),
    )


def daemons(machine: Machine) -> tuple[str, ...]:
    """Programs that keep the clock, by what they leave in /run."""
    found = [name for name, path in _DAEMONS if machine.exists(f"/run/{path}")]
    found += ["phc2sys" for name in machine.list("/run") if name.startswith("phc2sys.")]
    return tuple(dict.fromkeys(found))


def _adjtimex() -> tuple[int, int, int, int]:
    """State, status, and maximum and estimated error in microseconds.

    Raises:
        OSError: the system call is not there, or not allowed.
    """
    import ctypes

    room = ctypes.create_string_buffer(_TIMEX_ROOM)  # all zero: modes 0 changes nothing
    state = ctypes.CDLL(None, use_errno=True).adjtimex(room)
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _, _, _, max_error, estimated_error, status = _TIMEX.unpack_from(room)
    return state, status, max_error, estimated_error
