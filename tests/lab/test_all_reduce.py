"""All-reduces by the real torch and gloo: on this machine, with faults, and over limited links."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpudoctor import Absent, AllReduce, Machine, PairFigure, PairReduce, Status
from gpudoctor.probes.all_reduce import free_port, over_nodes
from gpudoctor.registry import get
from gpudoctor.report import Report

pytestmark = pytest.mark.lab

MIB = 1 << 20
WITHIN = 150.0  # seconds, on a busy machine
# torch of the rank SHIM_RANK runs SHIM_DO before its all-reduce number SHIM_AT.
SHIM = """
import os
if os.environ.get("LOCAL_RANK") == os.environ.get("SHIM_RANK"):
    import signal, time, torch.distributed
    real, calls = torch.distributed.all_reduce, []
    def all_reduce(tensor, *rest, **more):
        calls.append(1)
        if len(calls) == int(os.environ.get("SHIM_AT", "0")):
            exec(os.environ["SHIM_DO"])
        answer = real(tensor, *rest, **more)
        if "SHIM_FLIP" in os.environ and len(tensor) > 5:
            tensor[5] += 1
        return answer
    torch.distributed.all_reduce = all_reduce
"""
Reduce = Callable[..., AllReduce]


@pytest.fixture
def mark() -> str:
    """A word in the environment of all that a test starts."""
    return uuid.uuid4().hex


@pytest.fixture
def reduce(real_torch, tmp_path, monkeypatch, mark) -> Iterator[Reduce]:
    """`reduce(ranks, *sizes, **environment)`: what the ranks of this machine measure."""
    (tmp_path / "sitecustomize.py").write_text(SHIM)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def run(ranks: int, *sizes: int, seconds: float = WITHIN, **environment: str) -> Any:
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "LAB": mark, **environment}
        machine = Machine(env=env)
        return over_nodes(machine, str(real_torch), ranks=ranks, seconds=seconds, sizes=sizes)

    yield run

    assert os.listdir(tmp_path / "tmp") == []
    assert left_of(mark) == []


def left_of(mark: str, seconds: float = 10.0) -> list[str]:
    """What still runs with this word in its environment, after some time to go."""
    until = time.monotonic() + seconds
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


def judged(found: AllReduce):
    return get("bandwidth-allreduce")(found, None, None, None)


@pytest.mark.parametrize("ranks", [2, 4])
def test_healthy(reduce, ranks):
    found = reduce(ranks, 8, MIB)

    assert (found.error, found.wrong, found.step) == ("", "", "done")
    assert (found.backend, found.device, found.ranks, found.nodes) == ("gloo", "cpu", ranks, 1)
    assert [point.bytes for point in found.points] == [8, MIB]
    assert len(found.ranks_busbw) == ranks
    for point in found.points:
        assert 0 < point.low_seconds <= point.seconds <= point.high_seconds
        assert point.algbw == pytest.approx(point.bytes / point.seconds)
        assert point.busbw == pytest.approx(point.algbw * 2 * (ranks - 1) / ranks)
    assert judged(found).status is Status.PASS


def test_a_wrong_sum(reduce):
    found = reduce(2, 8, 4096, SHIM_RANK="1", SHIM_FLIP="1")

    assert found.wrong == "rank 1, 4096 bytes, number 5: 19 instead of 18 (1 wrong)"
    assert judged(found).status is Status.FAIL
    assert judged(found).summary.startswith("wrong sum: rank 1, 4096 bytes")


@pytest.mark.parametrize(
    ("do", "error"),
    [
        pytest.param("os.kill(os.getpid(), 9)", "rank 1: SIGKILL", id="killed, as for memory"),
        pytest.param("os.kill(os.getpid(), 11)", "rank 1: SIGSEGV", id="a crash"),
        pytest.param(
            "raise RuntimeError('NCCL error: unhandled system error')",
            "rank 1: RuntimeError: NCCL error: unhandled system error",
            id="an error",
        ),
        pytest.param("time.sleep(99)", "rank 1 hangs; rank 0: RuntimeError: Timed", id="a hang"),
    ],
)
def test_a_rank_that_fails(reduce, do, error):
    found = reduce(2, 8, SHIM_RANK="1", SHIM_AT="7", SHIM_DO=do)

    assert found.error.startswith(error)
    assert found.step == "all-reduce of 8 bytes"
    assert judged(found).status is Status.FAIL


def test_an_interface_that_gloo_does_not_find(reduce):
    found = reduce(2, 8, GLOO_SOCKET_IFNAME="nope0")

    assert "Unable to find address for: nope0" in found.error
    assert judged(found).status is Status.FAIL
    assert judged(found).fix.commands == ("gpudoctor check gloo names",)


def test_time_that_is_too_short_is_no_finding(reduce):
    begin = time.monotonic()

    found = reduce(2, 8, seconds=1.0)

    assert time.monotonic() - begin < 10
    assert found.error == "no answer in 1 s"
    assert judged(found).status is Status.ERROR


def test_a_python_without_torch(tmp_path):
    found = over_nodes(Machine(), sys.executable, ranks=2, seconds=30.0)

    assert found == Absent(f"no torch in {sys.executable}")


def test_from_the_command_line_inside_of_a_job(gpudoctor, real_torch):
    ids = ["bandwidth-allreduce", "bandwidth-straggler"]
    # What torchrun and mpirun leave, of a job that is somewhere else.
    job = {
        "RANK": "3",
        "WORLD_SIZE": "16",
        "LOCAL_RANK": "3",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "192.0.2.1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "x",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "PET_NNODES": "2",
    }
    words = ["-f", "json", "--nproc-per-node", "2", "--python", str(real_torch)]

    def check(*asked: str) -> Report:
        ended = subprocess.run(
            [gpudoctor, "check", *asked, *words],
            env={**os.environ, **job},
            capture_output=True,
            timeout=240,
        )
        return msgspec.json.decode(ended.stdout, type=Report)

    topic, deep = check("bandwidth"), check(*ids, "--deadline", "170")

    assert [result.status for result in topic.results] == [Status.SKIP] * 2
    assert "--deep" in topic.results[0].reason
    reduced, straggler = deep.results
    assert reduced.status is Status.PASS, reduced
    assert "over 2 CPU ranks" in reduced.summary
    assert (straggler.status, straggler.reason) == (
        Status.SKIP,
        "pairs of nodes: gpudoctor check --cluster --deep",
    )
    found = msgspec.convert(deep.nodes[0].facts["all_reduce"], AllReduce)
    sizes = [point.bytes for point in found.points]
    assert sizes[:5] == [8, 64, 512, 4096, 16384]
    assert sizes[-1] >= MIB
    assert [point.bytes for point in found.again] == sizes[-1:]


def test_who_interrupts_leaves_nothing_behind(gpudoctor, real_torch, mark):
    words = [gpudoctor, "check", "bandwidth-allreduce", "--deep", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*words, "--python", str(real_torch)],
        env={**os.environ, "LAB": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + WITHIN
    while not any(" rank " in line for line in left_of(mark, 0.0)):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=30)
    assert left_of(mark) == []


# What is left for data of what a link carries: 1448 of 1514 bytes in full frames.
PAYLOAD = 1448 / 1514
NODE = """
import json, os, sys
from gpudoctor import Machine
from gpudoctor.probes.all_reduce import over_nodes
from gpudoctor.snapshot import encode
given = json.loads(sys.argv[1])
given["sizes"] = tuple(given["sizes"])
print(encode(over_nodes(Machine(env=dict(os.environ)), given.pop("python"), **given)).decode())
"""


def over_hosts(hosts, python: Path, **given: Any) -> list[AllReduce]:
    """What the hosts measure together, one rank on each."""
    given = {"nodes": len(hosts), "address": "10.77.0.1", "port": free_port(), **given}
    started = []
    for number, host in enumerate(hosts):
        asked = {**given, "node_rank": number, "ranks": 1, "python": str(python)}
        words = [sys.executable, "-c", NODE, json.dumps(asked)]
        started.append(host.start(*words, stderr=subprocess.DEVNULL))
    said = [process.communicate(timeout=given["seconds"] + 30)[0] for process in started]
    return [msgspec.json.decode(text, type=AllReduce) for text in said]


@pytest.mark.parametrize(("mbit", "size"), [(100, 2 * MIB), (1000, 16 * MIB)])
def test_over_a_limited_link(zoo, real_torch, mbit, size, capsys):
    hosts = zoo.pair()
    for host in hosts:
        # tc(8): at least what a tick of the kernel's clock lets through.
        words = f"qdisc add dev eth0 root tbf rate {mbit}mbit burst {mbit // 2 + 64}kb latency 50ms"
        assert host.run("tc", *words.split()).returncode == 0

    first, second = over_hosts(hosts, real_torch, seconds=WITHIN, sizes=[size])

    assert (first.error, first.wrong, second.error) == ("", "", "")
    assert (first.scope, first.ranks, first.nodes) == ("global", 2, 2)
    share = first.points[0].busbw / (mbit * 1e6 / 8 * PAYLOAD)
    with capsys.disabled():
        print(f"\nlab: an all-reduce over {mbit} Mbit/s reaches {share:.1%} of them", end=" ")
    assert share <= 1.05
    assert share >= 0.5, "far below the limit: no busy machine explains that"


def test_a_straggler(zoo, real_torch):
    """Pairs of three nodes, of which one has a cable of a tenth."""
    hosts = zoo.lan(3)
    for host, mbit in zip(hosts, (200, 200, 20), strict=True):
        words = f"qdisc add dev eth0 root tbf rate {mbit}mbit burst 256kb latency 50ms"
        assert host.run("tc", *words.split()).returncode == 0
    figures = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        pair = (hosts[one], hosts[other])
        (found, _) = over_hosts(
            pair, real_torch, address=f"10.77.0.{one + 1}", seconds=WITHIN, sizes=[MIB]
        )
        assert found.error == ""
        names = (pair[0].name, pair[1].name)
        figures.append(PairFigure(nodes=names, busbw=found.points[-1].busbw))

    finding = get("bandwidth-straggler")(PairReduce(figures=tuple(figures)))

    assert (finding.status, finding.nodes) == (Status.FAIL, ("node2",)), finding.summary


def test_a_node_that_does_not_come(zoo, real_torch):
    hosts = zoo.pair()

    (found,) = over_hosts(hosts[:1], real_torch, nodes=2, seconds=8.0, sizes=[8])

    assert found.error
    assert not found.points
