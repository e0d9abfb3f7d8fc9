"""What one look brings: plain data. None: that source had nothing to tell this time."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.facts.gpus import Gpu


class Space(Struct, frozen=True, kw_only=True):
    """A file system."""

    path: str
    total_bytes: int
    free_bytes: int
    inodes: int = 0
    inodes_free: int = 0


class Group(Struct, frozen=True, kw_only=True):
    """A memory cgroup; of `path` "" is our own, else that of a process we watch."""

    path: str = ""
    limit_bytes: int | None = None
    kept_bytes: int | None = None  # without page cache, which the kernel can take back
    oom_kills: int | None = None


class Process(Struct, frozen=True, kw_only=True):
    """A process of the job."""

    pid: int
    name: str
    parent: int = 0  # who started it
    state: str = ""  # as in /proc/PID/stat: "R", "D", ...; "Z" has ended
    cpu_seconds: float = 0.0
    ended: bool = False
    status: int | None = None  # as wait(2) would tell; None: not known


class Job(Struct, frozen=True, kw_only=True):
    """The job's processes, and what they share."""

    shm: tuple[Space, ...] = ()
    memory: tuple[Group, ...] = ()
    processes: tuple[Process, ...] = ()
    host_oom_kills: int | None = None  # on this machine, whoever it was


class Link(Struct, frozen=True, kw_only=True):
    """A network interface that the job could use, and its counters."""

    name: str
    running: bool
    wireless: bool = False
    packets: int = 0
    errors: int = 0
    dropped: int = 0
    carrier_changes: int = 0


class Port(Struct, frozen=True, kw_only=True):
    """A port of an RDMA device."""

    name: str  # "mlx5_0:1"
    state: str
    counters: Mapping[str, int] = {}


class Told(Struct, frozen=True, kw_only=True):
    """Something that lines of a log told, and the way out."""

    log: str
    id: str
    role: str  # that of a rule of `triage`, or "remark"
    means: str
    do: str = ""
    check: str = ""
    rank: int | None = None


class Logs(Struct, frozen=True, kw_only=True):
    """What the new lines of logs tell.

    Attributes:
        unread: logs that cannot be read, and why.
    """

    told: tuple[Told, ...] = ()
    unread: Mapping[str, str] = {}


class Look(Struct, frozen=True, kw_only=True):
    """Everything seen at one time.

    Attributes:
        at: seconds since the boot, in which a step of the clock is not seen.
        clock: seconds since 1970, as the machine's clock says.
        gaps: sources that should have told something, and why they did not.
    """

    at: float
    clock: float
    job: Job | None = None
    gpus: tuple[Gpu, ...] | None = None
    network: tuple[Link, ...] | None = None
    rdma: tuple[Port, ...] | None = None
    places: tuple[Space, ...] | None = None
    kernel: tuple[str, ...] | None = None
    logs: Logs | None = None
    gaps: Mapping[str, str] = {}
