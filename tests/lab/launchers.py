"""A command on every host of the lab, by real launchers: torchrun, Slurm, Open MPI, variables."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .net import Host

PORT = "29500"
SLURM = """
ClusterName=lab
SlurmctldHost=node0(10.77.0.1)
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
{nodes}
{settings}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
MUNGE = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}
# Open MPI logs in to a host with this in place of ssh: AGENT HOST COMMAND...
AGENT = """#!/bin/sh
host=$1
shift
. {folder}/hosts.sh
eval pid=\\$pid_$host
exec nsenter --target="$pid" --net --uts --mount -- sh -c "$*"
"""


def plain(hosts: Sequence[Host]) -> list[dict[str, str]]:
    """The variables of one rank on each host, as a script sets them."""
    job = {"MASTER_ADDR": "node0", "MASTER_PORT": PORT, "WORLD_SIZE": str(len(hosts))}
    own = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "PATH": os.environ["PATH"]}
    return [{**job, **own, "RANK": str(rank)} for rank in range(len(hosts))]


def indexed(hosts: Sequence[Host]) -> list[dict[str, str]]:
    """Those of an Indexed Job of Kubernetes, with what its manifest must add."""
    job = {"MASTER_ADDR": "node0", "NNODES": str(len(hosts)), "PATH": os.environ["PATH"]}
    return [{**job, "JOB_COMPLETION_INDEX": str(index)} for index in range(len(hosts))]


def torchrun(hosts: Sequence[Host], rank: int, python: object, ranks: int = 1) -> list[str]:
    """The words that start a command's ranks on a host."""
    return [
        *(str(python), "-m", "torch.distributed.run", f"--nnodes={len(hosts)}"),
        *(f"--node-rank={rank}", f"--nproc-per-node={ranks}", "--master-addr=node0"),
        *(f"--master-port={PORT}", "--no-python"),
    ]


def mpirun(hosts: Sequence[Host], folder: Path, ranks: int = 1) -> list[str]:
    """The words that start a command's ranks on all hosts, to be run on the first."""
    pids = "".join(f"pid_{host.name}={host.pid}\n" for host in hosts)
    (folder / "hosts.sh").write_text(pids)
    agent = folder / "agent"
    agent.write_text(AGENT.format(folder=folder))
    agent.chmod(0o755)
    slots = ",".join(f"{host.name}:{ranks}" for host in hosts)
    return [
        *("mpirun", "--allow-run-as-root", "--oversubscribe", "--host", slots),
        *("--mca", "plm_rsh_agent", str(agent), "-np", str(len(hosts) * ranks)),
        *("--mca", "oob_tcp_if_include", "eth0", "--mca", "btl", "self,tcp", "--tag-output"),
    ]


class Slurm:
    """A controller on the first host and a slurmd on each. Close it.

    Args:
        folder: for its files; others must be able to read there.
        settings: more lines of slurm.conf.
    """

    def __init__(self, hosts: Sequence[Host], folder: Path, settings: str = "") -> None:
        self.folder, self._hosts = folder, hosts
        for path in ("munge", "state", *(f"spool-{host.name}" for host in hosts)):
            (folder / path).mkdir(parents=True)
        (folder / "munge").chmod(0o700)
        (folder / "munge/key").write_bytes(os.urandom(1024))
        (folder / "munge/key").chmod(0o600)
        nodes = "\n".join(
            f"NodeName={host.name} NodeHostname={host.name} NodeAddr=10.77.0.{number} CPUs=4"
            for number, host in enumerate(hosts, 1)
        )
        conf = SLURM.format(folder=folder, nodes=nodes, settings=settings)
        (folder / "slurm.conf").write_text(conf)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._env = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        self._running: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Start the daemons; all nodes are idle on return."""
        munge = [f"--{name}={self.folder}/munge/{file}" for name, file in MUNGE.items()]
        self._start(self._hosts[0], "munged", "--foreground", "--force", *munge)
        self.wait((self.folder / "munge/socket").exists)
        self._start(self._hosts[0], "slurmctld", "-D", "-i")
        for host in self._hosts:
            self._start(host, "slurmd", "-D", "-N", host.name)
        self.wait(self.are_idle)

    def __call__(self, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the first host."""
        env = {**self._env, **env}
        return self._hosts[0].run(*words, env=env, cwd=self.folder, timeout=180)

    def state(self, node: str) -> str:
        return self("sinfo", "--noheader", f"--nodes={node}", "--format=%T %E").stdout.strip()

    def are_idle(self) -> bool:
        return all(self.state(host.name).startswith("idle ") for host in self._hosts)

    def wait(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + 100
        while not condition():
            assert time.monotonic() < until, self("sh", "-c", "sinfo; squeue; tail -v *.log").stdout
            time.sleep(0.1)

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # A step that could not tell the controller of its end would try for minutes.
        networks = {os.readlink(f"/proc/{host.pid}/ns/net") for host in self._hosts}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_step = (folder / "comm").read_text() == "slurmstepd\n"
                if is_step and os.readlink(folder / "ns/net") in networks:
                    os.kill(int(folder.name), signal.SIGKILL)

    def _start(self, host: Host, *words: str) -> None:
        quiet = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *words]
        self._running.append(host.start(*quiet, env=self._env))
