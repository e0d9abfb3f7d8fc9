"""`gpudoctor triage` as people run it."""

import fcntl
import gzip
import json
import os
import signal
import subprocess
import sys
import termios

import pytest

from gpudoctor.triage.reading import sources

BUS = (
    "RuntimeError: DataLoader worker (pid 213) is killed by signal: Bus error. It is possible"
    " that dataloader's workers are out of shared memory.\n"
)


@pytest.fixture
def triage(gpudoctor):
    def run(*words, stdin=None):
        command = [gpudoctor, "triage", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, input=stdin)

    return run


def test_says_the_first_cause(triage, tmp_path):
    log = tmp_path / "train.log"
    log.write_text(f"step 1\n[rank3]: {BUS}")
    ended = triage(log, "--for", "docker")

    assert ended.returncode == 1
    assert "FIRST CAUSE dataloader-bus-error" in ended.stdout
    assert "train.log:2,rank3" in "".join(ended.stdout.split())  # a long path is cut
    assert "--shm-size=8g" in ended.stdout
    assert "gpudoctor check shm-size" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80 + len(str(tmp_path))


def test_reads_stdin_and_gzip(triage, tmp_path):
    log = tmp_path / "train.log.gz"
    log.write_bytes(gzip.compress(BUS.encode()))

    assert json.loads(triage(log, "-f", "json").stdout)["first"]["first"]["line"] == 1
    assert json.loads(triage("-", "-f", "json", stdin=BUS).stdout)["found"] == "cause"


def test_directories_of_torchrun_tell_ranks(triage, tmp_path):
    for rank in (2, 10):
        (tmp_path / f"attempt_0/{rank}").mkdir(parents=True)
        (tmp_path / f"attempt_0/{rank}/stderr.log").write_text("well\n" if rank == 2 else BUS)
    (tmp_path / "attempt_0/10/model.pt").write_text(BUS)
    found = json.loads(triage(tmp_path, "-f", "json").stdout)

    assert [log["rank"] for log in found["logs"]] == [2, 10]
    assert found["first"]["first"]["rank"] == 10


def test_what_cannot_be_read_stops_nothing_else(triage, tmp_path):
    torn = tmp_path / "torn.log.gz"
    torn.write_bytes(gzip.compress(BUS.encode())[:-9])
    ended = triage(tmp_path / "none.log", torn, "-", stdin=BUS)

    assert ended.returncode == 1
    assert "none.log: No such file" in ended.stderr
    assert "torn.log.gz: packed, and damaged" in ended.stderr
    assert triage(tmp_path / "none.log").returncode == 2
    assert triage().returncode == 2


def test_nothing_is_found_in_health(triage):
    ended = triage("-", stdin="step 1 loss 0.5\n")

    assert ended.returncode == 0
    assert "Nothing that is known to go wrong" in ended.stdout
    assert triage("-", "-qq", stdin=BUS).stdout == ""


def test_runs_the_checks_that_it_names(triage):
    ended = triage("-", "--check", stdin=BUS)

    assert "FIRST CAUSE" in ended.stdout
    assert "profile train" in ended.stdout


def test_what_leaves_is_redacted(triage):
    line = f"/home/max.mustermann/x: {BUS}"
    open_text = triage("-", stdin=line).stdout
    shared = json.loads(triage("-", "-f", "json", stdin=line).stdout)

    assert "mustermann" in open_text
    assert "mustermann" not in json.dumps(shared)
    assert shared["redaction"] == "internal"


@pytest.mark.parametrize(
    ("path", "rank"),
    [
        ("logs/attempt_0/12/stderr.log", 12),
        ("rank0.log", 0),
        ("out/n1-rank_3_err.log", 3),
        ("out/rank-3/stdout.log", 3),
        ("lora_rank16.log", None),
        ("slurm-12_7.out", None),  # of an array the second number is a task's
        ("frank3.log", None),
    ],
)
def test_ranks_that_paths_name(path, rank):
    assert next(iter(sources([path]))).rank == rank


def test_a_directory_with_what_is_no_log(triage, tmp_path):
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "zero.log").symlink_to("/dev/zero")
    (tmp_path / "lost.log").symlink_to("nowhere.log")
    (tmp_path / "rank3.log").write_text(BUS)
    found = json.loads(triage(tmp_path, "-f", "json", "--redact", "none").stdout)

    assert [(log["name"], log["rank"]) for log in found["logs"]] == [(f"{tmp_path}/rank3.log", 3)]


def _unread(pipe: int) -> int:
    """Bytes in a pipe that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_what_a_pipe_gave_before_the_interrupt_is_told(gpudoctor):
    command = [gpudoctor, "triage", "-"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1) as process:
        os.write(process.stdin.fileno(), BUS.encode())
        while process.poll() is None and _unread(process.stdin.fileno()):
            pass
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()

    assert b"FIRST CAUSE dataloader-bus-error" in out
    assert process.returncode == 130
