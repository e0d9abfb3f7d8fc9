"""probes/shm_holders.py: whose process is whose, what /proc says, and a file that we hold."""

import mmap
import os
import subprocess
import sys
import uuid

import pytest

from gpudoctor.probes import Machine
from gpudoctor.probes.shm_holders import (
    Family,
    Told,
    called,
    families,
    holders,
    mappings_of,
    pid_inside,
    rss_shmem,
)
from gpudoctor.snapshot import Absent

MIB = 1 << 20
MAPS = b"""\
7f1c00000000-7f1c00800000 rw-s 00000000 00:1a 23               /dev/shm/torch_77_1_0 (deleted)
7f1c00800000-7f1c00a00000 r-xp 00000000 08:01 23               /usr/lib/libtorch.so
7f1c01000000-7f1c01931000 rw-s 00000000 00:1a 24               /dev/shm/nccl-a b
7f1c02000000-7f1c02001000 rw-s 00000000 00:01 25               /memfd:x (deleted)
7ffd00000000-7ffd00001000 rw-p 00000000 00:00 0                [stack]
"""
STATUS = "Name:\tpython\nPid:\t4711\nNSpid:\t4711\t7\nRssAnon:\t  12 kB\nRssShmem:\t   16232 kB\n"


def tree(**processes: tuple[int, str]) -> dict[int, Told]:
    """Processes by number: their parent and what they run."""
    return {int(name[1:]): Told(up, tuple(line.split())) for name, (up, line) in processes.items()}


TORCHRUN = tree(
    p1=(0, "init"),
    p10=(1, "torchrun train.py"),
    p20=(10, "python -u train.py"),
    p21=(20, "python -u train.py"),
    p22=(20, "python -c resource_tracker"),
    p30=(10, "python -u train.py"),
    p31=(30, "python -u train.py"),
)
SPAWNING = tree(p1=(0, "init"), p20=(1, "python train.py"), p21=(20, "python -c spawn_main"))


@pytest.mark.parametrize(
    ("told", "named", "found", "expected"),
    [
        pytest.param(
            TORCHRUN,
            set(),
            {10, 20, 21, 30, 31},
            {
                10: (10, "launcher"),
                20: (20, "rank"),
                21: (20, "worker"),
                22: (20, "worker"),
                30: (30, "rank"),
                31: (30, "worker"),
            },
            id="torchrun, its ranks and their forked workers",
        ),
        pytest.param(
            TORCHRUN,
            {20},
            set(),
            {20: (20, "rank"), 21: (20, "worker"), 22: (20, "worker")},
            id="one rank by number",
        ),
        pytest.param(
            TORCHRUN,
            {20, 21},
            set(),
            {20: (20, "rank"), 21: (21, "rank"), 22: (20, "worker")},
            id="whoever is named is a rank",
        ),
        pytest.param(
            SPAWNING, set(), {20}, {20: (20, "rank"), 21: (20, "worker")}, id="spawned workers"
        ),
    ],
)
def test_families(told, named, found, expected):
    members = families(named, found, told)

    assert members == [Family(pid, rank, role) for pid, (rank, role) in sorted(expected.items())]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param("/usr/bin/python -u /a/train.py --token x", "python train.py", id="script"),
        pytest.param("python -W ignore train.py", "python train.py", id="an option with a value"),
        pytest.param("python -m a.run b", "python -m a.run", id="module"),
        pytest.param("python -c print(1)", "python -c", id="code is not told"),
        pytest.param("torch_shm_manager", "torch_shm_manager", id="no arguments"),
        pytest.param("mysqld --password=x", "mysqld", id="nothing else is told"),
    ],
)
def test_a_command_is_told_without_its_arguments(line, name):
    assert called(line.split()) == name


def test_mappings_of_one_device():
    assert list(mappings_of(MAPS, os.makedev(0, 0x1A))) == [
        ("7f1c00000000-7f1c00800000", 23, "/dev/shm/torch_77_1_0 (deleted)"),
        ("7f1c01000000-7f1c01931000", 24, "/dev/shm/nccl-a b"),
    ]


def test_status():
    assert rss_shmem(STATUS) == 16232 * 1024
    assert pid_inside(STATUS) == 7
    assert rss_shmem("Name:\tzombie\n") is None


HOLDER = """
import mmap, os, sys
way, path = sys.argv[1:]
if way == "mapped":
    from ctypes import CDLL, c_char_p, c_int, c_long, c_void_p
    libc = CDLL(None)
    libc.mmap.restype, libc.mmap.argtypes = c_void_p, [c_void_p, c_long, *[c_int] * 3, c_long]
file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.posix_fallocate(file, 0, 3 << 20)
if way == "mapped":  # Python's own mmap would keep the file open
    libc.mmap(None, 3 << 20, 3, 1, file, 0)
    os.close(file)
if way != "named":
    os.unlink(path)
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["open", "mapped", "named"])
def test_a_file_counts_once_with_or_without_a_name(way, require):
    require(os.access("/dev/shm", os.W_OK), "no /dev/shm to write to")
    path = f"/dev/shm/gpudoctor-{uuid.uuid4().hex}"
    words = [sys.executable, "-c", HOLDER, way, path]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "there\n"
        use = holders([str(holder.pid)])(Machine())
    finally:
        holder.communicate()
        if os.path.exists(path):
            os.unlink(path)

    assert not isinstance(use, Absent)
    assert [(each.role, each.family_bytes, each.files) for each in use.ranks] == [
        ("rank", 3 * MIB, 1)
    ]
    assert use.held_bytes == 3 * MIB
    assert use.places[0].largest[0].deleted is (way != "named")
    assert use.places[0].unaccounted_bytes == use.places[0].used_bytes - 3 * MIB


def test_what_torch_made_and_nobody_holds_belongs_to_its_maker(require):
    require(os.access("/dev/shm", os.W_OK), "no /dev/shm to write to")
    path = f"/dev/shm/torch_{os.getpid()}_{uuid.uuid4().int % 10**9}_0"
    with open(path, "wb") as file:
        file.write(bytes(MIB))
    try:
        use = holders([str(os.getpid())])(Machine())
    finally:
        os.unlink(path)

    assert not isinstance(use, Absent)
    assert (path.rpartition("/")[2], MIB) in [(f.name, f.bytes) for f in use.places[0].largest]


def test_a_mapping_of_memory_that_is_not_in_dev_shm_counts_for_rss_only():
    with mmap.mmap(-1, MIB) as memory:
        memory.write(bytes(MIB))
        use = holders([str(os.getpid())])(Machine())

    assert not isinstance(use, Absent)
    (rank,) = use.ranks
    assert rank.rss_shmem_bytes is not None
    assert rank.rss_shmem_bytes >= MIB > rank.held_bytes


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([f"no such process {uuid.uuid4()}"], id="no pattern fits"),
        pytest.param([str(1 << 30)], id="no such number"),
    ],
)
def test_nobody_to_measure(words):
    assert isinstance(holders(words)(Machine()), Absent)


def test_a_pattern_never_means_ourselves():
    found = holders([os.path.basename(sys.executable)])(Machine())

    pids = [] if isinstance(found, Absent) else [each.pid for each in found.processes]
    assert not {os.getpid(), os.getppid()} & {*pids}
