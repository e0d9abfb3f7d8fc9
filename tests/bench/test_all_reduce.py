"""The probe's bus bandwidth beside a plain loop of torch's all_reduce, in one run with both."""

import json
import socket
import statistics
import subprocess
from pathlib import Path

import pytest

from gpudoctor.probes.all_reduce import SCRIPT

WITHIN = 0.03  # of the plain loop
ROUNDS = 9
SIZE = 16 << 20  # bytes


def ratio(python: Path | str, ranks: int, size: int) -> float:
    """The probe's bus bandwidth over the plain loop's: the median of the rounds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [str(python), "-m", "torch.distributed.run", "--nnodes=1"]
    torchrun += [f"--nproc_per_node={ranks}", "--master_addr=127.0.0.1", f"--master_port={port}"]
    words = [Path(__file__).with_name("plain_loop.py"), SCRIPT, size, ROUNDS]
    ended = subprocess.run(
        [*torchrun, *map(str, words)], capture_output=True, text=True, check=True, timeout=500
    )
    return statistics.median(plain / ours for ours, plain in json.loads(ended.stdout))


@pytest.mark.parametrize("ranks", [2, 4])
def test_as_a_plain_loop(real_torch, say, ranks):
    found = ratio(real_torch, ranks, SIZE)

    say(f"all-reduce over {ranks} ranks: {found:.3f} x a plain loop, within {WITHIN}")
    assert abs(found - 1) <= 10 * WITHIN, "far from it: no busy machine explains that"
