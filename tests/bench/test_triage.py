"""How fast `gpudoctor triage` reads on one core, in what memory, and what it says of health."""

import itertools
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.bench.test_check import measure
from tests.triage import benign

MB = 1_000_000
RATE = 100  # MB/s
WORST = 30  # MB/s where every line has words of trouble
PEAK = 100 << 20  # bytes of memory, however large the log
SMALL = 0.25  # seconds for a log of a few lines


@pytest.fixture
def rate(tmp_path, gpudoctor) -> Callable[[Iterable[bytes], int], tuple[float, float]]:
    """MB/s of the whole process, held to one core, and the MiB of its memory."""
    core = str(min(os.sched_getaffinity(0)))

    def measured(blocks: Iterable[bytes], size: int) -> tuple[float, float]:
        path = tmp_path / "log"
        with path.open("wb") as file:
            for block in blocks:
                file.write(block)
                if file.tell() >= size:
                    break
        command = ["taskset", "-c", core, gpudoctor, "triage", "-q", str(path)]
        (seconds,), peak = measure(1, command)
        return path.stat().st_size / MB / seconds, peak / (1 << 20)

    return measured


def over_and_over(line: Callable[[int], str]) -> Iterator[bytes]:
    for number in itertools.count(0, 1000):
        yield "".join(f"{line(number + more)}\n" for more in range(1000)).encode()


def test_a_training_log(rate, say):
    """A bar, dictionaries and iterations: what jobs print for days."""
    writers = (benign.trainer, benign.megatron, benign.torchrun, benign.metrics, benign.deepspeed)
    some = random.Random(8)
    block = "".join(f"{line}\n" for _ in range(40) for one in writers for line in one(some))
    fast, mib = rate(itertools.repeat(block.encode()), 300 * MB)
    _, less = rate(itertools.repeat(block.encode()), 20 * MB)

    say(f"triage reads a training log at {fast:.0f} MB/s, budget {RATE}, in {mib:.0f} MiB")
    say(f"triage takes {mib - less:.1f} MiB more for 300 MB than for 20 MB")
    assert mib <= PEAK >> 20
    assert fast >= RATE / 4, "far beyond the budget: no busy machine explains that"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "error rates",
            lambda n: f"step {n} error rate: 0.{n % 997} failed: 0 exception: 0 timeout {n}",
        ),
        (
            "NCCL's lines",
            lambda n: (
                f"gpu-{n % 64}:{41000 + n % 8}:{42000 + n % 8} [{n % 8}] NCCL INFO Channel"
                f" {n % 32:02}/0 : {n % 8}[{n % 8}] -> 9[1] [send] via NET/IB/{n % 8}/GDRDMA"
            ),
        ),
        (
            "one warning, over and over",
            lambda n: (
                f"gpu-{n % 64}:{41000 + n % 8}:42 [1] net_ib.cc:{n % 900} NCCL WARN NET/IB : Got"
                f" completion from peer 10.0.0.{n % 250}<{n % 50000}> with status=12 opcode=129"
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_words_of_trouble_on_every_line(rate, say, name, line):
    fast, _ = rate(over_and_over(line), 100 * MB)

    say(f"triage reads {name} at {fast:.0f} MB/s, budget {WORST}")
    assert fast >= WORST / 4, "far beyond the budget: no busy machine explains that"


def test_health_in_100_mb(tmp_path, gpudoctor, say):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.writelines(benign.text(100 * MB))
    (seconds,), _ = measure(1, [gpudoctor, "triage", str(path)])
    ended = subprocess.run([gpudoctor, "triage", "-f", "json", str(path)], stdout=subprocess.PIPE)

    say(f"100 MB of all kinds of logs of healthy jobs: {100 / seconds:.0f} MB/s, nothing found")
    assert ended.returncode == 0
    assert b'"found": "nothing"' in ended.stdout


def test_a_small_log_is_told_at_once(tmp_path, gpudoctor, say):
    path = tmp_path / "log"
    path.write_text("RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. \n")
    seconds, _ = measure(5, [gpudoctor, "triage", "-q", str(path)])

    say(f"triage of one line takes {min(seconds) * 1000:.0f} ms, budget {SMALL * 1000:.0f}")
    assert min(seconds) <= SMALL * 4, "far beyond the budget: no busy machine explains that"
