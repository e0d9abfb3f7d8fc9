"""The system clock, as the kernel keeps it: not namespaced, so true in containers too."""

from gpudoctor.snapshot import Fact


class Clock(Fact, frozen=True, kw_only=True):
    """adjtimex(2) with no change asked for, and the time itself."""

    state: int  # 0 TIME_OK ... 5 TIME_ERROR
    status: int  # STA_* bits; 0x40 STA_UNSYNC
    max_error_seconds: float
    estimated_error_seconds: float
    now: float  # seconds since 1970, UTC
    rtc_offset_seconds: float | None = None  # system clock minus hardware clock
    daemons: tuple[str, ...] = ()  # chronyd, ...: seen running, host only
    clocksource: str = ""  # tsc, kvm-clock, hpet, ...
    clocksources: tuple[str, ...] = ()  # that the kernel would take instead

    @property
    def synchronised(self) -> bool:
        """Whether something keeps it in step and tells the kernel."""
        return self.state != 5 and not self.status & 0x40
