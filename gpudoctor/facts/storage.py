"""Directories that a job writes to, and file systems that may hang."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Place(Struct, frozen=True, kw_only=True):
    """A directory with a part to play in the job.

    When it does not exist, everything but `path` is said of the nearest parent that does.
    """

    role: str  # "working directory", "temporary files", "cache", "home", "checkpoints", "root"
    path: str
    named_by: str = ""  # the variable that names it: "TMPDIR", "HF_HOME"
    moved_by: str = ""  # the variable that would put it elsewhere
    builds: bool = False  # shared objects are built and loaded here
    exists: bool = True
    total_bytes: int | None = None  # None: not known, or without a limit
    free_bytes: int | None = None
    inodes: int | None = None  # None: the file system has no fixed number
    inodes_free: int | None = None
    filesystem: str = ""
    mount: str = ""
    noexec: bool = False
    write_error: str = ""  # "EROFS: Read-only file system"; empty: a file could be made


class Storage(Fact, frozen=True, kw_only=True):
    """Every place, looked at by really making a file there and taking it away.

    Only the root is not written to. Of the places for temporary files those are here that
    Python tries, in its order, up to the first that it can use.
    """

    places: tuple[Place, ...] = ()


class NetworkMount(Struct, frozen=True, kw_only=True):
    """A mount that needs another machine, or a process (FUSE), to answer."""

    target: str
    filesystem: str
    source: str  # without credentials
    answered: bool
    seconds: float
    error: str = ""


class NetworkMounts(Fact, frozen=True, kw_only=True):
    """Every network mount, asked for its size; one of each file system."""

    mounts: tuple[NetworkMount, ...] = ()
