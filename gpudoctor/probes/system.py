"""Look at kernel, memory and CPUs."""

import os
import re
import shlex

from gpudoctor.facts.system import System
from gpudoctor.probes import Machine, probe


@probe()
def system(machine: Machine) -> System:
    """The machine in general."""
    name = os.uname()
    memory = parse_meminfo(machine.text("/proc/meminfo") or "")
    swap_total, swap_free = memory.get("SwapTotal"), memory.get("SwapFree")
    uptime = (machine.text("/proc/uptime") or "").partition(".")[0]
    return System(
        hostname=name.nodename if machine.live else machine.text("/etc/hostname") or name.nodename,
        kernel=name.release,
        architecture=name.machine,
        distribution=_distribution(machine.text("/etc/os-release") or ""),
        memory_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        swap_used_bytes=None if swap_total is None or swap_free is None else swap_total - swap_free,
        cpus=os.cpu_count() or 1,
        cpus_usable=len(os.sched_getaffinity(0)) if machine.live else os.cpu_count() or 1,
        uptime_seconds=int(uptime) if uptime.isdigit() else None,
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name from /proc/meminfo."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(count) << 10 for name, count in found}


def _distribution(os_release: str) -> str:
    match = re.search(r"^PRETTY_NAME=(.*)$", os_release, re.MULTILINE)
    words = shlex.split(match[1]) if match else []
    return words[0] if words else ""
