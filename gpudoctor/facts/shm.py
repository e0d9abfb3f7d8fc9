"""/dev/shm: how large it is, whether it takes data, and what lies in it."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Shm(Fact, frozen=True, kw_only=True):
    """The file system at /dev/shm, by statvfs and mountinfo."""

    exists: bool = True
    total_bytes: int = 0
    free_bytes: int = 0
    filesystem: str = ""  # "tmpfs"; anything else: a plain directory
    read_only: bool = False
    noexec: bool = False


class ShmWrite(Fact, frozen=True, kw_only=True):
    """An allocation in /dev/shm, written and read back."""

    tried_bytes: int
    error: str = ""  # "ENOSPC: No space left on device"; empty: it worked


class ShmFile(Struct, frozen=True, kw_only=True):
    """A file in /dev/shm. `owner` tells whether some process still has it."""

    name: str
    bytes: int
    age_seconds: int
    uid: int
    owner: str  # "alive", "dead" or "unknown"


class ShmFiles(Fact, frozen=True, kw_only=True):
    """What lies in /dev/shm, the largest first, at most 1000 files of `count`."""

    files: tuple[ShmFile, ...] = ()
    count: int = 0
