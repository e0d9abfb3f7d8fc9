"""Whole runs of several processes on this machine: healthy ones, and with one node in trouble."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpudoctor.cluster.board.messages import Joined
from gpudoctor.cluster.board.share import Share
from gpudoctor.snapshot import encode

SCRIPT = Path(__file__).with_name("one_node.py")
BOUND = 90  # seconds, for a machine that is busy with much else
PATIENT = {"wait": 60.0, "patience": 60.0}  # nothing is lost because this machine is slow


class Run:
    """Nodes that meet in one directory."""

    def __init__(self, share: Path, nodes: int) -> None:
        self.share, self.nodes = share, nodes
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(self, rank: int, **told: object) -> None:
        told = {"share": str(self.share), "rank": rank, "nodes": self.nodes, **PATIENT, **told}
        self.running[rank] = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self, rank: int) -> str:
        out, err = self.running[rank].communicate(timeout=BOUND)
        assert "Traceback" not in err, err
        return out

    def gathered(self) -> dict:
        return json.loads(self.said(0))

    def members(self) -> list[dict]:
        return self.gathered()["facts"]["members"]["members"]

    def board(self) -> Share:
        """The board, as another node finds it."""
        board = Share(str(self.share), "test", opens=False)
        assert board.find(BOUND)
        assert board.get("judge", BOUND)
        return board


@pytest.fixture
def run(tmp_path):
    made = []

    def make(nodes: int) -> Run:
        made.append(Run(tmp_path, nodes))
        return made[-1]

    yield make
    for some in made:
        for process in some.running.values():
            process.kill()
            if not process.stdout.closed:
                process.communicate()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_healthy(run, tmp_path, count):
    nodes = run(count)
    for rank in range(count):
        nodes.start(rank, verdict=7)
    told = [nodes.said(rank).strip() for rank in range(1, count)]
    gathered = nodes.gathered()
    members = gathered["facts"]["members"]

    assert told == ["7"] * (count - 1)
    assert gathered["names"] == [f"node{rank}" for rank in range(count)]
    assert [member["rank"] for member in members["members"]] == list(range(count))
    assert {(m["step"], m["lost"], m["refused"]) for m in members["members"]} == {("done", "", "")}
    assert list(tmp_path.iterdir()) == []


def test_all_pairs_meet(run):
    nodes = run(4)
    for rank in range(4):
        nodes.start(rank)
    links = nodes.gathered()["facts"]["links"]

    assert (links["pairs"], links["pairs_all"], links["rounds"]) == (6, 6, 3)
    assert len({(way["source"], way["target"]) for way in links["ways"]}) == 12
    assert {way["error"] for way in links["ways"]} == {""}


def test_a_node_that_dies_is_left_out(run, tmp_path):
    nodes = run(3)
    nodes.start(0, patience=60.0)
    nodes.start(1)
    nodes.start(2, trouble="dies", patience=3.0)
    gathered = nodes.gathered()
    lost = gathered["facts"]["members"]["members"][2]

    assert gathered["names"] == ["node0", "node1"]
    assert (lost["name"], lost["step"]) == ("node2", "looking at its machine")
    assert "nothing came from it" in lost["lost"]
    assert gathered["facts"]["links"]["pairs"] == 1
    assert nodes.said(1).strip() == "0"


def test_a_node_that_is_frozen_is_left_out(run):
    nodes = run(3)
    nodes.start(0)
    nodes.start(1)
    nodes.start(2, trouble="freezes", patience=3.0)
    members = nodes.members()
    nodes.running[2].send_signal(signal.SIGCONT)

    assert [member["lost"] != "" for member in members] == [False, False, True]
    assert nodes.said(1).strip() == "0"
    assert nodes.said(2).startswith("alone: ")


def test_a_node_that_is_frozen_in_its_rounds_is_left_out_soon(run):
    nodes = run(3)
    for rank in range(2):
        nodes.start(rank, throughput=1.0)
    nodes.start(2, throughput=1.0, patience=3.0)
    board = nodes.board()
    assert board.get("roll", BOUND)
    nodes.running[2].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    members = nodes.members()

    assert [member["lost"] != "" for member in members] == [False, False, True]
    assert nodes.said(1).strip() == "0"
    assert time.monotonic() - began < 60, "waited for the time of all rounds"


def test_a_node_that_never_comes_is_missing(run):
    nodes = run(2)
    nodes.start(0, wait=1.0)
    gathered = nodes.gathered()
    members = gathered["facts"]["members"]

    assert (members["expected"], len(members["members"])) == (2, 1)
    assert members["waited_seconds"] >= 1.0
    assert gathered["names"] == ["node0"]


def test_a_node_that_is_late_is_waited_for(run):
    nodes = run(2)
    nodes.start(0)
    nodes.board()
    time.sleep(0.5)
    nodes.start(1)
    first, second = nodes.members()

    assert first["arrived_seconds"] == 0.0
    assert second["arrived_seconds"] >= 0.5
    assert second["lost"] == ""


def test_garbage_from_a_node_is_about_that_node_alone(run):
    nodes = run(3)
    for rank in range(2):
        nodes.start(rank)
    board = nodes.board()
    index = board.add("joined") - 1
    board.put(f"joined/{index}", encode(Joined(name="node2", host="0" * 16, rank=2)))
    board.put(f"facts/{index}", b'{"schema": "gpudoctor.facts/1", "nodes": [{"na')
    members = nodes.members()

    assert [member["refused"] != "" for member in members] == [False, False, True]
    assert [member["step"] for member in members[:2]] == ["done", "done"]
    assert nodes.said(1).strip() == "0"


def test_without_the_one_that_judges_each_is_alone(run):
    nodes = run(2)
    nodes.start(1, wait=1.0)

    assert nodes.said(1).startswith("alone: nobody was at")


def test_when_the_one_that_judges_dies_each_is_alone(run):
    nodes = run(2)
    nodes.start(0, trouble="hangs", patience=3.0)
    nodes.start(1, wait=1.0)
    board = nodes.board()
    assert board.get("facts/1", BOUND)
    nodes.running[0].kill()

    assert nodes.said(1).startswith("alone: nothing came from it")


def test_what_a_dead_run_left_is_passed_over(run, tmp_path):
    nodes = run(2)
    nodes.start(0, trouble="hangs", patience=2.0)
    nodes.start(1)
    board = nodes.board()
    assert board.get("facts/1", BOUND)
    nodes.running[0].kill()
    nodes.said(0)
    nodes.start(0)

    assert nodes.gathered()["names"] == ["node0", "node1"]
    assert nodes.said(1).strip() == "0"
    assert list(tmp_path.iterdir()) == []


# The command itself.

HEALTHY = ("--only", "cluster-nodes,cluster-versions")


@pytest.fixture
def command(gpudoctor, tmp_path):
    started = []

    def start(*words: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [gpudoctor, "check", "--cluster", "--share", str(tmp_path), *HEALTHY, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": "/nowhere", **env},
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        if not process.stdout.closed:
            process.communicate()


def test_the_command_prints_once(command, tmp_path):
    started = [
        command("--nnodes", "2", "--node-rank", str(rank), "-f", "json") for rank in range(2)
    ]
    said = [process.communicate(timeout=BOUND)[0] for process in started]
    report = json.loads(said[0])

    assert said[1] == ""
    assert [process.returncode for process in started] == [report["exit_code"]] * 2
    assert len(report["nodes"]) == 2
    assert {result["id"] for result in report["cluster"]["results"]} == {
        "cluster-nodes",
        "cluster-versions",
    }
    assert list(tmp_path.iterdir()) == []


def test_ranks_of_one_host_are_one_node(command, tmp_path):
    plain = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "3"}
    started = [command("-f", "json", **plain, RANK=str(rank)) for rank in range(3)]
    said = [process.communicate(timeout=BOUND)[0] for process in started]
    members = json.loads(said[0])["cluster"]["facts"]["members"]["members"]

    assert said[1:] == ["", ""]
    assert [process.returncode for process in started[1:]] == [0, 0]
    assert [(member["rank"], member["ranks"]) for member in members] == [(0, 3)]


def test_ranks_that_do_not_lead_are_silent(command, tmp_path):
    env = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    process = command(**env)

    assert process.communicate(timeout=BOUND) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_nothing_left(command, tmp_path, number):
    process = command("--nnodes", "2", "--node-rank", "0", "-f", "json")
    until = time.monotonic() + BOUND
    while not list(tmp_path.glob("*/*/joined*")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    out = process.communicate(timeout=BOUND)[0]

    assert process.returncode == 128 + number
    assert json.loads(out)["run"]["complete"] is False
    assert json.loads(out)["cluster"]["results"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        pytest.param((), {}, "nothing says which node this is", id="no launcher"),
        pytest.param(("--facts", "-"), {}, "no --facts", id="facts from a file"),
        pytest.param(
            ("--share", ""), {"RANK": "0", "WORLD_SIZE": "2"}, "where the nodes meet", id="where"
        ),
    ],
)
def test_wrong_usage(command, words, env, said):
    process = command(*words, **env)
    err = process.communicate(timeout=BOUND)[1]

    assert process.returncode == 2
    assert said in err


def test_dry_run_says_whom_it_would_contact(command, tmp_path):
    process = command("--nnodes", "2", "--node-rank", "0", "--dry-run")
    out = process.communicate(timeout=BOUND)[0]

    assert f"meets the other nodes in {tmp_path}" in out
    assert list(tmp_path.iterdir()) == []


def test_where_nodes_cannot_meet_nothing_is_known_of_them(command):
    words = ("--nnodes", "2", "--node-rank", "0", "--share", "/nowhere/at/all", "-f", "json")
    process = command(*words, "--only", "shm-size")
    out, err = process.communicate(timeout=BOUND)
    cluster = json.loads(out)["cluster"]["results"]

    assert process.returncode in (1, 3)
    assert "no such directory" in err
    assert {result["status"] for result in cluster} == {"error"}
