"""Real faults in a real container, each put right by the report's own words."""

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from gpudoctor import Status
from gpudoctor.report import Report, Result

SYS_RESOURCE = 24  # the capability to raise limits


class Fault(NamedTuple):
    check: str
    status: Status
    says: str  # part of the summary
    flags: Sequence[str] = ()  # they stay, and those of the fix come after them
    mount: Sequence[str] = ()  # gives way: podman refuses two mounts at one place
    before: str = ""  # a script that runs in the container first
    ranks: int = 2
    raises: bool = False  # the fix raises a limit that root here may not be allowed to raise


FAIL, WARN = Status.FAIL, Status.WARN
FAULTS = {
    "default /dev/shm": Fault("shm-size", FAIL, "62.5 MiB, this job needs"),
    "small /dev/shm": Fault("shm-size", FAIL, "32 MiB", ["--shm-size=32m"]),
    "read-only /dev/shm": Fault(
        "shm-write", FAIL, "Read-only", mount=["--mount=type=tmpfs,dst=/dev/shm,ro"]
    ),
    "full /dev/shm": Fault(
        "shm-write",
        FAIL,
        "No space left",
        ["--shm-size=256m"],
        before="fallocate -l 256M /dev/shm/data",
    ),
    "nearly full /dev/shm": Fault(
        "shm-free",
        FAIL,
        "12 MiB of 512 MiB free, this job needs",
        ["--shm-size=512m"],
        before="fallocate -l 500M /dev/shm/torch_7_8_0",
    ),
    "memlock with RDMA": Fault(
        "limits-memlock",
        FAIL,
        "64 KiB",
        ["--device={uverbs}:/dev/infiniband/uverbs0", "--ulimit=memlock=65536:65536"],
        raises=True,
    ),
    "nofile": Fault("limits-nofile", FAIL, "256", ["--ulimit=nofile=256:256"], raises=True),
    "nofile, soft": Fault("limits-nofile", FAIL, "256", ["--ulimit=nofile=256:16384"]),
    "pids": Fault("cgroup-pids", FAIL, "60", ["--pids-limit=60"]),
    "memory": Fault("cgroup-memory", FAIL, "256 MiB", ["--memory=256m"]),
    "cpu": Fault("cgroup-cpu", FAIL, "0.5", ["--cpus=0.5"], ranks=1),
    "noexec /tmp": Fault("storage-writable", FAIL, "noexec", ["--tmpfs=/tmp:noexec,notmpcopyup"]),
    "unwritable HOME": Fault("storage-writable", FAIL, "/sys/home", ["--env=HOME=/sys/home"]),
    "uid without a name": Fault(
        "storage-writable",
        FAIL,
        "uid 4711 has no name",
        ["--user=4711:4711", "--passwd=false", "--env=HOME=/tmp"],
    ),
}


@pytest.fixture(scope="module")
def uverbs(public, podman, require) -> Iterator[Path]:
    """A device node such as an RDMA adapter has."""
    path = public / "uverbs0"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(231, 192))
    except OSError as error:
        require(False, f"no device node can be made here: {error}")
    return path


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
def test_the_reports_own_words_put_it_right(fault, examine_in_podman, uverbs):
    flags = [flag.format(uverbs=uverbs) for flag in fault.flags]
    ranks = f"--nproc-per-node={fault.ranks}"

    report = examine_in_podman([*flags, *fault.mount], ranks, before=fault.before)
    found = _result(report, fault.check)

    assert found.status is fault.status
    assert fault.says in found.summary
    assert found.why, "it says what would break later"
    if fault.raises and not _may_raise_limits():
        pytest.skip("root may not raise limits on this machine, so the fix cannot be tried")

    before = "\n".join([fault.before, *_commands(found)]).strip()
    cured = examine_in_podman([*flags, *_flags(report)], ranks, before=before)

    assert _result(cured, fault.check).status is Status.PASS


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--shm-size=1g"], id="plain"),
        pytest.param(["--ipc=host"], id="ipc=host"),
        pytest.param(["--shm-size=1g", "--memory=6g", "--pids-limit=-1"], id="limits"),
        pytest.param(["--shm-size=1g", "--user=1000:1000", "--env=HOME=/tmp"], id="not root"),
        pytest.param(["--shm-size=1g", "--privileged"], id="privileged"),
        pytest.param(["--shm-size=1g", "--tmpfs=/tmp:exec,notmpcopyup"], id="tmpfs"),
    ],
)
def test_a_well_set_container_has_nothing_to_put_right(flags, examine_in_podman):
    # The clock, the free space and the GPUs are this machine's, whatever the container is given.
    others = ["--skip=clock-*", "--skip=*-space", "--expect=gpus=0"]
    report = examine_in_podman(flags, "--nproc-per-node=1", *others)
    found = [r for r in report.results if r.status not in (Status.PASS, Status.SKIP)]

    assert [(r.id, r.summary or r.reason) for r in found] == []
    assert report.next_steps == ()


def _result(report: Report, check: str) -> Result:
    return next(result for result in report.results if result.id == check)


def _flags(report: Report) -> list[str]:
    """The flags of the one `podman run` at the end of the report."""
    for step in report.next_steps:
        if step.launcher == "podman" and not step.needs_root:
            words = shlex.split(step.command.replace("\\\n", " "))
            flags = words[words.index("run") + 1 : words.index("IMAGE")]
            # An image has an empty /tmp to copy into a tmpfs; this machine's own is not.
            return [w + ",notmpcopyup" * (w.startswith("/tmp:")) for w in flags]
    return []


def _commands(found: Result) -> list[str]:
    """What the fix says to run whatever the launcher."""
    return [line for fix in found.fixes if fix.launcher == "any" for line in fix.commands]


def _may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    (effective,) = (line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> SYS_RESOURCE & 1)
