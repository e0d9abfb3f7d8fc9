"""What meeting, gathering and judging cost as a job grows from 2 nodes to 64."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = (2, 4, 8, 16, 32, 64)
SECONDS = 10  # for the largest, all nodes of it on two cores
EACH_BYTES = 40_000  # that a node leaves on the board
THROUGHPUT = 0.3  # seconds for one direction, as among many nodes


def job(folder: Path, count: int, throughput: float) -> dict:
    words = [str(count), str(folder), str(throughput)]
    program = [sys.executable, "-m", "tests.bench.nodes_of_one", *words]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> dict[int, dict]:
    """What each took, by how many nodes it had."""
    return {count: job(tmp_path_factory.mktemp("job"), count, THROUGHPUT) for count in SIZES}


def growth(jobs: dict[int, dict], name: str) -> str:
    return ", ".join(f"{found[name]:.4g} ({count})" for count, found in jobs.items())


def test_time_and_bytes(jobs, say, tmp_path):
    most = jobs[SIZES[-1]]
    without = job(tmp_path, SIZES[-1], 0.0)["seconds"]

    say(f"{most['checks']} checks, {most['rounds']} rounds among {SIZES[-1]} nodes")
    say(f"seconds: {growth(jobs, 'seconds')}; budget {SECONDS}")
    say(f"without measuring throughput: {without:.3g} ({SIZES[-1]})")
    say(f"seconds of judging: {growth(jobs, 'judging')}")
    say(f"bytes on the board: {growth(jobs, 'bytes')}")
    assert max(found["bytes"] / count for count, found in jobs.items()) <= EACH_BYTES
    assert most["seconds"] <= 6 * SECONDS, "far beyond the budget: no busy machine explains that"


@pytest.mark.parametrize("count", SIZES)
def test_all_are_there(jobs, count):
    found = jobs[count]

    assert (found["nodes"], found["lost"], found["errors"]) == (count, [], [])
    assert found["ways"] == count * min(count - 1, 7)
    assert len(found["codes"]) == 1
