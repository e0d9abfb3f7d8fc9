"""The wheel on every Python: installed where there is no compiler, and run.

On the oldest and the newest all unit tests run too; those between have nothing of their own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}  # of Debian, by their python3
TOOLS = (
    *("jsonschema", "kubernetes-validate", "markdown-it-py", "prometheus-client", "pytest"),
    *("pytest-xdist", "xmlschema"),
)
# These look at the repository, not at what is installed.
ELSEWHERE = ("test_packaging.py", "test_readme.py")
PIP = [sys.executable, "-m", "pip", "-q"]


def run(*words: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints; it finds no compiler and no tree of ours where it runs."""
    env = {**os.environ, "CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "CI"):
        env.pop(name, None)
    ended = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, timeout=600)

    print(ended.stdout[-8000:], ended.stderr[-4000:])
    assert ended.returncode in codes, f"{words[-1]} ended with {ended.returncode}"
    return ended.stdout


def find(version: str) -> str | None:
    """An interpreter of that version that starts; pyenv's shims may be there and not start."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    names = [sys.executable, f"python{version}", "python3", "/usr/bin/python3"]
    for name in [*names, *sorted(map(str, pyenv.glob(f"{version}.*/bin/python3")))]:
        python = shutil.which(name)
        if python is not None:
            tried = subprocess.run([python, "-c", script], capture_output=True, text=True)
            if tried.stdout.strip() == version:
                return python
    return None


@pytest.fixture
def install(wheel, tree, tmp_path):
    """Put the wheel and what its tests need into an environment of a Python of this machine."""

    def install(python: str) -> tuple[list[str], Path]:
        folder = tmp_path / "environment"
        run(python, "-m", "venv", "--without-pip", folder)
        pip = [*PIP, "--python", f"{folder}/bin/python", "install"]
        run(*pip, "--only-binary=:all:", wheel, *TOOLS)
        return [str(folder / "bin/python")], tree

    return install


@pytest.fixture
def install_in_debian(wheel, tree, require) -> Iterator:
    """The same for a Python that only another release of Debian has."""
    root = Path(tempfile.mkdtemp(prefix="gpudoctor-debian-", dir="/var/tmp"))

    def install(version: str) -> tuple[list[str], Path]:
        require(shutil.which("debootstrap"), "debootstrap is not installed")
        # Its script is named: an older debootstrap does not know the newest release.
        base = ["--variant=minbase", "--include=python3-venv", SUITES[version], str(root)]
        run("debootstrap", *base, "", "sid")
        mounts = "mount --bind $0 $0; for d in proc sys dev; do mount --rbind /$d $0/$d; done"
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        enter += [f'{mounts}; exec chroot $0 "$@"', str(root)]
        if version not in run(*enter, "python3", "--version"):
            pytest.skip(f"Debian {SUITES[version]} has no Python {version} any more")
        wanted = ["--only-binary=:all:", "--python-version", version, wheel, *TOOLS]
        run(*PIP, "download", "-d", root / "opt/wheels", *wanted)
        run(*enter, "python3", "-m", "venv", "/opt/environment")
        pip = ["/opt/environment/bin/pip", "install", "-q", "--no-index"]
        run(*enter, *pip, "--find-links=/opt/wheels", "gpudoctor", *TOOLS)
        shutil.copytree(tree, root / "opt/tree")
        return [*enter, "/opt/environment/bin/python"], Path("/opt/tree")

    yield install
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_wheel(version, install, install_in_debian):
    own = find(version)
    if own is None and (os.geteuid() != 0 or version not in SUITES):
        pytest.skip(f"there is no Python {version} here")
    python, tree = install(own) if own else install_in_debian(version)

    report = json.loads(run(*python, "-m", "gpudoctor", "check", "-f", "json", codes=(0, 1, 3)))
    listed = run(*python, "-m", "gpudoctor", "list")
    where = run(*python, "-c", "import gpudoctor; print(gpudoctor.__file__)")

    assert "site-packages" in where, "it is the wheel that is tested"
    assert report["nodes"][0]["results"]
    assert "shm-size" in listed
    if version in (VERSIONS[0], VERSIONS[-1]):
        assert " passed" in unit_tests(python, tree)


def unit_tests(python: list[str], tree: Path) -> str:
    tests: list[str | Path] = [
        "-m",
        "pytest",
        "-q",
        "-m",
        "unit",
        "-n",
        "auto",
        "-p",
        "no:cacheprovider",
        "-c",
        tree / "pyproject.toml",
    ]
    skipped = [f"--ignore={tree}/tests/{name}" for name in ELSEWHERE]
    return run(*python, *tests, *skipped, tree / "tests")
