"""The job's processes, the memory that they may use, and their /dev/shm."""

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator

from gpudoctor.probes import Machine
from gpudoctor.probes.cgroup import memory_of
from gpudoctor.probes.shm import PATH
from gpudoctor.watch.look import Group, Job, Process, Space

# linux/pidfd.h of 6.15: how a process ended, told to whoever has it open. _IOWR(0xFF, 11, 64).
PIDFD_GET_INFO, PIDFD_INFO_EXIT, _INFO = 0xC040FF0B, 1 << 3, 64
MOST_GROUPS = 16  # cgroups of processes: containers of one job
MOST_ENDED = 256  # processes that are remembered
ASKED_ANEW = 6  # looks, after which all are asked again: a script may have become the job
# These have a job's files on their command lines, and are no part of it.
READERS = {*("vi", "vim", "nvim", "nano", "emacs", "less", "more", "tail", "head", "cat")}
READERS |= {*("grep", "egrep", "rg", "tee", "watch", "ssh", "scp", "rsync", "git")}
# What Python's multiprocessing starts afresh, such as data loaders that are not forked.
_SPAWNED = re.compile(r"\bmultiprocessing[. ](spawn|forkserver|resource_tracker)\b")


class _Watched:
    """A process, kept apart from a later one of the same number."""

    def __init__(self, pid: int, name: str, parent: int, started: str) -> None:
        self.pid, self.name, self.parent, self.started = pid, name, parent, started
        self.ended = False
        self.status: int | None = None
        self.cpu_seconds = 0.0
        try:
            self.open = os.pidfd_open(pid)
        except (OSError, AttributeError):  # Linux before 5.3, or a Python built for such
            self.open = -1


