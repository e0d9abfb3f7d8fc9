"""What live processes hold of /dev/shm: mapped or open, with a name or without.

A file is told by its device and inode, so it counts once however many hold it; its pages are
the blocks that stat gives. What torch has unlinked already is reached through the descriptor of
a process, what NCCL has unlinked and closed through its mapping. With torch's other strategy a
batch that waits in a queue is held by nobody: its name says which worker made it.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from gpudoctor.facts.shm_use import ShmHeld, ShmPlace, ShmProcess, ShmUse
from gpudoctor.probes import Machine, Probe, error_words, probe
from gpudoctor.snapshot import Absent
from gpudoctor.units import count_of

PATH = "/dev/shm"
BLOCK = 512  # bytes of st_blocks
LARGEST = 10  # files that are named
TIMEOUT = 8.0  # seconds; maps of a process in trouble may not come at all
_OF_TORCH = re.compile(r"torch_(\d+)_")
# No link to a file, or one in a place that /dev/shm never is.
_ELSEWHERE = re.compile(r"(?!/)|/(proc|sys)/|/dev/(?!shm/)|/memfd:")

Inode = tuple[int, int]  # device, inode


class Told(Struct, frozen=True):
    """A process as /proc names it: its parent and its command line."""

    parent: int
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return " ".join(self.words)


class Family(Struct, frozen=True):
    """A process, whose it is, and what it does in the job."""

    pid: int
    rank: int
    role: str


def holders(words: Sequence[str]) -> Probe[ShmUse | Absent]:
    """The probe of these processes: numbers, or patterns of command lines.

    Workers, which are children of a process that is meant, belong to it. We ourselves and what
    started us are never meant by a pattern.

    Raises:
        re.error: a word is no pattern.
    """
    named = {int(word) for word in words if word.isdigit()}
    patterns = [re.compile(word) for word in words if not word.isdigit()]
    own = os.getpid()

    def shm_use(machine: Machine) -> ShmUse | Absent:
        if not machine.live:
            return Absent("nothing runs under --root")
        told = dict(_told(machine))
        known = named & told.keys()
        spared = _ancestors(own, told) | {own, *_descendants({own}, told)}
        found = {
            pid
            for pid in told.keys() - spared
            if any(pattern.search(told[pid].line) for pattern in patterns)
        }
        if not known | found:
            return Absent(f"no process is {' or '.join(words)}")
        gone = tuple(f"there is no process {pid}" for pid in sorted(named - known))
        return _measured(machine, families(known, found, told), told, gone)

    return probe(isolated=True, timeout=TIMEOUT)(shm_use)


def families(named: set[int], found: set[int], told: Mapping[int, Told]) -> list[Family]:
    """Whose worker each process is.

    Args:
        named: by number: each is a rank.
        found: by a pattern, which also fits what starts the ranks and the workers that they fork.
        told: all processes.
    """
    meant = named | found
    above = {pid: _nearest(told[pid].parent, meant, told) for pid in meant}
    workers = {
        pid for pid in found - named if above[pid] and told[above[pid]].words == told[pid].words
    }
    starters = {above[pid] for pid in meant - workers} - workers - named
    heads = {pid: "launcher" if pid in starters else "rank" for pid in meant - workers}
    everybody = meant | _descendants(meant, told)
    found_families = []
    for pid in sorted(everybody):
        if pid in heads:
            found_families.append(Family(pid, pid, heads[pid]))
        elif rank := _nearest(told[pid].parent, set(heads), told):
            found_families.append(Family(pid, rank, "worker"))
    return found_families


def _told(machine: Machine) -> Iterator[tuple[int, Told]]:
    for name in machine.list("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):  # gone meanwhile
            parent = int(machine.read(f"/proc/{name}/stat").rpartition(")")[2].split()[1])
            words = machine.read(f"/proc/{name}/cmdline").rstrip("\0").split("\0")
            yield int(name), Told(parent, tuple(words))


def _ancestors(pid: int, told: Mapping[int, Told]) -> set[int]:
    found: set[int] = set()
    while pid in told and told[pid].parent not in found:
        pid = told[pid].parent
        found.add(pid)
    return found


def _descendants(pids: set[int], told: Mapping[int, Told]) -> set[int]:
    found: set[int] = set()
    more = pids
    while more := {pid for pid, each in told.items() if each.parent in more} - found:
        found |= more
    return found


def _nearest(pid: int, among: set[int], told: Mapping[int, Told]) -> int:
    """The process itself or the nearest above it that is among some; 0: none."""
    while pid not in among:
        if pid not in told or pid == told[pid].parent:
            return 0
        pid = told[pid].parent
    return pid


def called(words: Sequence[str]) -> str:
    """Program and script or module of a command line; what else it says may be private."""
    program, *rest = map(os.path.basename, words)
    for word, after in zip(rest, [*rest[1:], ""], strict=False):
        if word.endswith((".py", ".sh")):
            return f"{program} {word}"
        if word in ("-c", "-m"):
            return f"{program} {word} {after if word == '-m' else ''}".rstrip()
    return program


class _Files:
    """The files in every /dev/shm that was met, their bytes, and who has them."""

    def __init__(self) -> None:
        self.places: dict[int, str] = {}  # by device: a path to it from here
        self.bytes: dict[Inode, int] = {}
        self.names: dict[Inode, str] = {}
        self.pids: dict[Inode, set[int]] = {}
        self.ranges: dict[Inode, tuple[int, str]] = {}  # a mapping through which to ask
        self.numbers: dict[tuple[int, int], int] = {}  # device, pid as its container has it: pid
        self.guessed = 0

    def take(self, pid: int, inode: Inode, name: str) -> None:
        self.pids.setdefault(inode, set()).add(pid)
        self.names.setdefault(inode, name)

    def sum(self, inodes: Iterable[Inode]) -> int:
        return sum(self.bytes.get(inode, 0) for inode in inodes)


def _measured(
    machine: Machine, members: list[Family], told: Mapping[int, Told], remarks: tuple[str, ...]
) -> ShmUse:
    files, unseen = _Files(), {}
    for each in members:
        try:
            _look_into(machine, each.pid, files)
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
        except OSError as error:
            unseen[each.pid] = error_words(error)
    others = {device: _by_name(path, device, files) for device, path in files.places.items()}
    _ask_mappings(machine, files)
    held: dict[int, set[Inode]] = {each.pid: set() for each in members}
    of_family: dict[int, set[Inode]] = {each.rank: set() for each in members}
    rank_of = {each.pid: each.rank for each in members}
    for inode, pids in files.pids.items():
        for pid in pids:
            held[pid].add(inode)
            of_family[rank_of[pid]].add(inode)
    processes = []
    for each in members:
        status = machine.text(f"/proc/{each.pid}/status")
        if status is None:
            continue
        processes.append(
            ShmProcess(
                pid=each.pid,
                rank=each.rank,
                role=each.role,
                command=called(told[each.pid].words),
                rss_shmem_bytes=rss_shmem(status),
                held_bytes=files.sum(held[each.pid]),
                family_bytes=files.sum(of_family.get(each.pid, ())),
                files=len(held[each.pid]),
                unseen=unseen.get(each.pid, ""),
            )
        )
    places = tuple(
        place
        for device, path in files.places.items()
        if (place := _place(device, path, files, others[device]))
    )
    return ShmUse(
        processes=tuple(processes),
        places=places,
        held_bytes=sum(place.held_bytes for place in places),
        remarks=(*remarks, *_remarks(files, unseen, len(processes))),
    )


def _look_into(machine: Machine, pid: int, files: _Files) -> None:
    """Note what a process has mapped or open.

    Raises:
        OSError: we may not.
    """
    here = machine.path(f"/proc/{pid}/root{PATH}")
    found = os.stat(here)
    device = found.st_dev
    own_tmpfs = device != os.stat(machine.path(f"/proc/{pid}/root/")).st_dev
    is_ours = os.path.exists(PATH) and os.stat(PATH).st_dev == device
    files.places.setdefault(device, PATH if is_ours else here)
    status = machine.read(f"/proc/{pid}/status")
    files.numbers[device, pid_inside(status) or pid] = pid
    # Paths of another mount namespace read as they like: only the device tells.
    near = machine.link(f"/proc/{pid}/ns/mnt") == machine.link("/proc/self/ns/mnt")
    with open(machine.path(f"/proc/{pid}/maps"), "rb") as file:
        maps = file.read()
    for start_end, number, name in mappings_of(maps, device):
        if own_tmpfs or name.startswith(f"{PATH}/"):
            inode = (device, number)
            files.take(pid, inode, name)
            files.ranges.setdefault(inode, (pid, start_end))
    folder = machine.path(f"/proc/{pid}/fd")
    for descriptor in os.listdir(folder):
        with contextlib.suppress(OSError):  # closed meanwhile
            link = os.readlink(f"{folder}/{descriptor}")
            if _ELSEWHERE.match(link) or (near and not link.startswith(f"{PATH}/")):
                continue
            stat = os.stat(f"{folder}/{descriptor}")
            if stat.st_dev == device and (own_tmpfs or link.startswith(f"{PATH}/")):
                inode = (device, stat.st_ino)
                files.take(pid, inode, link)
                files.bytes[inode] = stat.st_blocks * BLOCK


def mappings_of(maps: bytes, device: int) -> Iterator[tuple[str, int, str]]:
    """The mappings of one device's files: the range as map_files has it, inode and name."""
    number = b"%02x:%02x" % (os.major(device), os.minor(device))
    line = rb"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ " + number + rb" (\d+) +(/.*)$"
    for start, end, inode, name in re.findall(line, maps, re.MULTILINE):
        yield f"{int(start, 16):x}-{int(end, 16):x}", int(inode), os.fsdecode(name)


