"""Whole launch files: on good ones not a word, in bad ones what is wrong and nothing else.

Among them are the launch lines of NVIDIA's images, of CPM-9G's manual, of a guide to DDP on AMD
GPUs and of a table of shared memory, as people copy them.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor.launch.settings import EnvSet, EnvUnset, GpuDevices, Memory, Stack
from gpudoctor.lint import kinds
from gpudoctor.lint.source import BadLaunch, Source, edited

FILES = Path(__file__).with_name("files")
LINT = [sys.executable, "-m", "gpudoctor", "lint"]

BAD = {
    "Dockerfile": {"2 launch-ranks fail", "3 nccl-environment warn"},
    "apptainer.sbatch": {"3 launch-flags fail", "3 launch-nv warn"},
    "behind.sh": {"3 launch-flags fail"},
    "compose.yaml": {
        "5 launch-ipc warn",
        "7 launch-ranks fail",
        "8 nccl-environment warn",
        "11 launch-devices fail",
    },
    "docker-defaults.sh": {"1 shm-size fail"},
    "docker-gpus-comma.sh": {"1 launch-flags fail"},
    "docker-no-gpu.sh": {"1 launch-devices warn"},
    "docker-ranks.sh": {"2 launch-ranks fail"},
    "docker-stack.sh": {"1 limits-nofile warn", "1 limits-stack warn"},
    "first-node.sbatch": {"6 launch-tasks fail"},
    "hidden.sbatch": {"3 launch-ranks fail"},
    "job-shm.yaml": {"22 shm-cgroup warn"},
    "late.sbatch": {"4 launch-flags fail"},
    "mpi.yaml": {"21 shm-size fail"},
    "pod-no-shm.yaml": {"7 shm-size fail", "11 launch-ranks fail"},
    "podman-both.sh": {"1 launch-ipc fail"},
    "seed-amd-bridge.sh": {"1 launch-ports fail"},
    "seed-amd.sh": {"2 launch-flags fail", "7 launch-groups warn", "11 launch-ipc warn"},
    "seed-cpm.sh": {"1 launch-flags fail"},
    "seed-env.sh": {"1 launch-ranks fail"},
    "seed-nemo-both.sh": {"1 launch-ipc warn"},
    "underscore.sh": {"1 launch-flags fail"},
    "slip.yaml": {"5 launch-flags fail"},
    "srun.sh": {"1 launch-ranks fail"},
    "twice.sbatch": {
        "3 launch-tasks fail",
        "4 launch-ranks fail",
        "5 launch-flags fail",
        "7 nccl-environment warn",
        "8 limits-stack warn",
    },
}
# What a person must mend: which name, which GPUs, which order of lines is meant.
LEFT = {
    "compose.yaml": {"nccl-environment"},
    "late.sbatch": {"launch-flags"},
    "twice.sbatch": {"nccl-environment"},
}
SETTINGS = (
    GpuDevices(count=4),
    Memory(1 << 30),
    Stack(1 << 26),
    EnvSet("NCCL_DEBUG", "INFO"),
    EnvUnset("CUDA_VISIBLE_DEVICES"),
)
GOOD = sorted(path.name for path in (FILES / "good").iterdir())


def lint(*words: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LINT, *words], cwd=where, capture_output=True, text=True, check=False, timeout=60
    )


def judged(where: Path, *names: str) -> dict[str, list[dict]]:
    """The results by file, without those that were skipped."""
    ended = lint("-f", "json", *names, where=where)
    found: dict[str, list[dict]] = {}

    assert ended.returncode in (0, 1), ended.stderr
    for node in json.loads(ended.stdout)["nodes"]:
        results = [result for result in node["results"] if result["status"] != "skip"]
        found.setdefault(node["name"].partition(":")[0], []).extend(results)
    return found


@pytest.fixture(scope="module")
def good() -> dict[str, list[dict]]:
    return judged(FILES / "good", *GOOD)


@pytest.fixture(scope="module")
def bad() -> dict[str, list[dict]]:
    return judged(FILES / "bad", *BAD)


@pytest.mark.parametrize("name", GOOD)
def test_good(good, name):
    assert name in good  # a launch was found in it
    assert {result["status"] for result in good[name]} <= {"pass"}


@pytest.mark.parametrize("name", BAD)
def test_bad(bad, name):
    found = [result for result in bad[name] if result["status"] != "pass"]

    assert {f"{r['place']['line']} {r['id']} {r['status']}" for r in found} == BAD[name]
    assert {r["place"]["file"] for r in found} == {name}
    assert all(r["fixes"] for r in found)


def test_every_bad_file_is_expected():
    assert {path.name for path in (FILES / "bad").iterdir()} == set(BAD)


def test_corrected_files_are_good(require, tmp_path):
    require(shutil.which("patch"), "patch is not installed")
    for name in BAD:
        shutil.copy(FILES / "bad" / name, tmp_path)
        diff = lint("--diff", name, where=tmp_path).stdout
        if diff:
            subprocess.run(
                ["patch", "-s", name], input=diff, cwd=tmp_path, text=True, check=True, timeout=20
            )

    found = judged(tmp_path, *BAD)

    left = {
        name: {r["id"] for r in results if r["status"] != "pass"} for name, results in found.items()
    }
    assert {name: ids for name, ids in left.items() if ids} == LEFT


def test_good_files_are_left_as_they_are():
    ended = lint("--diff", *GOOD, where=FILES / "good")

    assert (ended.returncode, ended.stdout) == (0, "")


SCRIPTS = sorted(p for p in FILES.rglob("*") if p.suffix in (".sh", ".sbatch"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_file_torn_anywhere_is_read_or_refused_with_its_line(path):
    text, refusals = path.read_text(), []
    for end in range(0, len(text), 5):
        source = Source("torn.sh", text[:end])
        try:
            found = kinds.read(source)
        except BadLaunch as error:
            refusals.append(str(error))
            continue
        for launch in found:
            changed = edited(source, launch.edits(SETTINGS))
            assert len(kinds.read(Source("torn.sh", changed))) == len(found)

    assert [words for words in refusals if not re.match(r"line \d+: ", words)] == []
