"""The hooks under a real Slurm: a controller and two nodes."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gpudoctor import hooks

from .launchers import Slurm
from .net import Zoo

SETTINGS = """
Prolog={folder}/prolog
HealthCheckProgram={folder}/healthcheck
HealthCheckInterval=1
"""
FAILING = '''
from gpudoctor import Devices, Finding, Fix, check, fail

@check(owner="node")
def site_fails(devices: Devices) -> Finding:
    """It works."""
    return fail("it does not", Fix(text="mend it"))
'''
NOTHING = "#!/bin/sh\n"


class Cluster(Slurm):
    """One that programs of ours are put into."""

    def install(self, name: str, text: str) -> Path:
        """Write a program, whole: Slurm may start it at any moment."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.chmod(0o755)
        return new.replace(self.folder / name)


@pytest.fixture(scope="module")
def cluster(public, require) -> Iterator[Cluster]:
    require(os.geteuid() == 0, "Slurm's daemons need root")
    for name in ("munged", "slurmctld", "slurmd", "srun", "nsenter", "ip"):
        require(shutil.which(name), f"{name} is not installed")
    folder = public / "slurm"
    settings = SETTINGS.format(folder=folder)
    with Zoo() as zoo, closing(Cluster(zoo.lan(2), folder, settings)) as slurm:
        for name in ("prolog", "healthcheck"):
            slurm.install(name, NOTHING)
        slurm.start()
        yield slurm


@pytest.fixture
def slurm(cluster) -> Iterator[Cluster]:
    """The cluster with nothing installed, before and after."""
    yield cluster
    for name in ("prolog", "healthcheck"):
        cluster.install(name, NOTHING)
    cluster("scancel", "--user=root")
    cluster.wait(lambda: not cluster("squeue", "--noheader").stdout)
    for node in ("node0", "node1"):
        cluster("scontrol", "update", f"nodename={node}", "state=undrain")
    cluster.wait(cluster.are_idle)


@pytest.fixture
def program(slurm, installed) -> Callable[[bool], str]:
    """`program(ill)`: gpudoctor with one check, which fails or does not."""
    (slurm.folder / "checks").mkdir(exist_ok=True)
    (slurm.folder / "checks/site.py").write_text(FAILING)

    def make(ill: bool) -> str:
        only = "site-fails" if ill else "shm-write"
        return str(
            slurm.install(
                "gpudoctor",
                f"#!/bin/sh\nexport GPUDOCTOR_CHECKS={slurm.folder}/checks GPUDOCTOR_ONLY={only}\n"
                f'exec {installed}/bin/python -m gpudoctor "$@"\n',
            )
        )

    return make


def finding_lines(text: str) -> int:
    return text.count("site-fails")


@pytest.mark.parametrize("ill", [False, True])
def test_task_prolog_keeps_to_the_protocol(slurm, program, ill):
    prolog = slurm.install("taskprolog", hooks.text("slurm-taskprolog", program(ill)))
    words = ["srun", "--ntasks=2", "--nodes=1", "--overcommit", f"--task-prolog={prolog}"]
    ended = slurm(*words, "sh", "-c", 'echo "job $SLURM_PROCID"')
    said = [line for line in ended.stdout.splitlines() if not line.startswith("job ")]

    assert ended.returncode == 0, ended.stderr
    assert sorted(set(ended.stdout.splitlines()) - set(said)) == ["job 0", "job 1"]
    assert finding_lines("\n".join(said)) == (1 if ill else 0)
    assert ill or not said
    assert not any(line.startswith(("print", "export", "unset")) for line in said)


def test_task_prolog_of_a_program_that_is_not_there(slurm):
    prolog = slurm.install("taskprolog", hooks.text("slurm-taskprolog", "/nonexistent"))
    ended = slurm("srun", f"--task-prolog={prolog}", "echo", "job")

    assert ended.returncode == 0
    assert "job" in ended.stdout.splitlines()


