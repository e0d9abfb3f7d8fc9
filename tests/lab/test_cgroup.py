"""Limits of real cgroups, as the probe reads them and the checks judge them."""

import subprocess

import pytest

from gpudoctor import MIB, Status

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS


def result(report, check):
    return next(result for result in report.results if result.id == check)


@pytest.mark.parametrize(
    ("controller", "limit", "field", "value", "check", "status"),
    [
        ("memory", str(300 * MIB), "memory_limit_bytes", 300 * MIB, "cgroup-memory", FAIL),
        ("memory", str(6 << 30), "memory_limit_bytes", 6 << 30, "cgroup-memory", PASS),
        ("pids", "40", "pids_limit", 40, "cgroup-pids", FAIL),
        ("pids", "2048", "pids_limit", 2048, "cgroup-pids", PASS),
        ("cpu", "50000", "cpu_quota", 0.5, "cgroup-cpu", FAIL),
        ("cpuset", "0", "cpuset_cpus", 1, "cgroup-cpu", WARN),
    ],
)
def test_limit(controller, limit, field, value, check, status, cgroup, examine):
    group = cgroup(controller, limit)

    report = examine("--nproc-per-node=1", under=group.enter)

    assert report.nodes[0].facts["cgroup"][field] == value
    assert result(report, check).status is status


@pytest.mark.parametrize("outer", ["40", "2048"])
def test_the_tightest_on_the_way_up_counts(outer, cgroup, examine):
    above = cgroup("pids", outer)
    below = cgroup("pids", "1000", above)

    report = examine("--nproc-per-node=1", under=below.enter)

    assert report.nodes[0].facts["cgroup"]["pids_limit"] == min(int(outer), 1000)


def test_a_killed_process_is_remembered(cgroup, examine):
    group = cgroup("memory", str(6 << 30))
    hog = "import mmap; mmap.mmap(-1, 64 << 20).write(bytes(64 << 20))"
    before = examine("--nproc-per-node=1", under=group.enter)
    group.limit(str(32 * MIB))
    killed = subprocess.run([*group.enter, "python3", "-c", hog], stderr=subprocess.DEVNULL)
    group.limit(str(6 << 30))

    after = examine("--nproc-per-node=1", under=group.enter)

    assert killed.returncode == -9
    assert result(before, "cgroup-memory").status is PASS
    assert result(after, "cgroup-memory").status is WARN
    assert "1 process killed at 6 GiB" in result(after, "cgroup-memory").summary
