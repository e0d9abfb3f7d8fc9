"""The gpu lane: what gpudoctor says of real GPUs, beside what their own tools say.

Without a GPU it skips, in CI too. GPU_RECORD=DIR keeps what was collected there, for a table of
tests on machines that have none: look through the file for names before it goes anywhere.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from gpudoctor import Gpus
from gpudoctor.report import Report, Result

NONE = "no GPU on this machine: the gpu lane was not run"
HAS_GPU_TORCH = "import sys, torch; sys.exit(not torch.cuda.is_available())"


class Seen(NamedTuple):
    """A run of `gpudoctor check`."""

    report: Report

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.report.nodes[0].facts)

    @property
    def gpus(self) -> Gpus:
        return msgspec.convert(self.facts["gpus"], Gpus)

    def result(self, id_: str) -> Result:
        (found,) = [result for result in self.report.results if result.id == id_]
        return found


@pytest.fixture(scope="session")
def ask() -> Callable[..., str]:
    """`ask(tool, *words)`: what a vendor's tool prints; the test skips where it does not answer."""

    def run(tool: str, *words: str) -> str:
        if shutil.which(tool) is None:
            pytest.skip(f"{NONE} ({tool} is not installed)")
        ended = subprocess.run([tool, *words], capture_output=True, text=True, timeout=120)
        if ended.returncode:
            pytest.skip(f"{NONE} ({tool}: {(ended.stdout + ended.stderr).strip()[:100]})")
        return ended.stdout

    return run


@pytest.fixture(scope="session")
def torch_python() -> str:
    """A Python whose torch can use a GPU."""
    known = (os.environ.get("GPUDOCTOR_TORCH_PYTHON"), shutil.which("python3"), sys.executable)
    for python in filter(None, known):
        if subprocess.run([python, "-c", HAS_GPU_TORCH], capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python with a torch for this GPU; GPUDOCTOR_TORCH_PYTHON names one")


@pytest.fixture(scope="session")
def look(gpudoctor: str) -> Callable[..., Seen]:
    """`look(*words)`: what `gpudoctor check --deep` reports."""

    def check(*words: str) -> Seen:
        command = [gpudoctor, "check", "-f", "json", "--deep", "--deadline", "300", *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert ended.stdout, ended.stderr
        return Seen(msgspec.json.decode(ended.stdout, type=Report))

    return check


@pytest.fixture(scope="session")
def seen(look) -> Seen:
    """What is reported of the GPUs."""
    return look("gpu")


@pytest.fixture(scope="session", autouse=True)
def recorded(gpudoctor: str) -> None:
    """Keep the facts where GPU_RECORD asks for them and a GPU answers."""
    if folder := os.environ.get("GPU_RECORD"):
        file = Path(folder, "facts.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([gpudoctor, "collect", "-o", file], check=True, timeout=120)
        facts = json.loads(file.read_text())["nodes"][0]["facts"]
        name = next((gpu["name"] for gpu in facts["gpus"].get("devices", [])), "")
        if not name:
            file.unlink()
            pytest.skip(NONE)
        file.rename(file.with_name(f"{name.replace(' ', '-').lower()}.json"))
