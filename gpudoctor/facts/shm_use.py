"""What live processes hold of /dev/shm."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class ShmProcess(Struct, frozen=True, kw_only=True):
    """One process that was measured.

    `held_bytes` are its files in /dev/shm, mapped or open; what several processes hold counts
    for each of them, and once in every sum.
    """

    pid: int
    rank: int  # the process whose worker it is; its own number: it is a rank, or a launcher
    role: str  # "rank", "worker" or "launcher"
    command: str  # "python train.py": program and script, no arguments
    rss_shmem_bytes: int | None = None  # RssShmem; includes shared memory that is no /dev/shm
    held_bytes: int = 0
    family_bytes: int = 0  # of a rank with its workers, each file once; 0 for a worker
    files: int = 0
    unseen: str = ""  # why its files could not be seen: "EACCES: Permission denied"


class ShmHeld(Struct, frozen=True, kw_only=True):
    """A file in /dev/shm."""

    name: str
    bytes: int
    deleted: bool = False  # it has no name any more and goes with its last holder
    pids: tuple[int, ...] = ()  # of those measured; empty: none of them holds it


class ShmPlace(Struct, frozen=True, kw_only=True):
    """One /dev/shm: the machine's, or that of a container."""

    path: str  # from here: "/dev/shm", "/proc/4711/root/dev/shm"
    total_bytes: int
    used_bytes: int
    held_bytes: int  # by the processes measured
    largest: tuple[ShmHeld, ...] = ()  # of what they hold
    others: tuple[ShmHeld, ...] = ()  # the largest files with a name that they do not hold

    @property
    def unaccounted_bytes(self) -> int:
        """Used, but by none of the processes measured."""
        return max(0, self.used_bytes - self.held_bytes)


class ShmUse(Fact, frozen=True, kw_only=True):
    """Processes, and what they hold together: each file once."""

    processes: tuple[ShmProcess, ...] = ()
    places: tuple[ShmPlace, ...] = ()
    held_bytes: int = 0
    remarks: tuple[str, ...] = ()  # what could not be seen, and what is only estimated

    @property
    def ranks(self) -> tuple[ShmProcess, ...]:
        """Those that train; their workers and what started them left out."""
        return tuple(process for process in self.processes if process.role == "rank")

    @property
    def counted(self) -> tuple[ShmProcess, ...]:
        """Ranks but for those that hold nothing where others do: a pattern fits editors, too."""
        holding = tuple(rank for rank in self.ranks if rank.family_bytes or rank.unseen)
        return holding if self.held_bytes else self.ranks
