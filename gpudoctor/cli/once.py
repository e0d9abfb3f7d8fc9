"""One verdict for all ranks of a node, and for restarts.

It is kept in a directory that nobody else can write to, under a name made of everything that it
depends on: the boot, the container, the command, its environment and its limits. A lock lets one
process look while the others wait for what it says.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

import gpudoctor

# The first that is set wins: the innermost launcher knows best.
_LOCAL_RANK = (
    "LOCAL_RANK",  # torchrun
    "OMPI_COMM_WORLD_LOCAL_RANK",  # Open MPI
    "MPI_LOCALRANKID",  # Intel MPI, MPICH
    "MV2_COMM_WORLD_LOCAL_RANK",  # MVAPICH2
    "SLURM_LOCALID",
)
# Variables in which the ranks of a node, or a job and its restart, differ.
_OF_ONE_RANK = re.compile(r"RANK|PROCID|LOCALID|TASK_PID|PMI|RESTART|ERROR_FILE|MASTER_PORT|^_$")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Verdict(Struct, frozen=True):
    """What came of looking.

    Attributes:
        code: with which exit code that blocks the command; 0: it does not.
        clean: nothing was found, so that it may be taken for a while.
        when: seconds since the boot.
    """

    code: int
    clean: bool = False
    when: float = 0.0


def now() -> float:
    """Seconds since the boot: the same for every process in this container."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def local_rank(env: Mapping[str, str]) -> int | None:
    """Which process of the job on this node we are; None if no launcher says."""
    for name in _LOCAL_RANK:
        if env.get(name, "").isdigit():
            return int(env[name])
    return None


def shared(
    look: Callable[[], Verdict],
    words: Sequence[str],
    *,
    since: float,
    reuse: float,
    until: float,
    stopped: Callable[[], bool],
) -> tuple[Verdict, bool]:
    """The verdict, and whether another process came to it.

    Args:
        look: how to come to one.
        words: our own arguments and the command's.
        since: another's verdict counts if it is younger than this moment.
        reuse: a clean one also counts if it has no more than so many seconds.
        until: when to stop waiting for another.
        stopped: asked now and then; True ends the waiting.

    Raises:
        TimeoutError: another process is still looking.
    """
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(_kept(_name(words)))
        except OSError:  # no place that is safe: then everybody looks
            return look(), False
        while not _lock(file):
            if time.monotonic() > until:
                raise TimeoutError("another rank of this node has not finished checking")
            if stopped():
                return Verdict(0), False
            time.sleep(0.02)
        opened.callback(fcntl.flock, file, fcntl.LOCK_UN)  # a child left behind would keep it
        known = _read(file)
        if known and (since < known.when or (known.clean and now() - known.when <= reuse)):
            return known, True
        verdict = msgspec.structs.replace(look(), when=now())
        if not stopped():
            with contextlib.suppress(OSError):  # a full disk; it is only a note
                os.ftruncate(file, 0)
                os.pwrite(file, msgspec.json.encode(verdict), 0)
        return verdict, False


@contextlib.contextmanager
def _kept(name: str) -> Iterator[int]:
    """The file of a verdict, open.

    Raises:
        OSError: there is no directory that is ours alone.
    """
    folder = os.open(_folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(folder)
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
            raise PermissionError("others could have written there")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        yield file
    finally:
        os.close(file)


def _folder() -> str:
    """A directory of this user's, made if need be; whether it is safe is asked of it open."""
    places = (os.environ.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR"))
    above = next((p for p in places if os.path.isabs(p) and os.path.isdir(p)), "/tmp")
    folder = os.path.join(above, f"gpudoctor-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    return folder


def _name(words: Sequence[str]) -> str:
    """A name that changes with everything that a verdict depends on and that costs no looking."""
    variables = {k: v for k, v in os.environ.items() if not _OF_ONE_RANK.search(k)}
    container = [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES]
    first = _text("/proc/1/stat").rpartition(")")[2].split()[19:20]  # when process 1 started
    boot, limits = _text("/proc/sys/kernel/random/boot_id"), _text("/proc/self/limits")
    job = (tuple(words), sorted(variables.items()), limits, os.getcwd())
    whole = (gpudoctor.__version__, boot, container, first, job)
    return hashlib.sha256(repr(whole).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> Verdict | None:
    try:
        return msgspec.json.decode(os.pread(file, 4096, 0), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None
