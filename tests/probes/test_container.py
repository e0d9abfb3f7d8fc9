"""probes/container.py on recorded and composed trees, and on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor import Absent, Machine
from gpudoctor.collect import collect
from gpudoctor.launch import LAUNCHERS
from gpudoctor.probes.container import container, privileges, syscalls, verdict

from . import record

RECORDED = Path(__file__).parent / "recorded" / "container"
RUNTIMES = "none docker podman containerd cri-o enroot apptainer lxc systemd-nspawn gvisor other"
ALL = sorted(RECORDED.rglob("*.txt"))


@pytest.fixture
def planted(tmp_path):
    """The machine that a recorded text describes, with more variables if wanted."""

    def plant(name: str, **more: str) -> Machine:
        env = record.plant((RECORDED / f"{name}.txt").read_text(), tmp_path)
        return Machine(str(tmp_path), env={**env, **more})

    return plant


# Tree, further variables: runtime, certain, launcher, and what else differs from its default.
EXPECTED = [
    # Hosts, also those that look a little like containers.
    ("vm-dockerenv", {}, "none", True, "host", {"ipc_private": False, "net_private": False}),
    ("vm-user", {}, "none", True, "host", {}),
    ("vm-dockerenv", {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "none", True, "host", {}),
    ("vm-dockerenv", {"container": "podman"}, "none", True, "host", {}),
    ("vm-dockerenv", {"APPTAINER_CONTAINER": "/x.sif"}, "none", True, "host", {}),
    ("vm-dockerenv", {"SLURM_JOB_ID": "7"}, "none", True, "slurm", {"slurm": True}),
    ("vm-dockerenv", {"INVOCATION_ID": "5c7e"}, "none", True, "host", {}),
    ("unshare-mount", {}, "none", True, "host", {}),
    ("netns", {}, "none", True, "host", {"ipc_private": False}),
    ("bwrap", {}, "none", True, "host", {}),
    ("composed/host", {}, "none", True, "host", {"net_private": False}),
    ("composed/host-desktop", {}, "none", True, "host", {}),
    ("composed/host-service", {}, "none", True, "systemd", {"kubernetes": False}),
    ("composed/host-slurm", {}, "none", True, "slurm", {"slurm": True, "ranks_outside": 0}),
    ("composed/wsl2", {}, "none", True, "host", {"wsl2": True}),
    ("composed/mounted-host", {"SLURM_JOB_ID": "7"}, "none", True, "host", {"slurm": False}),
    # Something of their own, but of no known kind.
    ("unshare-pid", {}, "other", False, "host", {"pid_private": True}),
    ("unshare-all", {}, "other", True, "host", {"rootless": True}),
    ("bwrap-all", {}, "other", True, "host", {"rootless": True, "net_private": True}),
    ("unshare-all", {"SLURM_JOB_ID": "7"}, "other", True, "slurm", {"slurm": True}),
    # Docker.
    ("docker", {}, "docker", True, "docker", {"rootless": False, "ipc_private": True}),
    ("docker", {}, "docker", True, "docker", {"pid_private": True, "net_private": True}),
    ("docker", {"SLURM_JOB_ID": "7"}, "docker", True, "docker", {"slurm": True}),
    ("docker", {"KUBERNETES_SERVICE_HOST": "h"}, "docker", True, "docker", {"kubernetes": False}),
    ("docker-cgroupns", {}, "docker", True, "docker", {}),
    ("docker-user", {}, "docker", True, "docker", {"rootless": False}),
    ("docker-ipc-host", {}, "docker", True, "docker", {"ipc_private": False}),
    ("docker-shared", {}, "docker", True, "docker", {"ipc_private": False, "pid_private": False}),
    ("composed/docker-rootless", {}, "docker", True, "docker", {"rootless": True}),
    ("composed/docker-in-lxc", {}, "docker", True, "docker", {"rootless": False}),
    ("composed/wsl2-docker", {}, "docker", True, "docker", {"wsl2": True}),
    ("composed/nerdctl", {}, "containerd", True, "docker", {"kubernetes": False}),
    # Podman.
    ("podman", {}, "podman", True, "podman", {"rootless": False, "ipc_private": True}),
    ("podman-rootfs", {}, "podman", True, "podman", {}),
    ("podman-cgroupns", {}, "podman", True, "podman", {}),
    ("podman-privileged", {}, "podman", True, "podman", {}),
    ("podman-shared", {}, "podman", True, "podman", {"ipc_private": False}),
    ("podman-uidmap", {}, "podman", True, "podman", {"rootless": False}),
    ("podman-rootless", {}, "podman", True, "podman", {"rootless": True}),
    # Kubernetes.
    ("composed/pod-containerd", {}, "containerd", True, "kubernetes", {"kubernetes": True}),
    ("composed/pod-host", {}, "containerd", True, "kubernetes", {"pid_private": False}),
    ("composed/pod-crio", {}, "cri-o", True, "kubernetes", {"kubernetes": True}),
    ("composed/pod-docker", {}, "docker", True, "kubernetes", {"kubernetes": True}),
    # What clusters of many users have.
    ("composed/pyxis", {}, "enroot", True, "pyxis", {"slurm": True, "ranks_outside": 0}),
    ("composed/enroot", {}, "enroot", True, "pyxis", {"slurm": False, "rootless": True}),
    ("composed/apptainer", {}, "apptainer", True, "apptainer", {"ipc_private": False}),
    ("composed/apptainer", {"SLURM_JOB_ID": "7"}, "apptainer", True, "apptainer", {}),
    ("composed/apptainer-rootless", {}, "apptainer", True, "apptainer", {"rootless": True}),
    # System containers and sandboxes.
    ("composed/lxc", {}, "lxc", True, "host", {"rootless": False}),
    ("nspawn", {}, "systemd-nspawn", True, "host", {}),
    ("nspawn-users", {}, "systemd-nspawn", True, "host", {}),
    ("composed/gvisor-docker", {}, "gvisor", True, "docker", {}),
    ("composed/gvisor-pod", {}, "gvisor", True, "kubernetes", {"kubernetes": True}),
    # Ranks of one node, each in a container of its own.
    ("composed/apptainer-contained-mpi", {}, "apptainer", True, "apptainer", {"ranks_outside": 7}),
    (
        "docker",
        {"SLURM_JOB_ID": "7", "SLURM_STEP_TASKS_PER_NODE": "8"},
        "docker",
        True,
        "docker",
        {"ranks_outside": 7},
    ),
    (
        "docker",
        {"SLURM_STEP_TASKS_PER_NODE": "8", "LOCAL_WORLD_SIZE": "8"},
        "docker",
        True,
        "docker",
        {"ranks_outside": 0},
    ),
]


@pytest.mark.parametrize(
    ("name", "more", "runtime", "certain", "launcher", "others"),
    [pytest.param(*row, id=" ".join([row[0], *row[1]])) for row in EXPECTED],
)
def test_verdict(planted, name, more, runtime, certain, launcher, others):
    found = container(planted(name, **more))

    assert (found.runtime, found.certain, found.launcher) == (runtime, certain, launcher)
    assert {field: getattr(found, field) for field in others} == others
    assert found.clues, "a verdict without evidence"


def test_every_tree_is_in_the_table():
    names = {str(path.relative_to(RECORDED).with_suffix("")) for path in ALL}

    assert names == {row[0] for row in EXPECTED}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_verdicts_are_words_that_others_know(path, tmp_path):
    machine = Machine(str(tmp_path), env=record.plant(path.read_text(), tmp_path))

    found = container(machine)

    assert found.runtime in RUNTIMES.split()
    assert found.launcher in LAUNCHERS


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param({}, ("none", False), id="nothing seen"),
        pytest.param({"docker": 1}, ("docker", False), id="one weak clue"),
        pytest.param({"none": 9, "docker": 1}, ("none", True), id="a stray file"),
        pytest.param({"none": 4, "other": 3}, ("none", False), id="close to a container"),
        pytest.param({"docker": 5, "other": 4}, ("docker", True), id="a kind of container"),
        pytest.param({"docker": 5, "podman": 4}, ("docker", False), id="two that contradict"),
        pytest.param({"other": 4, "docker": 4}, ("docker", True), id="the one that says more"),
    ],
)
def test_points(points, expected):
    assert verdict(points) == expected


def test_without_proc_a_stray_file_is_a_guess(tmp_path):
    # A recorded tree has /proc/self; here nothing in it can be read.
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / ".dockerenv").touch()

    found = container(Machine(str(tmp_path), env={}))

    assert (found.runtime, found.certain) == ("docker", False)


def test_a_mounted_host_is_not_us_although_its_proc_knows_us(tmp_path):
    (tmp_path / "proc").symlink_to("/proc")
    machine = Machine(str(tmp_path), env={"KUBERNETES_SERVICE_HOST": "10.96.0.1"})

    assert container(machine).runtime == "none"
    assert isinstance(privileges(machine), Absent)
    assert isinstance(syscalls(machine), Absent)


@pytest.mark.parametrize(
    ("name", "capabilities", "seccomp", "no_new", "userns"),
    [
        pytest.param("vm-dockerenv", 40, 0, False, False, id="root without one capability"),
        pytest.param("vm-user", 0, 0, False, False, id="user"),
        pytest.param("docker", 14, 2, False, False, id="docker"),
        pytest.param("docker-ipc-host", 15, 2, False, False, id="docker --cap-add"),
        pytest.param("docker-user", 0, 2, False, False, id="docker --user"),
        pytest.param("podman-privileged", 40, 0, False, False, id="podman --privileged"),
        pytest.param("podman-rootless", 14, 2, False, True, id="podman rootless"),
        pytest.param("podman-uidmap", 14, 2, False, True, id="podman --uidmap"),
        pytest.param("bwrap-all", 0, 0, True, True, id="bwrap"),
    ],
)
def test_privileges(planted, name, capabilities, seccomp, no_new, userns):
    found = privileges(planted(name))

    assert not isinstance(found, Absent)
    assert found.capabilities.bit_count() == capabilities
    assert found.seccomp == seccomp
    assert found.no_new_privileges is no_new
    assert found.user_namespace is userns


def test_docker_gives_no_sys_nice_unless_asked(planted, tmp_path):
    assert not privileges(planted("docker")).has(23)


def test_syscalls_on_this_machine():
    facts = collect([syscalls], Machine()).facts
    answers = facts["syscalls"].answers

    assert set(answers) >= {"get_mempolicy", "mbind", "process_vm_readv", "clone3"}
    assert answers["clone3"] != "", "a clone3 without arguments can never work"


def test_recording_this_machine_gives_the_live_verdict(tmp_path):
    recorder = Path(record.__file__)
    ended = subprocess.run(
        [sys.executable, recorder, "here"], capture_output=True, text=True, check=True
    )
    env = dict(os.environ)
    record.plant(ended.stdout, tmp_path)

    live, again = container(Machine(env=env)), container(Machine(str(tmp_path), env=env))

    assert (again.runtime, again.certain, again.launcher) == (
        live.runtime,
        live.certain,
        live.launcher,
    )
    assert again.clues == live.clues
