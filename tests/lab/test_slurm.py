"""The hooks under a real Slurm: a controller and two nodes, all on this machine."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpudoctor import hooks

NODES = {"n1": 26821, "n2": 26822}
CONF = """
ClusterName=gpudoctor
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldPort=26817
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
Prolog={folder}/prolog
HealthCheckProgram={folder}/healthcheck
HealthCheckInterval=1
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
FAILING = '''
from gpudoctor import Devices, Finding, Fix, check, fail

@check(owner="node")
def site_fails(devices: Devices) -> Finding:
    """It works."""
    return fail("it does not", Fix(text="mend it"))
'''
NOTHING = "#!/bin/sh\n"


class Slurm:
    """A running one, and how to ask it."""

    def __init__(self, folder: Path, inside: list[str]) -> None:
        self.folder, self._inside = folder, inside
        self._env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._inside, *words],
            env={**self._env, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def install(self, name: str, text: str) -> Path:
        """Write a program, whole: Slurm may start it at any moment."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.chmod(0o755)
        return new.replace(self.folder / name)

    def state(self, node: str) -> str:
        return self("sinfo", "--noheader", f"--nodes={node}", "--format=%T %E").stdout.strip()

    def wait(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + 100
        while not condition():
            assert time.monotonic() < until, self("sh", "-c", "sinfo; squeue; tail -v *.log").stdout
            time.sleep(0.1)

    def are_idle(self) -> bool:
        return all(self.state(node).startswith("idle ") for node in NODES)


@pytest.fixture(scope="module")
def cluster(public, require) -> Iterator[Slurm]:
    require(os.geteuid() == 0, "Slurm's daemons need root")
    for name in ("munged", "slurmctld", "slurmd", "srun", "nsenter", "ip"):
        require(shutil.which(name), f"{name} is not installed")
    folder, network = public / "slurm", f"gpudoctor-{uuid.uuid4().hex[:8]}"
    for path in ("munge", "state", *(f"spool-{node}" for node in NODES)):
        (folder / path).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
        for node, port in NODES.items()
    ]
    conf = CONF.format(folder=folder, host=host, nodes="\n".join(nodes))
    (folder / "slurm.conf").write_text(conf)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    # A network of its own: nobody else has these ports there.
    subprocess.run(["ip", "netns", "add", network], check=True)
    for change in ("link set lo up", "address add 192.0.2.1 dev lo"):
        # Where there is no address but 127.0.0.1, getaddrinfo does not even take that.
        subprocess.run(["ip", "-n", network, *change.split()], check=True)
    inside = ["nsenter", f"--net=/var/run/netns/{network}"]
    slurm = Slurm(folder, inside)
    for name in ("prolog", "healthcheck"):
        slurm.install(name, NOTHING)
    munge = [f"--{name}={folder}/munge/{file}" for name, file in MUNGE.items()]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D", "-i"]]
    daemons += [["slurmd", "-D", "-N", node] for node in NODES]
    env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
    running = []
    try:
        for daemon in daemons:
            words = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *daemon]
            running.append(subprocess.Popen([*inside, *words], env=env))
            if daemon[0] == "munged":
                slurm.wait((folder / "munge/socket").exists)
        slurm.wait(slurm.are_idle)
        yield slurm
    finally:
        for process in reversed(running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["ip", "netns", "delete", network], check=True)


MUNGE = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}


@pytest.fixture
def slurm(cluster) -> Iterator[Slurm]:
    """The cluster with nothing installed, before and after."""
    yield cluster
    for name in ("prolog", "healthcheck"):
        cluster.install(name, NOTHING)
    cluster("scancel", "--user=root")
    cluster.wait(lambda: not cluster("squeue", "--noheader").stdout)
    for node in NODES:
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
    ended = slurm("srun", "--nodelist=n1", "echo", "job")

    assert (ended.returncode, ended.stdout) == (0, "job\n")
    assert "[FAIL] site-fails" in log.read_text()
    assert "prolog of job " in log.read_text()

    slurm.wait(slurm.are_idle)
    slurm.install("prolog", text.replace("gate=no", "gate=yes"))
    slurm("sbatch", "--nodelist=n1", "--output=/dev/null", "--wrap=srun true")
    slurm.wait(lambda: slurm.state("n1").startswith("drain"))

    assert "Prolog" in slurm.state("n1")
    assert slurm.state("n2").startswith("idle")


@pytest.mark.parametrize("gate", ["no", "yes"])
def test_prolog_of_a_healthy_node(slurm, program, gate):
    log = slurm.folder / f"healthy-{gate}.log"
    text = hooks.text("slurm-prolog", program(False), log=str(log))
    slurm.install("prolog", text.replace("gate=no", f"gate={gate}"))
    ended = slurm("srun", "--nodes=2", "echo", "job")

    assert (ended.returncode, ended.stdout) == (0, "job\njob\n")
    assert slurm.are_idle() or "drain" not in slurm.state("n1") + slurm.state("n2")
    assert "FAIL" not in log.read_text()


@pytest.mark.parametrize("log", ["/nonexistent/log", "/dev/full"])
def test_prolog_that_cannot_write_its_log(slurm, program, log):
    slurm.install("prolog", hooks.text("slurm-prolog", program(True), log=log))

    assert slurm("srun", "--nodelist=n1", "echo", "job").stdout == "job\n"


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
            assert slurm(str(check), SLURMD_NODENAME="n1").returncode == 0
        return slurm.state("n1").split()[0]

    assert after(True, True, False) == "idle"
    assert after(True, True) == "idle"
    assert after(True) == "drained"
    assert slurm.state("n1") == "drained gpudoctor: site-fails"


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
    assert "n2: task 1: Exited with exit code 75" in said
