"""The vocabulary of settings: what a fix asks for, before any launcher spells it."""

from typing import Any

from msgspec import Struct


def _tag(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Setting(Struct, frozen=True, tag_field="setting", tag=_tag):
    """One thing that a launcher, or the host itself, must be told.

    Two settings with the same `key` are about the same thing and are merged into
    the one that satisfies both.
    """

    @property
    def key(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def merge(self, other: Any) -> "Setting":
        """The setting that satisfies both; by default they agree already."""
        return self


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


class ShmSize(Setting, frozen=True):
    """The size of /dev/shm."""

    bytes: int

    def merge(self, other: "ShmSize") -> "ShmSize":
        return ShmSize(max(self.bytes, other.bytes))


class IpcHost(Setting, frozen=True):
    """Use the host's /dev/shm and System V IPC: makes every ShmSize pointless."""


class _Limit(Setting, frozen=True):
    value: int | None = None  # None: unlimited

    def merge(self, other: "_Limit") -> "_Limit":
        return type(self)(_larger(self.value, other.value))


class Memlock(_Limit, frozen=True):
    """Locked memory, RLIMIT_MEMLOCK, in bytes."""


class NoFile(_Limit, frozen=True):
    """Open files, RLIMIT_NOFILE, soft and hard."""


class NProc(_Limit, frozen=True):
    """Processes and threads of one user, RLIMIT_NPROC."""


class Pids(_Limit, frozen=True):
    """Processes and threads of the whole container or job: the pids cgroup."""


class Memory(_Limit, frozen=True):
    """Memory of the whole container or job in bytes: the memory cgroup."""


class Stack(Setting, frozen=True):
    """Stack of a thread, RLIMIT_STACK, soft, in bytes; never unlimited (NCCL < 2.28)."""

    bytes: int

    def merge(self, other: "Stack") -> "Stack":
        return Stack(max(self.bytes, other.bytes))


class Cpus(Setting, frozen=True):
    """CPUs that the whole container or job may use."""

    count: int

    def merge(self, other: "Cpus") -> "Cpus":
        return Cpus(max(self.count, other.count))


class GpuDevices(Setting, frozen=True):
    """GPUs passed in; `count` None is all. Group ids are those of AMD's device nodes."""

    vendor: str = "nvidia"
    count: int | None = None
    groups: tuple[int, ...] = ()

    def merge(self, other: "GpuDevices") -> "GpuDevices":
        groups = tuple(sorted({*self.groups, *other.groups}))
        return GpuDevices(self.vendor, _larger(self.count, other.count), groups)

    @property
    def key(self) -> tuple[str, ...]:
        return ("GpuDevices", self.vendor)


class RdmaDevices(Setting, frozen=True):
    """InfiniBand and RoCE device nodes passed in."""


class HostNetwork(Setting, frozen=True):
    """The host's own network namespace."""


class _Named(Setting, frozen=True):
    name: str

    @property
    def key(self) -> tuple[str, ...]:
        return (type(self).__name__, self.name)


class Capability(_Named, frozen=True):
    """A Linux capability, without the CAP_: IPC_LOCK, SYS_NICE."""


class Group(Setting, frozen=True):
    """A supplementary group, by number: names of the host mean nothing in an image."""

    gid: int

    @property
    def key(self) -> tuple[str, ...]:
        return ("Group", str(self.gid))


class EnvSet(_Named, frozen=True):
    """An environment variable with a value."""

    value: str

    @property
    def key(self) -> tuple[str, ...]:
        return ("Env", self.name)


class EnvUnset(_Named, frozen=True):
    """An environment variable that must go."""

    @property
    def key(self) -> tuple[str, ...]:
        return ("Env", self.name)

    def merge(self, other: Setting) -> Setting:
        return other  # a value asked for by another finding stands over "not this one"


class Mount(Setting, frozen=True):
    """A directory of the host, or a tmpfs of `tmpfs_bytes` when there is no source."""

    target: str
    source: str = ""
    read_only: bool = False
    executable: bool = False
    tmpfs_bytes: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return ("Mount", self.target)

    def merge(self, other: "Mount") -> "Mount":
        return Mount(
            self.target,
            self.source or other.source,
            self.read_only and other.read_only,
            self.executable or other.executable,
            _larger(self.tmpfs_bytes or 0, other.tmpfs_bytes or 0) or None,
        )


class Drop(Setting, frozen=True):
    """Something that a launch file says and must not say.

    Attributes:
        field: of gpudoctor.facts.launch: "ports", "groups", "unknown".
        value: which of several, as the file has it: "29500:29500"; empty: all of them.
    """

    field: str
    value: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return ("Drop", self.field, self.value)


AnySetting = (
    ShmSize
    | IpcHost
    | Memlock
    | NoFile
    | NProc
    | Pids
    | Memory
    | Stack
    | Cpus
    | GpuDevices
    | RdmaDevices
    | HostNetwork
    | Capability
    | Group
    | EnvSet
    | EnvUnset
    | Mount
    | Drop
)
"""Every setting there is; the launchers must spell all of them."""
