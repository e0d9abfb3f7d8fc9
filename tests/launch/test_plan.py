"""The findings of a run become one step for each who must act."""

import pytest

from gpudoctor import Status
from gpudoctor.launch.plan import next_steps
from gpudoctor.launch.settings import AnySetting, EnvUnset, IpcHost, Memlock, ShmSize
from gpudoctor.report import Ignored, Result, SpelledFix

from .examples import GIB


def result(status: Status, *settings: AnySetting, **more) -> Result:
    values = {"id": "a-b", "topic": "a", "title": "A is well", "owner": "launch"} | more
    return Result(status=status, settings=settings, **values)


SHM = result(Status.FAIL, ShmSize(GIB))
MORE_SHM = result(Status.WARN, ShmSize(2 * GIB))
MEMLOCK = result(Status.FAIL, Memlock())


@pytest.mark.parametrize(
    ("results", "command"),
    [
        pytest.param([SHM], "docker run --shm-size=1g IMAGE COMMAND", id="one"),
        pytest.param([SHM, MORE_SHM], "docker run --shm-size=2g IMAGE COMMAND", id="the larger"),
        pytest.param(
            [MORE_SHM, MEMLOCK],
            "docker run --ulimit memlock=-1:-1 --shm-size=2g IMAGE COMMAND",
            id="failures first",
        ),
        pytest.param(
            [SHM, result(Status.WARN, IpcHost())],
            "docker run --ipc=host IMAGE COMMAND",
            id="no contradiction",
        ),
        pytest.param(
            [SHM, result(Status.FAIL, Memlock(), ignored=Ignored("known"))],
            "docker run --shm-size=1g IMAGE COMMAND",
            id="ignored",
        ),
    ],
)
def test_one_command(results, command):
    (step,) = next_steps(results, "docker")

    assert (step.owner, step.command) == ("launch", command)


@pytest.mark.parametrize(
    ("launcher", "owners"),
    [
        ("docker", ["launch"]),
        ("kubernetes", ["launch", "node"]),
        ("slurm", ["launch", "node"]),
        ("host", ["job", "node"]),
    ],
)
def test_owners(launcher, owners):
    steps = next_steps([MEMLOCK], launcher)

    assert [step.owner for step in steps] == owners
    assert [step.needs_root for step in steps] == [owner == "node" for owner in owners]


def test_commands_stay_with_their_owner():
    fix = SpelledFix(launcher="any", text="Set the clock", commands=("chronyc makestep",))
    clock = result(Status.FAIL, owner="node", fixes=(fix,))
    unset = result(Status.WARN, EnvUnset("NCCL_P2P_DISABLE"))

    steps = next_steps([clock, clock, unset], "host")

    assert [step.command for step in steps] == ["unset NCCL_P2P_DISABLE", "chronyc makestep"]


def test_nothing_found_nothing_to_do():
    assert next_steps([result(Status.PASS)], "docker") == ()
