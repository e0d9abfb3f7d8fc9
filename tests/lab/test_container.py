"""Runtimes and refused system calls, for real: podman's containers and seccomp filters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor import Status

from .conftest import INSIDE

pytestmark = pytest.mark.lab

SOCKET = {"x86_64": "41", "aarch64": "198"}
DENY = Path(__file__).with_name("seccomp_deny.py")


@pytest.fixture
def facts(podman):
    """`facts(flags)`: what `gpudoctor collect` sees in a new container."""

    def collect(*flags: str, **options):
        command = [f"{INSIDE}/bin/python", "-m", "gpudoctor", "collect", "-o", "-"]
        ended = podman(flags, command, **options)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)["nodes"][0]["facts"]

    return collect


@pytest.fixture
def denied(require, examine):
    """`denied(names, *args)`: the check of privileges where system calls are refused."""
    require(os.uname().machine in ("x86_64", "aarch64"), "the filter knows only x86-64 and arm64")

    def run(calls: str, *args: str, **options):
        under = [sys.executable, str(DENY), calls, "--"]
        report = examine("container-privileges", *args, under=under, **options)
        return report.nodes[0].results[0]

    return run


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([], {"ipc_private": True, "pid_private": True}, id="default"),
        pytest.param(["--privileged"], {"ipc_private": True}, id="privileged"),
        pytest.param(["--network=none"], {"net_private": True}, id="network=none"),
        pytest.param(["--network=host"], {"net_private": False}, id="network=host"),
        pytest.param(["--ipc=host"], {"ipc_private": False, "pid_private": True}, id="ipc=host"),
        pytest.param(
            ["--ipc=host", "--pid=host", "--uts=host"],
            {"ipc_private": False, "pid_private": False},
            id="everything of the host",
        ),
        pytest.param(["--cgroupns=private"], {"ipc_private": True}, id="own cgroup namespace"),
        pytest.param(["--user=1000:1000"], {"rootless": False}, id="not root inside"),
        pytest.param(["--env=KUBERNETES_SERVICE_HOST=h"], {"kubernetes": False}, id="a variable"),
    ],
)
def test_podman_is_told(facts, flags, expected):
    found = facts(*flags)["container"]

    assert (found["runtime"], found["certain"], found["launcher"]) == ("podman", True, "podman")
    assert {name: found[name] for name in expected} == expected


def test_rights_are_those_of_the_container(facts):
    default, privileged = facts()["privileges"], facts("--privileged")["privileges"]

    assert (default["seccomp"], privileged["seccomp"]) == (2, 0)
    assert default["capabilities"] < privileged["capabilities"]


def test_sys_nice_opens_the_numa_calls(facts, tmp_path):
    # What docker's profile says of them; podman's allows them in some versions.
    names = ["get_mempolicy", "set_mempolicy", "mbind"]
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_NICE"]}}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    flag = f"--security-opt=seccomp={profile}"

    answers = [facts(flag, *more)["syscalls"]["answers"] for more in ([], ["--cap-add=SYS_NICE"])]

    assert [answer["mbind"] for answer in answers] == ["EPERM", ""]


def test_default_container_is_well(examine_in_podman):
    report = examine_in_podman([], "container")
    status = {result.id: result.status for result in report.nodes[0].results}

    assert set(status.values()) == {Status.PASS}


def test_a_container_for_every_rank_is_found(examine_in_podman):
    tasks = ["--env=SLURM_JOB_ID=7", "--env=SLURM_STEP_TASKS_PER_NODE=8"]

    alone = examine_in_podman(tasks, "container-ipc").nodes[0].results[0]
    shared = examine_in_podman([*tasks, "--ipc=host"], "container-ipc").nodes[0].results[0]

    assert (alone.status, shared.status) == (Status.WARN, Status.PASS)
    assert "7 more ranks" in alone.summary


def test_refused_sockets_are_no_verdict_of_the_network(require, examine):
    require(os.uname().machine in SOCKET, "the number of socket(2) is not known")
    under = [sys.executable, str(DENY), SOCKET[os.uname().machine], "--"]
    asked = ["--nnodes=2", "--node-rank=1", "--master-addr=203.0.113.1"]

    report = examine("net-master", "gloo-interface", "net-link", *asked, under=under)

    assert {result.status for result in report.nodes[0].results} == {Status.ERROR}
    assert report.exit_code == 3


def test_refused_clone3_ends_in_what_was_foretold(denied):
    result = denied("clone3")
    script = "import threading; threading.Thread(target=print).start()"
    job = subprocess.run(
        [sys.executable, DENY, "clone3", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
    )

    # Only glibc 2.34 and newer start threads with clone3.
    assert (result.status is Status.FAIL) == (job.returncode != 0)
    if job.returncode:
        assert "can't start new thread" in job.stderr


def test_refused_numa_calls_matter_to_some_nccl_only(denied, tmp_path):
    def python(nccl: str) -> str:
        packages = tmp_path / nccl / "lib/python3.12/site-packages"
        (packages / f"nvidia_nccl_cu12-{nccl}.dist-info").mkdir(parents=True)
        (tmp_path / nccl / "bin").mkdir()
        (tmp_path / nccl / "bin/python").touch(0o755)
        (tmp_path / nccl / "pyvenv.cfg").write_text("version = 3.12.1\n")
        return f"--python={tmp_path}/{nccl}/bin/python"

    calls = "get_mempolicy,set_mempolicy,mbind"

    old, new = python("2.25.1"), python("2.27.3")

    assert denied(calls, "--nproc-per-node=2", old).status is Status.WARN
    assert denied(calls, "--nproc-per-node=2", new).status is Status.PASS
    assert denied(calls, "--nproc-per-node=1", old).status is Status.PASS


def test_refused_copies_matter_to_mpi_only(denied):
    mpi = {**os.environ, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}

    assert denied("process_vm_readv", env=mpi).status is Status.WARN
    assert denied("process_vm_readv").status is Status.PASS
    assert denied("mbind", env=mpi).status is Status.PASS
