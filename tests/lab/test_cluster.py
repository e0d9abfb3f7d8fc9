"""`check --cluster` under real launchers on hosts of the lab; then one fault on one of them."""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gpudoctor import Status
from gpudoctor.report import Report, Result

from . import launchers
from .conftest import podman_of
from .launchers import Slurm
from .net import Host

BAD = (Status.FAIL, Status.WARN, Status.ERROR)
SYN = "tcp flags & (syn | ack) == syn"  # of those who open a connection, no answer to one
LINK = "qdisc add dev eth0 root tbf rate 200mbit burst 256kb latency 50ms"
BOUND = 120  # seconds for a whole run; most of it is the import of torch on two cores


class Cluster:
    """Runs gpudoctor on all hosts, and reads what the first of them found."""

    def __init__(self, hosts: Sequence[Host], folder: Path, python: object) -> None:
        self.hosts, self.folder = hosts, folder
        self.words = [
            *(sys.executable, "-m", "gpudoctor", "check", "--cluster", "--python", str(python)),
            *("--only", "cluster-*", "-o", f"json={folder}/report.json"),
        ]
        (folder / "share").mkdir()
        self.shared = ["--share", f"{folder}/share"]  # no torch is imported: it takes long

    def start(
        self,
        envs: Sequence[Mapping[str, str]],
        *more: str,
        own: Mapping[int, Sequence[str]] | None = None,
        last: Mapping[int, Sequence[str]] | None = None,
        late: Mapping[int, float] | None = None,
    ) -> list[subprocess.Popen[str]]:
        """One process on each host; of single hosts `own` are words before, `last` after it."""
        running = []
        for number, (host, env) in enumerate(zip(self.hosts, envs, strict=True)):
            words = [*(own or {}).get(number, ()), *self.words, *more]
            words += (last or {}).get(number, ())
            wait = (late or {}).get(number, 0)
            words = ["sh", "-c", f'sleep {wait}; exec "$@"', "sh", *words] if wait else words
            running.append(host.start(*words, env=env, cwd=self.folder))
        return running

    def end(self, running: Sequence[subprocess.Popen[str]]) -> tuple[list[int], str]:
        """Exit codes and all that was said, in bounded time."""
        until = time.monotonic() + BOUND
        said = []
        for process in running:
            try:
                said.append(process.communicate(timeout=max(1, until - time.monotonic()))[0])
            except subprocess.TimeoutExpired:
                process.kill()
                said.append(process.communicate()[0] + "\nKILLED: it took too long")
        return [process.returncode for process in running], "\n".join(said)

    def report(self) -> Report:
        return msgspec.json.decode((self.folder / "report.json").read_bytes(), type=Report)

    def found(self) -> dict[str, Result]:
        """The results over the cluster that are not well, by id."""
        cluster = self.report().cluster
        assert cluster is not None
        return {result.id: result for result in cluster.results if result.status in BAD}

    def passed(self) -> set[str]:
        cluster = self.report().cluster
        assert cluster is not None
        return {result.id for result in cluster.results if result.status is Status.PASS}


@pytest.fixture
def on(zoo, tmp_path, real_torch) -> Callable[[int], Cluster]:
    """`on(3)`: three healthy hosts at one switch, with links that two CPUs can fill."""

    def make(count: int) -> Cluster:
        hosts = zoo.lan(count)
        for host in hosts:
            host.run("tc", *LINK.split())
        return Cluster(hosts, tmp_path, real_torch)

    return make


ALWAYS = {"cluster-nodes", "cluster-versions", "cluster-reachability", "cluster-clock"}


def assert_healthy(cluster: Cluster, codes: Sequence[int], said: str, count: int) -> None:
    assert set(codes) == {0}, said
    assert cluster.found() == {}
    assert cluster.passed() >= ALWAYS
    assert [node.name for node in cluster.report().nodes] == [f"node{n}" for n in range(count)]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_healthy_with_plain_variables(on, count):
    cluster = on(count)
    codes, said = cluster.end(cluster.start(launchers.plain(cluster.hosts)))

    assert_healthy(cluster, codes, said, count)


