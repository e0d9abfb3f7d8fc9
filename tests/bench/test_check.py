"""What a whole `gpudoctor check` costs: ratios to other programs in one run, and memory."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

RATIO = 8  # of the whole process to `python -c pass`
FASTER = 20  # than python -m torch.utils.collect_env
PEAK = 60 << 20  # bytes, of the largest process
IMPORT = 1.2  # of `gpudoctor check torch` to a bare `import torch`


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


def test_whole_check(installed, say):
    nothing = [f"{installed}/bin/python", "-c", "pass"]
    (idle, whole), peak = measure(15, nothing, [f"{installed}/bin/gpudoctor", "check"])
    ratio, mib = whole / idle, peak / (1 << 20)

    say(f"gpudoctor check takes {ratio:.1f} x `python -c pass`, budget {RATIO}")
    say(f"gpudoctor check takes {mib:.1f} MiB of memory at its peak, budget {PEAK >> 20}")
    assert peak <= PEAK
    assert ratio <= 2 * RATIO, "far beyond the budget: no busy machine explains that"


def test_faster_than_collect_env(installed, real_torch, say):
    collect_env = [str(real_torch), "-m", "torch.utils.collect_env"]

    (theirs, ours), _ = measure(3, collect_env, [f"{installed}/bin/gpudoctor", "check"])

    say(f"gpudoctor check is {theirs / ours:.0f} x faster than collect_env, budget {FASTER}")
    assert theirs / ours >= FASTER / 2, "far beyond the budget: no busy machine explains that"


def test_torch_costs_its_import(installed, real_torch, say):
    bare = [str(real_torch), "-c", "import torch"]
    check = [f"{installed}/bin/gpudoctor", "check", "torch", "--python", str(real_torch)]

    (imported, checked), _ = measure(3, bare, check)
    ratio = checked / imported

    say(f"gpudoctor check torch takes {ratio:.2f} x `import torch`, budget {IMPORT}")
    assert ratio <= 2 * IMPORT, "far beyond the budget: no busy machine explains that"
