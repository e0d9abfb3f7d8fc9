"""probes/all_reduce.py: what is made of the ranks' words, and of the environment."""

import json

import pytest

from gpudoctor import Absent, AllReduce
from gpudoctor.probes.all_reduce import cleaned, parse_run
from gpudoctor.probes.foreign.all_reduce import MARK
from gpudoctor.probes.pytorch import Ended

POINT = {
    "bytes": 8,
    "iterations": 100,
    "seconds": 0.0002,
    "low_seconds": 0.0001,
    "high_seconds": 0.0006,
    "algbw": 40000.0,
    "busbw": 40000.0,
}
HEAD = {"backend": "gloo", "device": "cpu", "torch": "2.13.0+cpu", "ranks": 2, "nodes": 1}
LINES = [
    {"rank": 0, "step": "import torch"},
    {"rank": 1, "step": "import torch"},
    {"rank": 0, **HEAD, "gpus": [], "bus_ids": [], "busy": []},
    {"rank": 0, "step": "connect"},
    {"rank": 1, "step": "connect"},
    {"rank": 1, "step": "all-reduce of 8 bytes"},
    {"rank": 0, "step": "all-reduce of 8 bytes"},
]
DONE = [
    {"rank": 0, "point": POINT, "ranks_busbw": [40000.0, 41000.0]},
    {"rank": 0, "again": POINT, "ranks_busbw": [40000.0, 42000.0]},
    {"rank": 1, "step": "done"},
    {"rank": 0, "step": "done"},
]
# What torch 2.13.0 wrote when a rank was killed, without the frames.
SUMMARY = """
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
all_reduce.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-21_06:44:58
  host      : vm
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 4711)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_06:44:58
  host      : vm
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4712)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 4712
============================================================
"""
TCP = "[/pytorch/third_party/gloo/gloo/transport/tcp"
CLOSED = f"RuntimeError: {TCP}/pair.cc:553] Connection closed by peer [127.0.0.1]:14471."
LATE = f"RuntimeError: {TCP}/unbound_buffer.cc:78] Timed out waiting 11000ms for recv operation"
NOPE = (
    "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:84]"
    " ifa != nullptr. Unable to find address for: nope0"
)
WATCHDOG = (
    "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE)"
)


def ended(*lines: dict, how: str = "", stderr: str = "") -> Ended:
    said = "".join(f"{MARK}{json.dumps(line)}\n" for line in lines)
    words = [line for line in stderr.splitlines() if line]
    return Ended(said, how, words[-1] if words else "", stderr)


def test_all_is_told():
    found = parse_run(ended(*LINES, *DONE), ranks=2)

    assert isinstance(found, AllReduce)
    assert (found.error, found.wrong, found.step) == ("", "", "done")
    assert (found.scope, found.backend, found.torch) == ("local", "gloo", "2.13.0+cpu")
    assert [point.bytes for point in found.points] == [8]
    assert [point.busbw for point in found.again] == [40000.0]
    assert found.ranks_busbw == (40000.0, 42000.0)


def test_a_wrong_sum_is_kept_with_the_figure():
    wrong = {"rank": 0, "wrong": "rank 1, 8 bytes, number 0: 2 instead of 3 (1 wrong)"}

    found = parse_run(ended(*LINES, DONE[0], wrong, *DONE[1:]), ranks=2)

    assert found.wrong.startswith("rank 1, 8 bytes")
    assert len(found.points) == 1


@pytest.mark.parametrize(
    ("lines", "how", "stderr", "error"),
    [
        pytest.param(
            [{"rank": 0, "error": CLOSED}], "exit code 1", SUMMARY, "rank 1: SIGKILL", id="killed"
        ),
        pytest.param(
            [{"rank": 0, "error": LATE}],
            "exit code 1",
            "",
            "rank 1 hangs; rank 0: RuntimeError: Timed out waiting 11000ms for recv operation",
            id="one hangs",
        ),
        pytest.param(
            [{"rank": 0, "error": NOPE}, {"rank": 1, "error": NOPE}],
            "exit code 1",
            "",
            "rank 0: RuntimeError: ifa != nullptr. Unable to find address for: nope0",
            id="all say so",
        ),
        pytest.param([], "exit code 1", WATCHDOG, WATCHDOG.partition("] ")[2], id="NCCL's timeout"),
        pytest.param([], "no answer in 20 s", "noise", "no answer in 20 s", id="no word"),
        pytest.param([], "SIGSEGV", "", "SIGSEGV", id="torchrun itself crashed"),
    ],
)
def test_errors(lines, how, stderr, error):
    found = parse_run(ended(*LINES, *lines, how=how, stderr=stderr), ranks=2)

    assert found.error == error
    assert found.step == "all-reduce of 8 bytes"


def test_who_is_behind_is_named_first():
    found = parse_run(ended(*LINES[:6], how="no answer in 20 s"), ranks=2)

    assert found.step == "connect (rank 0); all-reduce of 8 bytes (rank 1)"


def test_a_line_that_was_cut_is_no_line():
    cut = Ended(ended(*LINES, *DONE).said[:-30], "", "")

    assert parse_run(cut, ranks=2).step == "all-reduce of 8 bytes (rank 0); done (rank 1)"


def test_no_torch():
    error = "ModuleNotFoundError: No module named 'torch'"

    assert parse_run(ended(how="exit code 1", stderr=error), ranks=2) == Absent("no torch")


def test_nothing_started():
    found = parse_run(ended(how="does not start (Permission denied)"), ranks=2)

    assert found.error == "does not start (Permission denied)"
    assert found.step == "start torchrun"


def test_no_launcher_is_inherited():
    env = {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "node0",
        "TORCHELASTIC_RUN_ID": "x",
        "PET_NNODES": "2",
        "OMPI_COMM_WORLD_RANK": "3",
        "NCCL_DEBUG_FILE": "/scratch/nccl.%h",
        "NCCL_COMM_ID": "node0:5555",
        "NCCL_SOCKET_IFNAME": "eth0",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PATH": "/usr/bin",
    }

    kept = cleaned(env)

    assert {name: kept[name] for name in kept if name in env} == {
        "NCCL_SOCKET_IFNAME": "eth0",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PATH": "/usr/bin",
    }
    assert kept["NCCL_DEBUG"] == "INFO"