def test_healthy_on_a_shared_directory(on, tmp_path):
    cluster = on(4)
    running = cluster.start(launchers.plain(cluster.hosts), *cluster.shared)
    codes, said = cluster.end(running)

    assert_healthy(cluster, codes, said, 4)
    assert list((tmp_path / "share").iterdir()) == [], "nothing is left behind"


def test_healthy_as_an_indexed_job(on):
    cluster = on(2)
    codes, said = cluster.end(cluster.start(launchers.indexed(cluster.hosts)))

    assert_healthy(cluster, codes, said, 2)


@pytest.mark.parametrize(("count", "ranks"), [(2, 2), (4, 1)])
def test_healthy_under_torchrun(on, real_torch, count, ranks):
    cluster = on(count)
    running = [
        host.start(
            *launchers.torchrun(cluster.hosts, rank, real_torch, ranks),
            *cluster.words,
            cwd=cluster.folder,
        )
        for rank, host in enumerate(cluster.hosts)
    ]
    codes, said = cluster.end(running)

    assert_healthy(cluster, codes, said, count)


@pytest.fixture
def slurm(on, public, require) -> Iterator[tuple[Cluster, Slurm]]:
    require(os.geteuid() == 0, "Slurm's daemons need root")
    for name in ("munged", "slurmctld", "slurmd", "srun"):
        require(shutil.which(name), f"{name} is not installed")
    cluster = on(3)
    folder = public / f"slurm-{os.urandom(4).hex()}"
    with closing(Slurm(cluster.hosts, folder)) as daemons:
        daemons.start()
        yield cluster, daemons


def test_healthy_under_slurm(slurm):
    cluster, srun = slurm
    ended = srun("srun", "-N3", "--ntasks-per-node=2", "--chdir", cluster.folder, *cluster.words)

    assert_healthy(cluster, [ended.returncode], ended.stdout + ended.stderr, 3)


def test_slurm_names_the_node_to_do_without(slurm):
    cluster, srun = slurm
    cluster.hosts[2].filter(f"{SYN} tcp sport 32768-60999 tcp dport 32768-60999 drop")
    ended = srun("srun", "-N3", "--chdir", cluster.folder, *cluster.words)

    assert ended.returncode != 0
    assert cluster.found()["cluster-reachability"].nodes == ("node2",)
    assert "--exclude=node2" in cluster.report().cluster.exclude_lines["slurm"]


def test_healthy_under_open_mpi(on, require, tmp_path):
    require(shutil.which("mpirun"), "mpirun is not installed")
    cluster = on(2)
    words = launchers.mpirun(cluster.hosts, tmp_path, ranks=2)
    words += ["--wdir", str(tmp_path), "-x", "MASTER_ADDR=node0", *cluster.words]
    ended = cluster.hosts[0].run(*words, timeout=BOUND)

    assert_healthy(cluster, [ended.returncode], ended.stdout + ended.stderr, 2)


WRONG_NAME = "127.0.0.1 localhost\n10.77.0.1 node0\n10.77.0.99 node1\n10.77.0.3 node2\n"
WRONG_MASTER = "127.0.0.1 localhost\n10.77.0.99 node0\n10.77.0.2 node1\n10.77.0.3 node2\n"


