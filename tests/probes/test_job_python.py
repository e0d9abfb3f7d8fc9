"""probes/job_python.py: on real virtual environments, and on trees laid out like others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpudoctor import Absent, Demands, JobPython, Machine, PackageDemand, Packages
from gpudoctor.probes.job_python import job_python, packages

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


def install(folder: Path, *distributions: str) -> None:
    for distribution in distributions:
        (folder / f"{distribution}.dist-info").mkdir(parents=True)


def python_at(path: Path, link: Path | str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link is not None:
        path.symlink_to(link)
    else:
        path.write_bytes(b"\x7fELF")
        path.chmod(0o755)
    return path


def look(tmp_path: Path, python: str | None = None, **env: str) -> JobPython:
    """The job's Python when this is the whole environment."""
    env = {"HOME": str(tmp_path / "nobody"), **env}
    found = job_python(Machine(env=env, cwd=str(tmp_path), python=python))
    assert isinstance(found, JobPython)
    return found


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> Path:
    """A real virtual environment, without pip and so without a wait."""
    path = tmp_path_factory.mktemp("made") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    packages = path / "lib" / f"python{MINOR}" / "site-packages"
    install(packages, "torch-2.5.1+cu124", "nvidia_nccl_cu12-2.21.5", "click-8.1.7")
    (packages / "numpy-2.1.0-py3.12.egg-info").mkdir()
    return path


PACKAGES = {"torch": "2.5.1+cu124", "nvidia-nccl-cu12": "2.21.5", "numpy": "2.1.0"}


@pytest.mark.parametrize("how", ["VIRTUAL_ENV", "PATH", "--python", "--python, relative"])
def test_a_virtual_environment(venv, tmp_path, how):
    python = str(venv / "bin" / "python3")
    if how == "VIRTUAL_ENV":
        found = look(tmp_path, VIRTUAL_ENV=str(venv), PATH="/usr/bin")
    elif how == "PATH":
        found = look(tmp_path, PATH=f"{venv}/bin:/usr/bin")
    else:
        found = look(tmp_path, os.path.relpath(python, tmp_path) if "," in how else python)

    assert found.chosen_by == how.partition(",")[0]
    assert Path(found.path).parent == venv / "bin"
    assert found.version == MINOR
    assert found.packages == PACKAGES
    assert found.nccl == (2, 21)


def test_a_virtual_environment_sees_the_system_only_when_told(tmp_path):
    system = python_at(tmp_path / "usr" / "bin" / "python3.12")
    install(tmp_path / "usr/lib/python3.12/site-packages", "torch-2.4.0", "triton-3.0.0")
    python_at(tmp_path / "venv" / "bin" / "python", system)
    install(tmp_path / "venv/lib/python3.12/site-packages", "torch-2.5.1")
    config = tmp_path / "venv" / "pyvenv.cfg"

    config.write_text("version_info = 3.12.3.final.0\ninclude-system-site-packages = false\n")
    alone = look(tmp_path, VIRTUAL_ENV=str(tmp_path / "venv"))
    config.write_text("version = 3.12.3\ninclude-system-site-packages = true\n")
    both = look(tmp_path, VIRTUAL_ENV=str(tmp_path / "venv"))

    assert alone.packages == {"torch": "2.5.1"}
    assert both.packages == {"torch": "2.5.1", "triton": "3.0.0"}


def test_conda(tmp_path):
    python_at(tmp_path / "env" / "bin" / "python3.10")
    python_at(tmp_path / "env" / "bin" / "python", "python3.10")
    install(tmp_path / "env/lib/python3.10/site-packages", "torch-2.3.0")
    (tmp_path / "env/lib/python3.1").symlink_to("python3.10")  # as conda has it

    found = look(tmp_path, CONDA_PREFIX=str(tmp_path / "env"))

    assert (found.chosen_by, found.version) == ("CONDA_PREFIX", "3.10")
    assert found.packages == {"torch": "2.3.0"}


