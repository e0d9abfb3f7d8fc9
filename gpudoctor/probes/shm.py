"""Look at /dev/shm."""

import contextlib
import errno
import os
import time

from gpudoctor.facts.shm import Shm, ShmFile, ShmFiles, ShmWrite
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.probes.cgroup import cgroup
from gpudoctor.probes.mounts import mount_at
from gpudoctor.snapshot import Absent

PATH = "/dev/shm"
TRY_BYTES = 4 << 20  # enough to meet every refusal but a full file system, in 2 ms
MOST_FILES = 1000


@probe()
def shm(machine: Machine) -> Shm:
    """Size and mount options of /dev/shm."""
    try:
        found = os.statvfs(machine.path(PATH))
    except FileNotFoundError:
        return Shm(exists=False)
    mount = mount_at(machine, PATH)
    return Shm(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        filesystem=mount.filesystem if mount else "",
        read_only=bool(found.f_flag & os.ST_RDONLY),
        noexec=bool(found.f_flag & os.ST_NOEXEC),
    )


@probe(isolated=True, timeout=3.0)
def shm_write(machine: Machine) -> ShmWrite | Absent:
    """Allocate in /dev/shm, write, read back, remove."""
    if not machine.live:
        return Absent("nothing is written under --root")
    try:
        found = os.statvfs(PATH)
    except FileNotFoundError:
        return Absent("there is no /dev/shm")
    # Never so much that the probe itself is killed for memory, or starves a running job.
    room = [TRY_BYTES, found.f_bavail * found.f_frsize // 2]
    with contextlib.suppress(OSError):
        limits = cgroup(machine)
        if not isinstance(limits, Absent) and (free := limits.memory_free_bytes) is not None:
            room.append(free // 4)
    tried = max(4096, min(room))
    try:
        _write_and_read(tried)
    except OSError as error:
        return ShmWrite(tried_bytes=tried, error=error_words(error))
    return ShmWrite(tried_bytes=tried)


def _write_and_read(count: int) -> None:
    path = f"{PATH}/gpudoctor-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.unlink(path)  # gone by name at once: nothing stays if we are killed
        os.posix_fallocate(descriptor, 0, count)
        mark = os.urandom(16)
        for offset in (0, count - len(mark)):
            os.pwrite(descriptor, mark, offset)
            if os.pread(descriptor, len(mark), offset) != mark:
                raise OSError(errno.EIO, "what was written is not what was read")
    finally:
        os.close(descriptor)


@probe(isolated=True, timeout=3.0)
def shm_files(machine: Machine) -> ShmFiles | Absent:
    """What lies in /dev/shm and who still has it."""
    if not machine.exists(PATH):
        return Absent("there is no /dev/shm")
    found: list[tuple[str, os.stat_result]] = []
    with os.scandir(machine.path(PATH)) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
    found.sort(key=lambda item: -item[1].st_blocks)
    held, complete = _held(machine) if found else (set(), True)
    now = time.time()
    return ShmFiles(
        count=len(found),
        files=tuple(
            ShmFile(
                name=name,
                bytes=stat.st_blocks * 512,
                age_seconds=max(0, int(now - stat.st_mtime)),
                uid=stat.st_uid,
                owner="alive" if name in held else "dead" if complete else "unknown",
            )
            for name, stat in found[:MOST_FILES]
        ),
    )


def _held(machine: Machine) -> tuple[set[str], bool]:
    """Names in /dev/shm that some process has mapped or open, and whether all could be seen.

    They cannot where processes of others are not readable, or where /dev/shm is shared with
    processes outside our pid namespace (`--ipc=host`): then nobody may be called dead.
    """
    held: set[str] = set()
    complete = machine.live and not _shared_beyond_pid_namespace(machine)
    for pid in machine.list("/proc"):
        if not pid.isdigit():
            continue
        try:
            maps = machine.read(f"/proc/{pid}/maps")
            links = [
                f"/proc/{pid}/fd/{name}" for name in os.listdir(machine.path(f"/proc/{pid}/fd"))
            ]
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
        except OSError:
            complete = False
            continue
        paths = [line.partition("/dev/shm/")[2] for line in maps.splitlines() if PATH in line]
        for link in links:
            with contextlib.suppress(OSError):
                paths.append(os.readlink(machine.path(link)).partition("/dev/shm/")[2])
        held.update(path.removesuffix(" (deleted)") for path in paths if path)
    return held, complete


def _shared_beyond_pid_namespace(machine: Machine) -> bool:
    pid_namespace = machine.link("/proc/self/ns/pid")
    ipc_namespace = machine.link("/proc/self/ns/ipc")
    own_pids = pid_namespace != "pid:[4026531836]"
    host_ipc = ipc_namespace == "ipc:[4026531839]"
    return own_pids and host_ipc
