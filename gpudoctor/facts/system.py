"""The kernel, memory and CPUs of the machine, whatever a container shows of them."""

from gpudoctor.snapshot import Fact


class System(Fact, frozen=True, kw_only=True):
    """uname, /proc/meminfo, /proc/cpuinfo, sched_getaffinity, /etc/os-release."""

    hostname: str
    kernel: str
    architecture: str
    distribution: str = ""  # PRETTY_NAME
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    cpus: int = 1  # online
    cpus_usable: int = 1  # affinity of this process
    uptime_seconds: int | None = None