@pytest.mark.parametrize(
    ("rule", "check", "blamed"),
    [
        pytest.param(f"{SYN} drop", "cluster-reachability", {"node2"}, id="dropped"),
        pytest.param(
            f"{SYN} tcp dport 32768-60999 drop", "cluster-reachability", {"node2"}, id="ephemeral"
        ),
        pytest.param(
            f"{SYN} reject with tcp reset", "cluster-reachability", {"node2"}, id="rejected"
        ),
        # It is node1 alone that cannot come in.
        pytest.param(
            f"{SYN} ip saddr 10.77.0.2 drop", "cluster-reachability", {"node2"}, id="one-way"
        ),
        pytest.param("meta length > 1000 drop", "cluster-mtu", {"node2"}, id="black-hole"),
    ],
)
def test_firewall_of_one_node(on, rule, check, blamed):
    cluster = on(3)
    cluster.hosts[2].filter(rule)
    codes, said = cluster.end(cluster.start(launchers.plain(cluster.hosts), *cluster.shared))

    assert set(codes) == {1}, said
    assert set(cluster.found()) == {check}
    assert set(cluster.found()[check].nodes) == blamed


def test_wrong_line_in_hosts(on):
    cluster = on(3)
    cluster.hosts[2].hosts(WRONG_NAME)
    _, said = cluster.end(cluster.start(launchers.plain(cluster.hosts), *cluster.shared))

    assert set(cluster.found()) == {"cluster-reachability"}, said
    assert cluster.found()["cluster-reachability"].nodes == ("node2",)


def test_wrong_line_for_the_master(on):
    cluster = on(3)
    cluster.hosts[2].hosts(WRONG_MASTER)
    running = cluster.start(launchers.plain(cluster.hosts), "--wait", "20")
    codes, said = cluster.end(running)

    assert set(codes) <= {1, 3}, said
    assert set(cluster.found()) == {"cluster-nodes"}
    assert "1 of 3" in cluster.found()["cluster-nodes"].summary


FAKED = ["faketime", "--exclude-monotonic", "-f", "+30s"]
# Python 3.11 sleeps by clock_nanosleep(2) to a moment, which libfaketime 0.9.10 gets wrong.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select((), (), (), seconds)\n"


def test_clock_of_one_node(on, require, tmp_path):
    require(shutil.which("faketime"), "faketime is not installed")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SLEEP)
    cluster = on(3)
    own = {2: ["env", f"PYTHONPATH={tmp_path}/site", *FAKED]}
    running = cluster.start(launchers.plain(cluster.hosts), *cluster.shared, own=own)
    _, said = cluster.end(running)

    assert set(cluster.found()) == {"cluster-clock"}, said
    assert cluster.found()["cluster-clock"].nodes == ("node2",)


@pytest.mark.parametrize(
    ("own", "check"),
    [
        pytest.param(["env", "NCCL_ALGO=Ring"], "cluster-environment", id="variable"),
        pytest.param(["prlimit", "--memlock=65536:65536"], "cluster-limits", id="memlock"),
    ],
)
def test_one_node_differs(on, require, own, check):
    require(shutil.which(own[0]), f"{own[0]} is not installed")
    cluster = on(3)
    running = cluster.start(launchers.plain(cluster.hosts), *cluster.shared, own={2: own})
    _, said = cluster.end(running)

    assert set(cluster.found()) == {check}, said
    assert cluster.found()[check].nodes == ("node2",)


