"""probes/image.py: what tells of an image, and digests of directories that really are there."""

import os
from pathlib import Path

import pytest

from gpudoctor import Absent, Code, Image, Machine
from gpudoctor.probes import image as probes
from gpudoctor.probes.image import code, image

PODMAN = """engine="podman-4.3.1"
name="job"
id="5b0f"
image="docker.io/library/debian:12"
imageid="c6a5e1f0"
rootless=0
graphRootMounted=1
"""


@pytest.mark.parametrize(
    ("containerenv", "env", "wanted"),
    [
        pytest.param(
            PODMAN,
            {},
            Image(id="c6a5e1f0", name="docker.io/library/debian:12", told_by="/run/.containerenv"),
            id="podman",
        ),
        pytest.param("", {}, None, id="podman that tells nothing"),
        pytest.param(
            None,
            {"APPTAINER_CONTAINER": "/work/torch.sif"},
            Image(name="/work/torch.sif", told_by="APPTAINER_CONTAINER"),
            id="apptainer",
        ),
        pytest.param(
            None,
            {"NVIDIA_BUILD_ID": "134984"},
            Image(id="NVIDIA build 134984", told_by="NVIDIA_BUILD_ID"),
            id="an image of NVIDIA",
        ),
        pytest.param(None, {"NVIDIA_BUILD_ID": "<unknown>"}, None, id="built from it"),
        pytest.param(None, {}, None, id="healthy: docker, a host"),
    ],
)
def test_image(tmp_path, containerenv, env, wanted):
    if containerenv is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".containerenv").write_text(containerenv)

    found = image(Machine(root=str(tmp_path), env=env))

    assert found == wanted if wanted else isinstance(found, Absent) and not found.broken


def digest(folder: Path, where: str = "") -> Code:
    found = code(Machine(cwd=str(folder), told={"code": where or str(folder)}))
    assert isinstance(found, Code)
    return found


@pytest.fixture
def project(tmp_path) -> Path:
    """A small project."""
    folder = tmp_path / "project"
    (folder / "model").mkdir(parents=True)
    (folder / "train.py").write_text("import model\n")
    (folder / "model" / "net.py").write_text("layers = 3\n")
    (folder / "latest").symlink_to("model/net.py")
    return folder


def test_the_code_of_a_project(project):
    found = digest(project)

    assert (found.path, found.files, found.missing, found.error) == (str(project), 3, "", "")
    assert len(found.digest) == 64


def test_a_relative_path_is_that_of_the_job(project):
    assert digest(project, ".") == digest(project)


def test_where_it_stands_makes_no_difference(project, tmp_path):
    before = digest(project).digest
    project.rename(tmp_path / "elsewhere")

    assert digest(tmp_path / "elsewhere").digest == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: (p / "train.py").write_text("import other\n"), id="content"),
        pytest.param(lambda p: (p / "train.py").rename(p / "run.py"), id="name"),
        pytest.param(lambda p: (p / "new.yaml").write_text("lr: 1\n"), id="a new file"),
        pytest.param(lambda p: (p / "model" / "net.py").unlink(), id="a file less"),
        pytest.param(
            lambda p: ((p / "latest").unlink(), (p / "latest").symlink_to("train.py")), id="a link"
        ),
    ],
)
def test_a_change_shows(project, change):
    before = digest(project).digest
    change(project)

    assert digest(project).digest != before


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/net.cpython-312.pyc",
        ".git/HEAD",
        ".venv/bin/python",
        "wandb/run-1/files",
        "slurm-4711.out",
        "nohup.out",
        "train.log",
        "core.4711",
    ],
)
def test_what_a_run_writes_is_no_code(project, name):
    before = digest(project).digest
    (project / name).parent.mkdir(exist_ok=True, parents=True)
    (project / name).write_text("different on each node")

    assert digest(project).digest == before


def test_large_files_count_by_their_size(project, monkeypatch):
    monkeypatch.setattr(probes, "LARGE", 10)
    first = digest(project)
    (project / "train.py").write_text("import modeL\n")

    assert first.by_size == 2
    assert digest(project).digest == first.digest


def test_a_data_set_is_refused(project, monkeypatch):
    monkeypatch.setattr(probes, "MOST", 2)

    found = digest(project)

    assert found.digest == ""
    assert found.error.startswith("more than 2 files")


@pytest.mark.parametrize("where", ["nowhere", "project/train.py"])
def test_a_directory_that_is_not_there(project, where):
    found = digest(project.parent, where)

    assert found.missing.startswith(("ENOENT", "ENOTDIR"))
    assert found.digest == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(project):
    (project / "train.py").chmod(0)

    found = digest(project)

    assert "EACCES" in found.error


def test_a_pipe_does_not_hang_it(project):
    os.mkfifo(project / "pipe")

    assert digest(project).files == 3


def test_nobody_asked():
    assert code.unless is not None
    assert code.unless(Machine(told={})) == "asked for with --code DIR"