def test_debian_and_nvidia_images(tmp_path):
    python_at(tmp_path / "usr" / "bin" / "python3.12")
    python_at(tmp_path / "usr" / "bin" / "python3", "python3.12")
    local = "usr/local/lib/python3.12/dist-packages"
    install(tmp_path / local, "torch-2.6.0a0+ecf3bae40a.nv25.1", "transformer_engine-1.14")
    install(tmp_path / "usr/lib/python3/dist-packages", "numpy-1.26.4")
    install(tmp_path / "usr/lib/python3.11/site-packages", "triton-1")

    found = look(tmp_path, PATH=str(tmp_path / "usr" / "bin"))

    assert found.version == "3.12"
    assert found.packages == {
        "torch": "2.6.0a0+ecf3bae40a.nv25.1",
        "transformer-engine": "1.14",
        "numpy": "1.26.4",
    }
    assert found.nccl is None


def test_usr_local_as_in_the_python_image(tmp_path):
    python_at(tmp_path / "usr" / "local" / "bin" / "python3.13")
    python_at(tmp_path / "usr" / "bin" / "python3", "../local/bin/python3.13")
    install(tmp_path / "usr/local/lib/python3.13/site-packages", "jax-0.5.0")

    assert look(tmp_path, PATH=str(tmp_path / "usr/bin")).packages == {"jax": "0.5.0"}


def test_lib64_of_other_distributions(tmp_path):
    python_at(tmp_path / "usr" / "bin" / "python3.9")
    install(tmp_path / "usr/lib64/python3.9/site-packages", "numpy-1.26.4")

    assert look(tmp_path, str(tmp_path / "usr/bin/python3.9")).packages == {"numpy": "1.26.4"}


def test_free_threaded(tmp_path):
    python_at(tmp_path / "bin" / "python3.14t")
    install(tmp_path / "lib/python3.14t/site-packages", "numpy-2.3.0")

    found = look(tmp_path, str(tmp_path / "bin/python3.14t"))

    assert found.version == "3.14"
    assert found.packages == {"numpy": "2.3.0"}


@pytest.mark.parametrize(
    ("env", "torch"),
    [
        pytest.param({}, "9.0", id="the user's own come first"),
        pytest.param({"PYTHONNOUSERSITE": "1"}, "2.5.1", id="unless forbidden"),
        pytest.param({"PYTHONPATH": "{}/extra"}, "7.0", id="PYTHONPATH before all"),
    ],
)
def test_packages_of_the_user(tmp_path, env, torch):
    python_at(tmp_path / "usr" / "bin" / "python3.12")
    install(tmp_path / "usr/lib/python3.12/site-packages", "torch-2.5.1")
    install(tmp_path / "home/.local/lib/python3.12/site-packages", "torch-9.0")
    install(tmp_path / "extra", "torch-7.0")
    env = {name: value.format(tmp_path) for name, value in env.items()}

    found = look(tmp_path, str(tmp_path / "usr/bin/python3.12"), HOME=f"{tmp_path}/home", **env)

    assert found.packages == {"torch": torch}


SHIM = "#!/usr/bin/env bash\nexec pyenv exec python3\n"


@pytest.mark.parametrize(
    ("env", "global_version", "local_version", "expected"),
    [
        pytest.param({"PYENV_VERSION": "3.11.9"}, "3.12.1", "", "3.11", id="PYENV_VERSION"),
        pytest.param({}, "3.12.1", "", "3.12", id="global"),
        pytest.param({}, "3.12.1", "3.11", "3.11", id="local, newest patch release"),
        pytest.param({}, "3.11.9\n3.12.1\n", "", "3.11", id="several"),
        pytest.param({}, "system", "", "", id="system: not told"),
        pytest.param({}, "", "", "", id="not told"),
        pytest.param({"PYENV_VERSION": "3.9.9"}, "", "", "", id="not there"),
    ],
)
def test_a_pyenv_shim_is_no_interpreter(tmp_path, env, global_version, local_version, expected):
    root = tmp_path / "pyenv"
    shim = python_at(root / "shims" / "python3")
    shim.write_text(SHIM)
    for version in ("3.11.7", "3.11.9", "3.12.1"):
        minor = version.rpartition(".")[0]
        python_at(root / "versions" / version / "bin" / f"python{minor}")
        python_at(root / "versions" / version / "bin" / "python", f"python{minor}")
        install(root / f"versions/{version}/lib/python{minor}/site-packages", f"torch-{version}")
    (root / "version").write_text(global_version)
    if local_version:
        (tmp_path / ".python-version").write_text(local_version)

    found = look(tmp_path, PATH=str(root / "shims"), **env)

    assert found.version == expected
    assert found.packages.get("torch", "").startswith(expected)
    assert bool(found.packages) is bool(expected)