def _by_name(path: str, device: int, files: _Files) -> list[ShmHeld]:
    """The sizes of files that have a name; those that nobody measured holds."""
    others = []
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                stat = entry.stat(follow_symlinks=False)
                inode = (stat.st_dev, stat.st_ino)
                made = _OF_TORCH.match(entry.name)
                maker = files.numbers.get((device, int(made[1]))) if made else None
                if maker and inode not in files.pids:
                    files.take(maker, inode, entry.name)
                if inode in files.pids:
                    files.bytes[inode] = stat.st_blocks * BLOCK
                elif stat.st_dev == device and stat.st_blocks:
                    others.append(ShmHeld(name=entry.name, bytes=stat.st_blocks * BLOCK))
    return sorted(others, key=lambda each: -each.bytes)[:LARGEST]


def _ask_mappings(machine: Machine, files: _Files) -> None:
    """The sizes of files that are neither open nor in a directory, only mapped."""
    for inode, (pid, start_end) in files.ranges.items():
        if inode in files.bytes:
            continue
        with contextlib.suppress(OSError):  # only root may follow these links
            stat = os.stat(machine.path(f"/proc/{pid}/map_files/{start_end}"))
            if (stat.st_dev, stat.st_ino) == inode:
                files.bytes[inode] = stat.st_blocks * BLOCK
                continue
        start, end = (int(part, 16) for part in start_end.split("-"))
        files.bytes[inode] = end - start
        files.guessed += 1