class JobSource:
    """The processes of a job: named ones, and those whose command line matches a pattern."""

    def __init__(self, machine: Machine, pids: Iterable[int] = (), match: str = "") -> None:
        self._machine = machine
        self._pattern, self._match = match, re.compile(match) if match else None
        self._watched: dict[int, _Watched] = {}
        self._passed: dict[str, int] = {}  # in how many looks a command line did not match
        self._looks = 0
        self._groups: dict[str, str] = {}
        self._named: dict[int, str] = {}  # /dev/shm by device, as it was called first
        self._second = os.sysconf("SC_CLK_TCK")
        self._own = set(self._ancestors())
        for pid in pids:
            self._add(str(pid))

    def __call__(self) -> Job:
        if self._match:
            self._find()
        processes = tuple(self._process(watched) for watched in self._watched.values())
        alive = [str(process.pid) for process in processes if not process.ended]
        counts = self._machine.text("/proc/vmstat") or ""
        kills = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
        return Job(
            shm=self._shm(alive),
            memory=self._memory(alive),
            processes=processes,
            host_oom_kills=int(kills[1]) if kills else None,
        )

    def _find(self) -> None:
        found = {name for name in self._machine.list("/proc") if name.isdigit()}
        self._looks += 1
        again = self._looks % ASKED_ANEW == 0
        self._passed = {p: n for p, n in self._passed.items() if p in found and not again}
        passed = {pid for pid, looks in self._passed.items() if looks > 2}
        for pid in sorted(found - passed - self._own, key=int):
            if (known := self._watched.get(int(pid))) and not known.ended:
                continue
            line = self._line(pid)
            if self._match and self._match.search(line) and not self._is_part(pid, line):
                self._add(pid)
            else:  # one that has just been forked becomes another command in a moment
                self._passed[pid] = self._passed.get(pid, 0) + 1

    def _ancestors(self) -> Iterator[str]:
        """Ourselves, and who started us: their command lines hold the pattern, too."""
        pid = str(os.getpid())
        while pid not in ("0", ""):
            yield pid
            _, fields = self._stat(pid)
            pid = fields[1] if len(fields) > 1 else ""

    def _line(self, pid: str) -> str:
        return (self._machine.text(f"/proc/{pid}/cmdline") or "").replace("\0", " ")

    def _is_part(self, pid: str, line: str) -> bool:
        """Whether it is one of our own, or reads the job's files, or is a data loader."""
        _, fields = self._stat(pid)
        parent = fields[1] if len(fields) > 1 else ""
        program = os.path.basename(line.partition(" ")[0])
        return (
            parent == str(os.getppid())
            or program in READERS
            or ("spawn" not in self._pattern and bool(_SPAWNED.search(line)))
            or self._line(parent) == line
        )

    def _add(self, pid: str) -> None:
        name, fields = self._stat(pid)
        known = self._watched.get(int(pid))
        if not fields or fields[0] in "ZX" or (known and known.started == fields[19]):
            return
        rank = re.search(r"(?:^|\0)RANK=(\d+)\0", self._machine.text(f"/proc/{pid}/environ") or "")
        name = f"{name}, rank {rank[1]}" if rank else name
        self._watched[int(pid)] = _Watched(int(pid), name, int(fields[1]), fields[19])
        ended = [number for number, watched in self._watched.items() if watched.ended]
        for number in ended[:-MOST_ENDED]:
            del self._watched[number]

    def _stat(self, pid: str) -> tuple[str, list[str]]:
        head, _, rest = (self._machine.text(f"/proc/{pid}/stat") or "").rpartition(")")
        return head.partition("(")[2], rest.split()

    def _process(self, watched: _Watched) -> Process:
        state = ""
        if not watched.ended:
            _, fields = self._stat(str(watched.pid))
            state = fields[0] if fields and fields[19] == watched.started else ""
            watched.ended = state in ("", "Z", "X")
            if state:
                watched.cpu_seconds = (int(fields[11]) + int(fields[12])) / self._second
            if watched.ended:
                watched.status = _status(watched.open)
                if watched.status is None and state == "Z" and len(fields) > 49:
                    # Only for those who may trace it: 0 says nothing then.
                    watched.status = int(fields[49]) or None
                if watched.open >= 0:
                    os.close(watched.open)
        return Process(
            pid=watched.pid,
            name=watched.name,
            parent=watched.parent,
            state=state,
            cpu_seconds=watched.cpu_seconds,
            ended=watched.ended,
            status=watched.status,
        )

    def _shm(self, alive: list[str]) -> tuple[Space, ...]:
        """Ours, and those of the processes' containers."""
        found: dict[int, Space] = {}
        places = {PATH: "/"}
        places |= {f"/proc/{pid}/root{PATH}": f"/proc/{pid}/root/" for pid in alive[:MOST_GROUPS]}
        for path, root in places.items():
            with contextlib.suppress(OSError):
                device, space = os.stat(path).st_dev, os.statvfs(path)
                if device == os.stat(root).st_dev:
                    continue  # a mere directory: how full the disk is says nothing
                name = PATH if path == PATH else f"{PATH} of {path.split('/')[2]}"
                name = self._named.setdefault(device, name)
                total, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
                found.setdefault(device, Space(path=name, total_bytes=total, free_bytes=free))
        self._named = {device: space.path for device, space in found.items()}
        return tuple(found.values())

    def _memory(self, alive: list[str]) -> tuple[Group, ...]:
        for pid in ("self", *alive):
            if len(self._groups) < MOST_GROUPS and (
                text := self._machine.text(f"/proc/{pid}/cgroup")
            ):
                self._groups.setdefault(text, "" if pid == "self" else f"process {pid}")
        # Also those of processes that have ended: who was killed is counted there.
        return tuple(self._group(text, name) for text, name in self._groups.items())

    def _group(self, text: str, name: str) -> Group:
        told = {}
        with contextlib.suppress(OSError):
            told = memory_of(self._machine, text)
        used = told.get("memory_used_bytes")
        kept = None if used is None else used - (told.get("memory_reclaimable_bytes") or 0)
        return Group(
            path=name,
            limit_bytes=told.get("memory_limit_bytes"),
            kept_bytes=kept,
            oom_kills=told.get("oom_kills"),
        )


def _status(descriptor: int) -> int | None:
    """How the process behind a pidfd ended, where the kernel tells it."""
    info = bytearray(_INFO)
    struct.pack_into("=Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, PIDFD_GET_INFO, info)
    except (OSError, ValueError):
        return None
    told = struct.unpack_from("=Q", info)[0] & PIDFD_INFO_EXIT
    return int(struct.unpack_from("=i", info, _INFO - 4)[0]) if told else None
