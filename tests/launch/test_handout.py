"""The plan as a file: valid in its language, and nothing in it that nobody asked for."""

import configparser
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from gpudoctor import Fix, Status
from gpudoctor.launch import LAUNCHERS, handout
from gpudoctor.launch.settings import Group, Memlock, NoFile, Pids, ShmSize
from gpudoctor.report import Ignored
from tests.reported import report, result

from .examples import GIB, TOGETHER

SHELL = ["docker", "podman", "host", "slurm", "pyxis", "apptainer"]
OUT = "first\r\nrm -rf /srv\x1b[2J # \u2028second"


SHM = result("shm-size", Status.FAIL, Fix(ShmSize(8 * GIB)))
MEMLOCK = result("limits-memlock", Status.FAIL, Fix(Memlock()))
NOFILE = result("limits-nofile", Status.WARN, Fix(NoFile(65536)))
EVERY = result("every-setting", Status.FAIL, Fix(*TOGETHER))
CLOCK = result(
    "clock-sync",
    Status.WARN,
    Fix(text="Set the clock", commands=["chronyc makestep"], needs_root=True),
    owner="node",
)
WHEEL = result("torch-arch", Status.FAIL, Fix(commands=["pip install torch"]), owner="image")
WELL = result("env-names", Status.PASS)
KNOWN = result("cgroup-pids", Status.FAIL, Fix(Pids()), ignored=Ignored("by design"))
PLAN = (SHM, MEMLOCK, NOFILE, CLOCK, WHEEL, WELL, KNOWN)


def live(text: str) -> list[str]:
    """The lines that are no comment; sbatch's are."""
    return [
        line
        for line in text.splitlines()
        if line and (not line.startswith("#") or line.startswith("#SBATCH"))
    ]


def is_bash(text: str) -> bool:
    return subprocess.run(["bash", "-n"], input=text, text=True, timeout=20).returncode == 0


def test_docker():
    text = handout.for_launcher(report(PLAN), "docker")

    assert live(text) == [
        "docker run --shm-size=8g --ulimit memlock=-1:-1 \\",
        "  --ulimit nofile=65536:65536 IMAGE COMMAND",
    ]
    assert "#   limits-memlock (fail): limits-memlock is so" in text
    assert "# node admin, as root on the node: Set the clock\n#   chronyc makestep" in text
    assert "# image\n#   pip install torch" in text
    assert "env-names" not in text
    assert "pids" not in text


@pytest.mark.parametrize("launcher", SHELL)
@pytest.mark.parametrize("results", [PLAN, (EVERY,)], ids=["plan", "everything"])
def test_shells_take_it(launcher, results):
    text = handout.for_launcher(report(results), launcher)

    assert live(text)
    assert is_bash(text)


@pytest.mark.parametrize("results", [PLAN, (EVERY,)], ids=["plan", "everything"])
def test_compose_and_kubernetes_are_yaml(results):
    compose, pod = (
        yaml.safe_load(handout.for_launcher(report(results), launcher))
        for launcher in ("compose", "kubernetes")
    )

    assert compose["services"]["SERVICE"]["shm_size"] == "8g"
    [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "dshm"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_systemd_is_a_drop_in():
    parser = configparser.ConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    parser.read_string(handout.for_launcher(report(PLAN), "systemd"))

    assert parser.sections() == ["Service"]
    assert parser["Service"]["LimitMEMLOCK"] == "infinity"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_nothing_found_nothing_to_change(launcher):
    text = handout.for_launcher(report((WELL, KNOWN)), launcher)

    assert live(text) == []
    assert "There is nothing to change." in text


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_no_word_leaves_its_comment(launcher):
    bad = result("a-b", Status.FAIL, Fix(text=OUT, needs_root=True), summary=OUT, owner="node")

    for text in (
        handout.for_launcher(report((bad,)), launcher),
        handout.for_admin(report((bad,), launcher=launcher)),
    ):
        assert not [line for line in live(text) if "srv" in line or "second" in line]
        assert text.replace("\n", "").isprintable()


def test_what_nodes_have_alike_is_said_once():
    text = handout.for_launcher(report((SHM,), (SHM,), (SHM,)), "docker")

    assert "on n0, n1, n2." in text
    assert text.count("shm-size (fail)") == 1


# The admin's script


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("results", [PLAN, (EVERY,), (WELL,)], ids=["plan", "all", "none"])
def test_the_script_is_bash(launcher, results):
    assert is_bash(handout.for_admin(report(results, launcher=launcher)))


def test_the_script_has_what_the_admin_can_do_and_nothing_else():
    text = handout.for_admin(report(PLAN, launcher="slurm"))

    assert "chronyc makestep" in live(text)
    assert any("LimitMEMLOCK=infinity" in line for line in live(text))
    assert "# limits-nofile (warn): limits-nofile is so" in text
    assert "pip install" not in text
    assert "#SBATCH" not in text


def test_what_only_a_reader_can_fill_in_is_a_comment():
    group = result("gpu-nodes", Status.FAIL, Fix(Group(44), commands=["sudo reboot"]), owner="node")
    text = handout.for_admin(report((group,), launcher="host"))

    assert "#   usermod -aG 44 USER" in text
    assert "#   reboot" in text
    assert not [line for line in live(text) if "USER" in line or "reboot" in line]


def test_lines_of_one_command_stay_together():
    command = "printf '%s' \\\n  reboot"
    bad = result("a-b", Status.FAIL, Fix(commands=[command], needs_root=True))
    text = handout.for_admin(report((bad,)))

    assert "#   printf '%s' \\\n#     reboot" in text


def scripted(tmp_path: Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose `id` says that it is root."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "id").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = {"PATH": path, **variables}
    return subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=20
    )


@pytest.fixture
def script() -> str:
    commands = ("touch one", "true && false", "touch two")
    fixes = [Fix(commands=[command], needs_root=True) for command in commands]
    return handout.for_admin(
        report(tuple(result(f"a-{n}", Status.FAIL, fix) for n, fix in enumerate(fixes)))
    )


def test_the_script_does_nothing_for_who_has_not_read_it(script, tmp_path):
    ended = scripted(tmp_path, script)

    assert (ended.returncode, ended.stderr) == (1, "read this script first\n")
    assert not (tmp_path / "one").exists()


def test_the_script_stops_where_a_command_fails(script, tmp_path):
    ended = scripted(tmp_path, script, GPUDOCTOR_READ="yes")

    assert ended.returncode == 1
    assert "nothing below it was done" in ended.stderr
    assert (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("commands", "lines"),
    [
        pytest.param(["sudo a || sudo b; x sudo"], ["a || b; x sudo"], id="root needs no sudo"),
        pytest.param(["a", "sudo b  # ufw", "c  # nft"], ["a"], id="only one of them"),
        pytest.param(["nvidia-smi -i GPU -r", "b"], ["b"], id="to be filled in"),
    ],
)
def test_what_the_admins_script_runs(commands, lines):
    fix = Fix(text="Mend it", commands=commands, needs_root=True)
    text = handout.for_admin(report((result("net-master", Status.FAIL, fix),)))

    assert live(text)[4:] == lines
    assert text.count("By hand:") == (len(commands) > len(lines))
    assert is_bash(text)