def test_under_another_root_links_stay_inside(tmp_path):
    python_at(tmp_path / "usr" / "bin" / "python3", "/etc/alternatives/python3")
    python_at(tmp_path / "etc" / "alternatives" / "python3", "/opt/py/bin/python3.11")
    python_at(tmp_path / "opt" / "py" / "bin" / "python3.11")
    install(tmp_path / "opt/py/lib/python3.11/site-packages", "vllm-0.8.0")

    found = job_python(Machine(root=str(tmp_path), env={}, python="/opt/py/bin/python3.11"))
    linked = job_python(Machine(root=str(tmp_path), env={"PATH": "/usr/bin"}))

    assert isinstance(found, JobPython)
    assert found.packages == {"vllm": "0.8.0"}
    assert isinstance(linked, JobPython | Absent)


@pytest.mark.parametrize("python", ["/nowhere/python", "nowhere/python", "python-nowhere"])
def test_what_was_asked_for_and_is_not_there_is_no_skip(tmp_path, python):
    found = job_python(Machine(env={"PATH": "/usr/bin"}, cwd=str(tmp_path), python=python))

    assert isinstance(found, Absent)
    assert found.broken
    assert "nowhere" in found.absent


def test_a_directory_named_python3_is_not_chosen(tmp_path, venv):
    (tmp_path / "tools" / "python3").mkdir(parents=True)

    found = look(tmp_path, PATH=f"{tmp_path}/tools:{venv}/bin")

    assert Path(found.path).parent == venv / "bin"


def test_without_any_python_gpudoctors_own_is_looked_at(tmp_path):
    found = look(tmp_path, PATH=str(tmp_path))

    assert found.chosen_by == "gpudoctor's own"
    assert found.version == MINOR


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ({"nvidia-nccl-cu12": "2.27.3"}, (2, 27)),
        ({"nvidia-nccl-cu13": "2.28rc1"}, (2, 28)),
        ({"nvidia-nccl-cu13": "unknown"}, None),
        ({"torch": "2.5"}, None),
    ],
)
def test_nccl(packages, expected):
    assert JobPython(path="p", chosen_by="PATH", packages=packages).nccl == expected


def test_all_packages_where_nodes_are_compared(venv):
    found = packages(Machine(env={}, python=str(venv / "bin" / "python"), told={"cluster": 1}))

    assert isinstance(found, Packages)
    assert found.versions == {**PACKAGES, "click": "8.1.7"}


def test_all_packages_are_left_alone_otherwise():
    some, none = PackageDemand(name="click"), Demands(by="--data", files=("a",))

    assert packages.unless is not None
    assert "--cluster" in packages.unless(Machine(told={}))
    assert "--profile" in packages.unless(Machine(demands=none))
    assert packages.unless(Machine(told={"cluster": 1})) == ""
    assert packages.unless(Machine(demands=Demands(packages=(some,)))) == ""


def test_packages_that_setup_py_put_there(tmp_path):
    python = python_at(tmp_path / "bin" / "python3.8")
    site = tmp_path / "lib/python3.8/site-packages"
    (site / "bmtrain-0.2.3.post2-py3.8-linux-x86_64.egg").mkdir(parents=True)
    (site / "PyTrie-0.4.0.egg-info").touch()
    for name, metadata in (("own", "Name: own\nVersion: 1.2\nSummary: x\n"), ("bare", None)):
        source = tmp_path / "src" / name
        (source / f"{name}.egg-info").mkdir(parents=True)
        if metadata:
            (source / f"{name}.egg-info" / "PKG-INFO").write_text(metadata)
        (site / f"{name}.egg-link").write_text(f"{source}\n.")

    found = packages(Machine(env={}, python=str(python)))

    assert isinstance(found, Packages)
    assert found.versions == {"bmtrain": "0.2.3.post2", "pytrie": "0.4.0", "own": "1.2", "bare": ""}
