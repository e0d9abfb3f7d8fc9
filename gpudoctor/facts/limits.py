"""Resource limits of this process, which the job inherits."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Limit(Struct, frozen=True):
    """One rlimit; None is unlimited."""

    soft: int | None
    hard: int | None


class Limits(Fact, frozen=True, kw_only=True):
    """getrlimit(2); bytes, files, or processes. None: not known before the job runs."""

    memlock: Limit | None = None
    stack: Limit | None = None
    nofile: Limit | None = None
    nproc: Limit | None = None
    address_space: Limit | None = None


class Processes(Fact, frozen=True, kw_only=True):
    """How many processes and threads this user has, which RLIMIT_NPROC counts."""

    own_threads: int
    all_threads: int
    threads_max: int | None = None  # kernel.threads-max
    pid_max: int | None = None  # kernel.pid_max
    files_used: int | None = None  # fs.file-nr
    files_max: int | None = None
