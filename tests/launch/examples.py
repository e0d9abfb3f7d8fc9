"""One of every setting, and what the tests do with a spelling."""

import subprocess
from collections.abc import Sequence

from gpudoctor.launch import LAUNCHERS, Spelling, spell
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    NProc,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)

MIB, GIB = 1 << 20, 1 << 30

HOSTILE = """it's "a, b": $HOME %h #1 \\n $(id)"""

EVERY: dict[str, Setting] = {
    "shm": ShmSize(8 * GIB),
    "ipc host": IpcHost(),
    "memlock unlimited": Memlock(),
    "memlock": Memlock(32 * GIB),
    "nofile": NoFile(131072),
    "nofile unlimited": NoFile(),
    "nproc unlimited": NProc(),
    "nproc": NProc(4096),
    "pids unlimited": Pids(),
    "pids": Pids(4096),
    "memory": Memory(64 * GIB),
    "memory unlimited": Memory(),
    "stack": Stack(64 * MIB),
    "cpus": Cpus(8),
    "all gpus": GpuDevices(),
    "gpus": GpuDevices(count=2),
    "amd gpus": GpuDevices("amd", groups=(44, 109)),
    "amd gpus, groups unknown": GpuDevices("amd", count=4),
    "rdma": RdmaDevices(),
    "host network": HostNetwork(),
    "capability": Capability("SYS_NICE"),
    "IPC_LOCK": Capability("IPC_LOCK"),
    "group": Group(109),
    "env": EnvSet("NCCL_SOCKET_IFNAME", "eth0"),
    "env, hostile": EnvSet("TEXT", HOSTILE),
    "env unset": EnvUnset("NCCL_P2P_DISABLE"),
    "tmpfs": Mount("/tmp", executable=True, tmpfs_bytes=4 * GIB),
    "drop": Drop("groups", "render"),
    "plain tmpfs": Mount("/my cache"),
    "bind": Mount("/data", "/srv/my data"),
    "bind read-only": Mount("/data", "/srv/data", read_only=True),
}

# What may be asked for together, though some launcher has to say each differently.
TOGETHER = [s for name, s in EVERY.items() if name not in ("ipc host", "memory unlimited")]

PAIRS = [(launcher, name) for launcher in LAUNCHERS for name in EVERY]


def spelled(launcher: str, *settings: Setting) -> Spelling:
    return spell(settings, launcher)


def words(lines: Sequence[str]) -> list[str]:
    """The words of the last command in these lines, as bash reads them."""
    script = """
        say() { printf '%s\\0' "$@"; }
        for name in docker podman apptainer srun sudo; do
            eval "$name() { say $name \\"\\$@\\"; }"
        done
        stat() { echo 44; }
        id() { echo 1000; }
    """
    text = subprocess.run(
        ["bash", "-ec", "\n".join([script, *lines])], capture_output=True, text=True, check=True
    )
    return text.stdout.removesuffix("\0").split("\0")
