"""The hook where neither the name server nor the master answers: a bounded delay, then the job."""

import os
import sys
import time

import pytest

EXEC = [sys.executable, "-m", "gpudoctor", "exec", "--only=net-*"]
JOB = {"MASTER_PORT": "29500", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_WORLD_SIZE": "1"}
DEADLINE = 8.0  # the default


@pytest.fixture
def node(zoo):
    """A node whose own name nobody answers for, beside a master that drops what comes."""
    node0, node1 = zoo.pair()
    node0.filter("udp dport 53 drop", "tcp dport { 53, 29500 } drop")
    node1.hosts("127.0.0.1 localhost\n")
    node1.write("/etc/resolv.conf", "nameserver 10.77.0.1\n")
    return node1


@pytest.mark.parametrize(
    ("master", "words", "said"),
    [
        pytest.param("head.cluster", [], "head.cluster does not resolve", id="a name"),
        pytest.param("10.77.0.1", [], "10.77.0.1 port 29500: no answer", id="an address"),
        pytest.param("head.cluster", ["--deadline=1"], "master: no answer", id="no time for it"),
    ],
)
def test_silence_delays_the_job_by_the_deadline_at_most(node, master, words, said):
    env = {"PATH": os.environ["PATH"], "MASTER_ADDR": master, **JOB}
    started = time.monotonic()
    done = node.run(*EXEC, *words, "--", "echo", "trains", env=env)
    seconds = time.monotonic() - started

    assert (done.returncode, done.stdout) == (0, "trains\n")
    assert said in done.stderr
    assert seconds <= DEADLINE + 1.0  # the alarm behind the deadline


def test_the_master_of_torchruns_options(node):
    command = [
        "/nonexistent/torchrun",
        "--nnodes=2",
        "--node-rank=1",
        "--master-addr=10.77.0.1",
        "train.py",
    ]
    done = node.run(*EXEC, "--", *command, env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})

    assert "10.77.0.1 port 29500: no answer" in done.stderr
    assert done.returncode == 127  # there is no torchrun here: that it was tried is enough