def test_prolog_drains_nothing_unless_told(slurm, program):
    log = slurm.folder / "prolog.log"
    text = hooks.text("slurm-prolog", program(True), log=str(log))
    slurm.install("prolog", text)
    ended = slurm("srun", "--nodelist=node0", "echo", "job")

    assert (ended.returncode, ended.stdout) == (0, "job\n")
    assert "[FAIL] site-fails" in log.read_text()
    assert "prolog of job " in log.read_text()

    slurm.wait(slurm.are_idle)
    slurm.install("prolog", text.replace("gate=no", "gate=yes"))
    slurm("sbatch", "--nodelist=node0", "--output=/dev/null", "--wrap=srun true")
    slurm.wait(lambda: slurm.state("node0").startswith("drain"))

    assert "Prolog" in slurm.state("node0")
    assert slurm.state("node1").startswith("idle")


@pytest.mark.parametrize("gate", ["no", "yes"])
def test_prolog_of_a_healthy_node(slurm, program, gate):
    log = slurm.folder / f"healthy-{gate}.log"
    text = hooks.text("slurm-prolog", program(False), log=str(log))
    slurm.install("prolog", text.replace("gate=no", f"gate={gate}"))
    ended = slurm("srun", "--nodes=2", "echo", "job")

    assert (ended.returncode, ended.stdout) == (0, "job\njob\n")
    assert slurm.are_idle() or "drain" not in slurm.state("node0") + slurm.state("node1")
    assert "FAIL" not in log.read_text()


@pytest.mark.parametrize("log", ["/nonexistent/log", "/dev/full"])
def test_prolog_that_cannot_write_its_log(slurm, program, log):
    slurm.install("prolog", hooks.text("slurm-prolog", program(True), log=log))

    assert slurm("srun", "--nodelist=node0", "echo", "job").stdout == "job\n"


def test_health_check_as_slurm_starts_it(slurm, program):
    """With no arguments and hardly a variable."""
    log, seen = slurm.folder / "health.log", slurm.folder / "seen"
    text = hooks.text("slurm-healthcheck", program(True), log=str(log))
    text = text.replace("/run/", f"{slurm.folder}/")
    see = f"{{ echo $# arguments; env; }} >{seen}.new; mv {seen}.new {seen}"
    slurm.install("healthcheck", text.replace("drain=no\n", f"drain=no\n{see}\n"))
    slurm.wait(lambda: log.exists() and "[FAIL] site-fails" in log.read_text())

    assert "0 arguments" in seen.read_text()
    assert "HOME=" not in seen.read_text()
    assert slurm.are_idle()


def test_health_check_drains_after_failures_in_a_row(slurm, program):
    text = hooks.text("slurm-healthcheck", program(True), log=f"{slurm.folder}/row.log")
    text = text.replace("/run/", f"{slurm.folder}/row-")
    check = slurm.install("row", text.replace("drain=no\n", "drain=yes\n"))

    def after(*ill: bool) -> str:
        for state in ill:
            program(state)
            assert slurm(str(check), SLURMD_NODENAME="node0").returncode == 0
        return slurm.state("node0").split()[0]

    assert after(True, True, False) == "idle"
    assert after(True, True) == "idle"
    assert after(True) == "drained"
    assert slurm.state("node0") == "drained gpudoctor: site-fails"


def test_batch_script_checks_every_node(slurm, program):
    script = hooks.text("slurm-batch", program(False), ["sh", "-c", 'echo "job $SLURM_NODEID"'])
    slurm.install("batch", script.replace("#SBATCH --gpus-per-node=8\n", ""))
    ended = slurm("sbatch", "--wait", f"--output={slurm.folder}/output", "batch")
    lines = sorted((slurm.folder / "output").read_text().splitlines())

    assert ended.returncode == 0
    assert [line.partition(",")[0] for line in lines] == ["gpudoctor: 1 ok"] * 2 + [
        "job 0",
        "job 1",
    ]


def test_one_blocked_node_ends_the_batch_script(slurm, program):
    well, ill = (f"{program(state)}" for state in (False, True))
    assert well == ill
    one = slurm.install(
        "one",
        f"#!/bin/sh\n[ $SLURM_NODEID = 1 ] || export GPUDOCTOR_DISABLE=1\nexec {ill} " + '"$@"\n',
    )
    script = hooks.text("slurm-batch", str(one), ["sleep", "1000"])
    slurm.install("batch", script.replace("#SBATCH --gpus-per-node=8\n", ""))
    ended = slurm("sbatch", "--wait", f"--output={slurm.folder}/blocked", "batch")

    assert ended.returncode != 0
    said = (slurm.folder / "blocked").read_text()
    assert "site-fails" in said
    assert "node1: task 1: Exited with exit code 75" in said
