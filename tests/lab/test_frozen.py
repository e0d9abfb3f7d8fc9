"""A probe stuck in the kernel (state D: not even SIGKILL ends it) does not hold the run."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpudoctor import Status

FREEZER = Path("/sys/fs/cgroup/freezer")
DEADLINE = 1.0

PLUGIN = f"""
import os

from gpudoctor import Fact, Finding, Machine, check, ok, probe

class Stuck(Fact, frozen=True):
    pass

@probe(isolated=True, timeout={DEADLINE})
def stuck(machine: Machine) -> Stuck:
    for file, text in (("tasks", str(os.getpid())), ("freezer.state", "FROZEN")):
        with open(os.path.join(os.environ["FREEZER"], file), "w") as file:
            file.write(text)
    return Stuck()

@check(owner="node")
def driver_answers(stuck: Stuck) -> Finding:
    \"\"\"The driver answers.\"\"\"
    return ok("it answered")
"""


@pytest.fixture
def freezer(require) -> Iterator[Path]:
    """A cgroup whose processes can be frozen; thawed, ended and removed after the test."""
    require(os.geteuid() == 0, "freezing a process needs root")
    if not (FREEZER / "cgroup.procs").exists():
        pytest.skip("only the freezer of cgroup v1 makes a process that cannot be killed")
    group = FREEZER / f"gpudoctor-{os.getpid()}"
    group.mkdir()
    yield group
    (group / "freezer.state").write_text("THAWED")
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    group.rmdir()


def test_a_frozen_probe_is_named_and_left_behind(freezer, examine, tmp_path):
    (tmp_path / "driver.py").write_text(PLUGIN)

    report = examine("--checks", str(tmp_path), env={**os.environ, "FREEZER": str(freezer)})
    results = {result.id: result for result in report.results}

    assert results["driver-answers"].status is Status.ERROR
    assert "no answer in 1 s" in results["driver-answers"].reason
    assert "(state D) cannot be killed" in results["driver-answers"].reason
    assert results["shm-size"].summary, "all else is reported"
    assert report.run.seconds < DEADLINE + 0.5


def test_exec_starts_its_command_all_the_same(freezer, gpudoctor, tmp_path):
    (tmp_path / "driver.py").write_text(PLUGIN)
    checks = ["--checks", str(tmp_path), "--only", "driver-answers"]
    ended = subprocess.run(
        [gpudoctor, "exec", "--policy", "block", *checks, "--", "echo", "started"],
        env={**os.environ, "FREEZER": str(freezer)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout) == (0, "started\n")
    assert "(state D) cannot be killed" in " ".join(ended.stderr.split())
