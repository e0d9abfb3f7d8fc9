"""Faults of the lab that `gpudoctor diff` must name at once: what its first five lines say."""

import os
import subprocess
import sys
from pathlib import Path

LINES = 5  # of what is printed, in which the fault's fact must stand

IN_PODMAN = {
    "small /dev/shm": r"^ +shm: size 1 GiB -> 32 MiB$",
    "read-only /dev/shm": r"^ +shm: read only no -> yes$",
    "full /dev/shm": r"^ +shm: free .* -> 0 B$",
    "pids": r"^ +cgroup: pids limit \d+ -> 60$",
    "memory": r"^ +cgroup: memory limit unlimited -> 256 MiB$",
    "cpu": r"^ +cgroup: cpu quota unlimited -> 0.5$",
    "nofile": r"^ +limits: nofile soft \d+ -> 256$",
    "memlock": r"^ +limits: memlock soft .* -> 64 KiB$",
    "noexec /tmp": r"^ +storage\[.*/tmp.*\]: noexec no -> yes$",
    "unwritable HOME": r"^ +storage\[/sys/home.*\]: (path .* -> /sys/home|write error\s+none ->)",
    "uid without a name": r"^ +user: (uid 0 -> 4711|has passwd entry yes -> no)$",
    "interface that is not there": r"^ +environment: NCCL_SOCKET_IFNAME: unset -> eth9$",
    "misspelt variable": r"^ +environment: names none -> NCCL_DEBUGG$",
    "no capabilities": r"^ +privileges: capabilities 0x\w+ -> 0x0$",
}
ON_A_HOST = {
    "127.0.1.1 in /etc/hosts": r"^ +names: addresses 10.77.0.1 -> 127.0.1.1$",
    "no name": r"^ +names: addresses 10.77.0.1 -> none$",
    "firewall": r"^ +firewall: ",
    "small MTU": r"^ +network\[eth0\]: mtu 1500 -> 1280$",
    "strict rp_filter": r"^ +network settings: rp filter all \d -> 1$",
    "interface down": r"^ +network\[eth0\]: ",
    "few ports": r"^ +network settings: port high 60999 -> 32800$",
}
OF_GPUS = {
    "GPU lost": r"^ +gpus\[1\]: lost none -> NVML_ERROR_GPU_IS_LOST$",
    "GPU gone": r"^ +gpus\[1\]: gone$",
    "ECC errors": r"^ +gpus\[1\]: ecc uncorrected 0 -> 3$",
    "NVLink down": r"^ +gpus\[1\]: links\[3\] active yes -> no$",
    "thermal slowdown": r"^ +gpus\[1\]: throttle .*hw thermal",
    "power capped": r"^ +gpus\[1\]: power limit 700 W -> 350 W$",
    "no library": r"^ +(gpus|nvml): there -> not there: no NVIDIA GPU|^ +gpus: there -> not there",
}
OF_MOUNTS = {
    "small TMPDIR": r"^ +storage\[.*/tmp.*\]:\s+(size|free) .* -> 64 MiB$",
    "read-only working directory": r"^ +storage\[.*/job\]: write error none -> EROFS",
    "full working directory": r"^ +storage\[.*/job\]: (write error none -> ENOSPC|free .* -> 0 B)",
}
OF_THE_CLOCK = {"not synchronised": r"^ +clock: synchronised yes -> no$"}
FAULTS = {**IN_PODMAN, **ON_A_HOST, **OF_GPUS, **OF_MOUNTS, **OF_THE_CLOCK}


def first_lines(before: Path, after: Path) -> str:
    """What a terminal of 80 columns shows first."""
    command = [sys.executable, "-m", "gpudoctor", "diff", str(before), str(after)]
    env = {**os.environ, "COLUMNS": "80"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return "\n".join(ended.stdout.splitlines()[:LINES])
