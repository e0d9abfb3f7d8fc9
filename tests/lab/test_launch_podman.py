"""Containers that are started as `launch` says really have what was asked for."""

import subprocess
from pathlib import Path

import pytest

from gpudoctor.launch import spell
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    EnvUnset,
    Group,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    NProc,
    Pids,
    Setting,
    ShmSize,
    Stack,
)

MIB = 1 << 20
PROGRAMS = ["docker", "podman"]
RUN_FROM_IT = """
    printf '#!/bin/sh\\necho ran' >/scratch/script
    chmod +x /scratch/script
    /scratch/script
    df --output=size -B1 /scratch | tail -1 | tr -d ' '
"""


def words(lines) -> list[str]:
    """The words of the one command, as bash reads them."""
    script = 'docker() { printf "%s\\0" "$@"; }; podman() { docker "$@"; }'
    ended = subprocess.run(
        ["bash", "-ec", "\n".join([script, *lines])], capture_output=True, text=True, check=True
    )
    return ended.stdout.removesuffix("\0").split("\0")


@pytest.fixture
def started(podman):
    """`started(program, settings, script)`: what a shell prints in a container with them."""

    def run(program: str, settings: list[Setting], script: str, *also: str) -> str:
        said = words(spell(settings, program).lines)
        image = said.index("IMAGE")
        flags, command = said[1:image], [*said[image + 1 : -1], "sh", "-c", script]
        ended = podman([*also, *flags], command)

        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    return run


def cgroup(controller: str, v1: str, v2: str) -> str:
    """Print a limit of a cgroup, whichever version there is."""
    folder = f"/sys/fs/cgroup/{controller}"
    return f"cat {folder}/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}"


PIDS = cgroup("pids", "pids.max", "pids.max")
MEMORY = cgroup("memory", "memory.limit_in_bytes", "memory.max")
SHM = "df --output=size -B1 /dev/shm | tail -1 | tr -d ' '"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("setting", "script", "seen"),
    [
        pytest.param(ShmSize(256 * MIB), SHM, str(256 * MIB), id="shm"),
        pytest.param(ShmSize(100 * MIB + 4096), SHM, str(100 * MIB + 4096), id="shm, odd"),
        pytest.param(NoFile(2048), "ulimit -S -n; ulimit -H -n", "2048\n2048", id="nofile"),
        pytest.param(NProc(2000), "bash -c 'ulimit -u'", "2000", id="nproc"),
        pytest.param(Memlock(64 << 10), "ulimit -l", "64", id="memlock"),
        pytest.param(Stack(16 * MIB), "ulimit -s", str(16 << 10), id="stack"),
        pytest.param(Pids(50), PIDS, "50", id="pids"),
        pytest.param(Pids(), PIDS, "max", id="pids unlimited"),
        pytest.param(Memory(300 * MIB), MEMORY, str(300 * MIB), id="memory"),
        pytest.param(EnvSet("A", 'it\'s "$HOME" a,b #c \\n'), 'printf %s "$A"', None, id="env"),
        pytest.param(EnvUnset("HOSTNAME"), "echo ${HOSTNAME-gone}", "gone", id="env unset"),
        pytest.param(Group(4321), "id -G", "0 4321", id="group"),
        pytest.param(
            Mount("/scratch", executable=True, tmpfs_bytes=64 * MIB),
            RUN_FROM_IT,
            f"ran\n{64 * MIB}",
            id="tmpfs, executable",
        ),
        pytest.param(
            Mount("/scratch"),
            "stat -f -c %T /scratch; stat -c %a /scratch",
            "tmpfs\n1777",
            id="tmpfs",
        ),
        pytest.param(
            Mount("/scratch", "/etc", read_only=True),
            "test -e /scratch/passwd && ! touch /scratch/new 2>/dev/null && echo read-only",
            "read-only",
            id="bind",
        ),
    ],
)
def test_has_it(started, program, setting, script, seen):
    expected = setting.value if seen is None else seen

    assert started(program, [setting], script) == expected


@pytest.mark.parametrize("program", PROGRAMS)
def test_cpus(started, program):
    script = cgroup("cpu", "cpu.cfs_quota_us", "cpu.max")

    assert started(program, [Cpus(1)], script).split()[0] == "100000"


@pytest.mark.parametrize("program", PROGRAMS)
def test_memory_without_limit(started, program):
    limited = "--memory=64m"
    found = started(program, [Memory()], MEMORY, limited)

    assert found == "max" or int(found) > 1 << 60


@pytest.mark.parametrize("program", PROGRAMS)
def test_host_ipc(started, program):
    found = started(program, [IpcHost(), ShmSize(MIB)], "readlink /proc/self/ns/ipc")

    assert found == str(Path("/proc/self/ns/ipc").readlink())


@pytest.mark.parametrize("program", PROGRAMS)
def test_capability(started, program):
    script = "grep CapEff /proc/self/status"
    without, with_it = (
        int(started(program, settings, script).split()[1], 16)
        for settings in ([Group(1)], [Capability("SYS_NICE"), Group(1)])
    )

    assert with_it & ~without == 1 << 23


@pytest.mark.parametrize("program", PROGRAMS)
def test_unsets_what_other_flags_set(started, program):
    found = started(program, [EnvUnset("LEFT")], "echo ${LEFT-gone}", "--env=LEFT=1")

    assert found == "gone"


@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_in_one_command(started, program):
    settings = [
        ShmSize(128 * MIB),
        NoFile(2048),
        Pids(500),
        Memory(512 * MIB),
        EnvSet("A", "1 2"),
        EnvUnset("HOSTNAME"),
        Mount("/scratch", tmpfs_bytes=MIB),
        Group(44),
    ]
    script = f'{SHM}; ulimit -n; {PIDS}; echo "$A ${{HOSTNAME-gone}}"; id -G'

    assert started(program, settings, script).splitlines() == [
        str(128 * MIB),
        *("2048", "500", "1 2 gone", "0 44"),
    ]


def test_the_node_really_changes(podman, tmp_path):
    """Root's lines for a bare host, in a container that is one."""
    settings = [
        ShmSize(128 * MIB),
        Mount("/scratch", tmpfs_bytes=MIB),
        Mount("/mnt", "/etc", read_only=True),
        Mount("/noexec", executable=True, tmpfs_bytes=MIB),
        Memlock(),
        NoFile(4096),
        Group(1),
        Group(39),
    ]
    lines = [line.replace("USER", "nobody") for line in spell(settings, "host").node_lines]
    see = f"""
        {SHM}
        stat -f -c %T /scratch
        touch /mnt/new 2>/dev/null || echo read-only
        grep -c -e '/dev/shm tmpfs .*size=128m' -e '/scratch tmpfs' -e '/mnt none bind' /etc/fstab
        grep -c . /etc/security/limits.d/99-gpudoctor.conf
        findmnt -no OPTIONS /noexec | grep -c noexec || true
        id -G nobody
    """
    setup = [
        "mkdir -p /etc/security/limits.d /noexec",
        "touch /etc/fstab",
        "mount -t tmpfs -o noexec tmpfs /noexec",
    ]
    flags = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"]

    ended = podman(flags, ["bash", "-ec", "\n".join([*setup, *lines, *lines[:3], see])])

    assert ended.returncode == 0, ended.stderr
    *first, groups = ended.stdout.splitlines()
    assert first == [str(128 * MIB), "tmpfs", "read-only", "3", "4", "0"]
    assert {"1", "39"} <= set(groups.split())