def with_torch(folder: Path, version: str) -> Path:
    """The Python of an environment that has no more of torch than its version."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    told = packages / f"torch-{version}.dist-info/METADATA"
    told.parent.mkdir()
    told.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (packages / "torch").mkdir()
    (packages / "torch/version.py").write_text(f"__version__ = '{version}'\n")
    return folder / "bin/python"


def test_another_torch_on_one_node(on, tmp_path):
    cluster = on(3)
    usual, other = (with_torch(tmp_path / v, v) for v in ("2.9.1+cu128", "2.8.0+cu128"))
    more = [*cluster.shared, "--python", str(usual)]
    last = {2: ["--python", str(other)]}
    codes, said = cluster.end(cluster.start(launchers.plain(cluster.hosts), *more, last=last))

    assert set(codes) == {1}, said
    assert set(cluster.found()) == {"cluster-versions"}
    found = cluster.found()["cluster-versions"]
    assert found.nodes == ("node2",)
    assert found.summary == "torch 2.8.0+cu128 on node2, 2.9.1+cu128 on 2 others"
    assert "torch==2.9.1" in " ".join(found.fixes[0].commands)


def test_a_cable_of_a_tenth(on):
    cluster = on(3)
    cluster.hosts[2].run("tc", *LINK.replace("add", "change").replace("200", "20").split())
    codes, said = cluster.end(cluster.start(launchers.plain(cluster.hosts), *cluster.shared))

    assert set(codes) == {1}, said
    assert set(cluster.found()) == {"cluster-throughput"}
    assert cluster.found()["cluster-throughput"].nodes == ("node2",)


def test_two_of_four_differ(on):
    """A tie blames nobody, but is told."""
    cluster = on(4)
    ring = ["env", "NCCL_ALGO=Ring"]
    own = {2: ring, 3: ring}
    cluster.end(cluster.start(launchers.plain(cluster.hosts), *cluster.shared, own=own))

    assert set(cluster.found()) == {"cluster-environment"}
    assert cluster.found()["cluster-environment"].nodes == ()


def test_one_node_dies_and_one_freezes(on):
    cluster = on(5)
    running = cluster.start(launchers.plain(cluster.hosts), "--wait", "20")
    time.sleep(4)  # wherever they are by then
    running[3].send_signal(signal.SIGKILL)
    running[4].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    codes, said = cluster.end(running[:3])
    running[4].kill()

    assert set(codes) == {1}, said
    assert set(cluster.found()) == {"cluster-nodes"}
    assert set(cluster.found()["cluster-nodes"].nodes) <= {"node3", "node4"}  # if they came
    assert time.monotonic() - began < 90


@pytest.mark.parametrize(("seconds", "wait"), [(5, 60), (25, 12)], ids=["in-time", "too-late"])
def test_one_node_is_late(on, seconds, wait):
    cluster = on(3)
    running = cluster.start(launchers.plain(cluster.hosts), "--wait", str(wait), late={2: seconds})
    codes, said = cluster.end(running)

    if seconds < wait:
        assert set(codes) == {0}, said
        assert cluster.found() == {}
    else:
        assert codes[:2] == [1, 1], said
        assert set(cluster.found()) == {"cluster-nodes"}
        assert codes[2] in (1, 3), "nobody is there any more, and it says so"


def test_containers_on_a_network_of_their_own(zoo, public, tmp_path, real_torch, require):
    """Two of podman, that find each other by name; in one of them a variable differs."""
    require(shutil.which("podman") and shutil.which("runc"), "podman and runc are not installed")
    folder = public / f"podman-{os.urandom(4).hex()}"
    folder.mkdir()
    env = podman_of(folder, f'[network]\nnetwork_config_dir = "{folder}/networks"\n')
    host = zoo.host("box")
    made = host.run("podman", "network", "create", "job", env=env)
    require(made.returncode == 0, f"podman makes no network here: {made.stderr.strip()}")
    cluster = Cluster([], tmp_path, real_torch)
    running = []
    for rank in range(2):
        job = {"MASTER_ADDR": "node0", "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0}
        job |= {"NCCL_ALGO": ("Ring", "Tree")[rank]}
        words = ["podman", "--log-level=error", "run", "--rm", "--network=job"]
        words += [f"--name=node{rank}", f"--hostname=node{rank}", f"--volume={tmp_path}:{tmp_path}"]
        words += [f"--workdir={tmp_path}", "--ulimit=nofile=1024", "--ulimit=nproc=4096"]
        words += [word for name, value in job.items() for word in ("--env", f"{name}={value}")]
        running.append(host.start(*words, "--rootfs", "/:O", *cluster.words, env=env))
    codes, said = cluster.end(running)

    assert set(codes) == {1}, said
    assert set(cluster.found()) == {"cluster-environment"}
    assert cluster.passed() >= ALWAYS - {"cluster-environment"}
