"""What all lanes share: where a test belongs, what it needs, and what it runs."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LANES = ("unit", "lab", "gpu", "browser", "bench", "pythons")  # in the order in which they run
# The build for processors: the plain one brings gigabytes of CUDA. PyPI does not have it.
TORCH = "torch==2.13.0+cpu"

Require = Callable[[object, str], None]


def pytest_configure() -> None:
    """What we start may die of signals, also where nohup or a shell's & has us ignore them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is in the lane that its directory names, everything else in `unit`."""
    for item in items:
        if not any(item.get_closest_marker(lane) for lane in LANES):
            top = item.path.relative_to(ROOT / "tests").parts[0]
            item.add_marker(top if top in LANES else "unit")
    items.sort(key=lambda item: [item.get_closest_marker(lane) is None for lane in LANES])


@pytest.fixture(scope="session")
def require() -> Require:
    """Ask for what a test needs: without it a laptop skips, but CI, which has it, fails."""

    def ask(condition: object, reason: str) -> None:
        if not condition:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)

    return ask


@pytest.fixture(scope="session")
def gpudoctor() -> str:
    """The console script beside the Python that runs the tests."""
    return str(Path(sys.executable).with_name("gpudoctor"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository as it would be fetched: a build leaves nothing in ours."""
    copy = tmp_path_factory.mktemp("tree") / "gpudoctor"
    built = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    return Path(shutil.copytree(ROOT, copy, ignore=built))


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(folder),
        str(tree),
    ]
    subprocess.run(command, check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def public() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are for one user only."""
    folder = Path(tempfile.mkdtemp(prefix="gpudoctor-lab-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def installed(public, request, require) -> Path:
    """A virtual environment with the wheel, of a Python that every user may run."""
    if "LAB_INSTALLED" in os.environ:  # test_vm.py: there is no network to install from
        return Path(os.environ["LAB_INSTALLED"])
    wheel = request.getfixturevalue("wheel")
    own = os.path.realpath(sys.executable)
    pythons = [python for python in (own, "/usr/bin/python3") if _open_to_all(Path(python))]
    require(pythons, "no Python here that other users may run")
    folder = public / "installed"
    subprocess.run([pythons[0], "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    subprocess.run([*pip, "install", "-q", str(wheel)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def real_torch(public) -> Path:
    """A Python that has the real PyTorch; where none can be had, CI has no way to it either."""
    if "GPUDOCTOR_TORCH_PYTHON" in os.environ:
        return Path(os.environ["GPUDOCTOR_TORCH_PYTHON"])
    pythons = filter(None, map(shutil.which, (sys.executable, "python3.11")))
    for number, python in enumerate(dict.fromkeys(pythons)):
        folder = public / f"torch{number}"
        made = subprocess.run([python, "-m", "venv", "--without-pip", folder], capture_output=True)
        if made.returncode:  # one of pyenv's that does not start
            continue
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install"]
        # What is imported is compiled then; the rest, most of it, never.
        ended = subprocess.run([*pip, "-q", "--no-compile", TORCH], capture_output=True)
        if ended.returncode == 0:
            subprocess.run([folder / "bin/python", "-c", "import torch"], check=True)
            return folder / "bin/python"
    pytest.skip(f"pip finds no {TORCH} here, and GPUDOCTOR_TORCH_PYTHON names no Python with it")


def _open_to_all(path: Path) -> bool:
    return path.exists() and all(parent.stat().st_mode & 0o005 == 5 for parent in path.parents)
