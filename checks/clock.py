"""The clock: in step with other nodes, and showing the right year."""

import datetime

from gpudoctor import Clock, Finding, Fix, Workload, check, fail, ok, skip, warn
from gpudoctor.rules.timekeeping import keep_time

LARGE_ERROR = (
    1.0  # seconds; torchrun's elastic agents drop each other at 15 s, logs mix far earlier
)
DAY = 86400  # seconds; a hardware clock in local time is off by less
OLDEST = 1704067200  # 2024-01-01: before gpudoctor was written, and before today's certificates
NEWEST = 4102444800  # 2100-01-01
LAST = 253402300799.0  # 9999-12-31, the last day that datetime knows
SLOW = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")  # read in about 1 us, tsc in 20 ns
PRECISE = ("ptp4l", "phc2sys")  # keep the clock within microseconds, but do not tell the kernel

EXPIRED = [
    r"certificate is not yet valid",
    r"certificate has expired",
    r"RequestTimeTooSkewed",
    r"Release file .* is not valid yet",
]


@check(
    owner="node",
    symptoms=[r"Rewound credential", r"Expired credential", r"Clock skew too great", *EXPIRED],
)
def clock_sync(clock: Clock, workload: Workload) -> Finding:
    """The clock is kept in step with that of other machines.

    Nodes that disagree on the time drop each other from torchrun's elastic rendezvous, which
    compares heartbeats by wall clock, and Slurm's munge refuses credentials ("Rewound
    credential"). Which node failed first can no longer be read off the logs.
    """
    error = f"{clock.max_error_seconds:.3g} s"
    if clock.synchronised and clock.max_error_seconds <= LARGE_ERROR:
        return ok(f"synchronised, off by at most {error}")
    if workload.nodes == 1:
        return skip("not synchronised, which one node can do without; --nnodes 2 makes it count")
    if not clock.synchronised and any(name in PRECISE for name in clock.daemons):
        return ok(f"kept by {' and '.join(clock.daemons)}; the kernel is not told")
    if clock.synchronised:
        summary = f"synchronised, but off by up to {error}"
    else:
        summary = f"not synchronised, and {workload.nodes} nodes must agree on the time"
    evidence = [
        f"adjtimex: state {clock.state}, status {clock.status:#06x}, error up to {error}",
        f"seen running: {', '.join(clock.daemons) or 'no daemon (in a container none can be)'}",
        "chronyd without `rtcsync`, and PTP, keep a clock without telling the kernel",
    ]
    return warn(summary, keep_time(clock.daemons), evidence=evidence, basis="rule-of-thumb")


@check(owner="node", symptoms=EXPIRED)
def clock_sane(clock: Clock) -> Finding:
    """The clock shows a plausible time and is quick to read.

    With a wrong date every TLS connection fails ("certificate is not yet valid"), and so do
    tokens and object storage. A slow clock source costs a microsecond for each of the
    millions of times that a training loop and its profiler read the clock.
    """
    date = _date(clock.now)
    if not OLDEST <= clock.now <= NEWEST:
        return fail(f"it says {date}", keep_time(clock.daemons), basis="measured")
    hardware = None if clock.rtc_offset_seconds is None else clock.now - clock.rtc_offset_seconds
    # An empty battery sets the hardware clock to its first day: that tells nothing.
    if hardware is not None and hardware >= OLDEST and not clock.synchronised:
        days = abs(clock.now - hardware) / DAY
        if days > 1:
            summary = f"it says {date}, the hardware clock {_date(hardware)}"
            evidence = [f"{days:.1f} days apart, and nothing keeps the system clock in step"]
            return fail(summary, keep_time(clock.daemons), evidence=evidence, basis="measured")
    if clock.clocksource in SLOW:
        summary = f"the clock source is {clock.clocksource}, which is slow to read"
        return warn(summary, _quicker(clock), basis="rule-of-thumb")
    return ok(f"{date} UTC" + (f", read from {clock.clocksource}" if clock.clocksource else ""))


def _quicker(clock: Clock) -> Fix:
    quick = [name for name in clock.clocksources if name not in SLOW]
    if not quick:
        text = "See why the kernel gave up the tsc: often the firmware, or a virtual machine's type"
        return Fix(text=text, commands=["sudo dmesg | grep -iE 'tsc|clocksource'"], needs_root=True)
    file = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    return Fix(
        text=f"Take the clock source {quick[0]}",
        commands=[f"echo {quick[0]} | sudo tee {file}"],
        needs_root=True,
    )


def _date(seconds: float) -> str:
    within = min(max(seconds, 0.0), LAST)
    return f"{datetime.datetime.fromtimestamp(within, datetime.timezone.utc):%Y-%m-%d}"