def rss_shmem(status: str) -> int | None:
    """RssShmem of /proc/PID/status in bytes; None: a zombie has none."""
    match = re.search(r"^RssShmem:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def pid_inside(status: str) -> int | None:
    """The process's number in its own pid namespace, by /proc/PID/status."""
    match = re.search(r"^NSpid:.*\s(\d+)$", status, re.MULTILINE)
    return int(match[1]) if match else None


def _place(device: int, path: str, files: _Files, others: Sequence[ShmHeld]) -> ShmPlace | None:
    try:
        used_bytes, total_bytes = used(path)
    except OSError:  # its container has ended
        return None
    held = [
        ShmHeld(
            name=files.names[inode].removesuffix(" (deleted)").rpartition("/")[2],
            bytes=files.bytes.get(inode, 0),
            deleted=files.names[inode].endswith(" (deleted)"),
            pids=tuple(sorted(pids)),
        )
        for inode, pids in files.pids.items()
        if inode[0] == device
    ]
    return ShmPlace(
        path=path,
        total_bytes=total_bytes,
        used_bytes=used_bytes,
        held_bytes=sum(each.bytes for each in held),
        largest=tuple(sorted(held, key=lambda each: -each.bytes)[:LARGEST]),
        others=tuple(others),
    )


def _remarks(files: _Files, unseen: Mapping[int, str], count: int) -> Iterator[str]:
    if unseen:
        why = next(iter(unseen.values()))
        yield (
            f"{len(unseen)} of {count_of(count, 'process', 'processes')} could not be looked into"
            f" ({why}): run as their user, or as root"
        )
    if files.guessed:
        yield (
            f"{count_of(files.guessed, 'file')} mapped, without a name and not open: counted by the"
            " length of the mapping, as only root may ask for the pages"
        )


def alive(pids: Sequence[int]) -> bool:
    """Whether any of these processes is still there."""
    return any(os.path.exists(f"/proc/{pid}") for pid in pids)


def used(path: str) -> tuple[int, int]:
    """Bytes used and in all of the file system at a path.

    Raises:
        OSError: it is gone, as with its container.
    """
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_blocks * found.f_frsize
