"""What a whole `gpudoctor check` costs: ratios to other programs in one run, and memory."""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

RATIO = 8  # of the whole process to `python -c pass`
FASTER = 20  # than python -m torch.utils.collect_env
PEAK = 60 << 20  # bytes, of the largest process
FIND_TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"


def measure(rounds: int, *commands: list[str]) -> tuple[list[float], int]:
    """The median seconds of each command, and the highest peak of memory of them all."""
    ended = subprocess.run(
        [sys.executable, Path(__file__).with_name("measure.py")],
        input=json.dumps([rounds, commands]),
        capture_output=True,
        text=True,
        check=True,
    )
    taken, peak = json.loads(ended.stdout)
    return [statistics.median(times) for times in taken], peak


@pytest.fixture
def say(capsys):
    """Print although pytest captures: the figures are what this lane is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\nbench: {text}", end=" ")

    return line


def test_whole_check(installed, say):
    nothing = [f"{installed}/bin/python", "-c", "pass"]
    (idle, whole), peak = measure(15, nothing, [f"{installed}/bin/gpudoctor", "check"])
    ratio, mib = whole / idle, peak / (1 << 20)

    say(f"gpudoctor check takes {ratio:.1f} x `python -c pass`, budget {RATIO}")
    say(f"gpudoctor check takes {mib:.1f} MiB of memory at its peak, budget {PEAK >> 20}")
    assert peak <= PEAK
    assert ratio <= 2 * RATIO, "far beyond the budget: no busy machine explains that"


def test_faster_than_collect_env(installed, say):
    pythons = filter(None, (sys.executable, shutil.which("python3")))
    with_torch = [p for p in pythons if subprocess.run([p, "-c", FIND_TORCH]).returncode == 0]
    if not with_torch:
        pytest.skip("no Python here has torch to compare with")
    collect_env = [with_torch[0], "-m", "torch.utils.collect_env"]

    (theirs, ours), _ = measure(3, collect_env, [f"{installed}/bin/gpudoctor", "check"])

    say(f"gpudoctor check is {theirs / ours:.0f} x faster than collect_env, budget {FASTER}")
    assert theirs / ours >= FASTER / 2, "far beyond the budget: no busy machine explains that"
