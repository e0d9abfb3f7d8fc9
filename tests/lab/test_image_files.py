"""Image files: what podman and docker write, and what docker says of a spoiled one."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from gpudoctor import Demands, Status
from gpudoctor.probes.image_tar import read
from gpudoctor.registry import get

from .conftest import podman_of, report_of

NAME = "localhost/lab/tiny:1.2"


@pytest.fixture(scope="module")
def saved(public, require):
    """`saved(*flags)`: the file that `podman save` writes of an image of two files."""
    require(os.geteuid() == 0, "podman's own storage in the lab needs root")
    require(shutil.which("podman"), "podman is not installed")
    folder = public / "images"
    (folder / "root/etc").mkdir(parents=True)
    (folder / "root/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "root/data").write_bytes(os.urandom(1 << 20))
    with tarfile.open(folder / "root.tar", "w") as tar:
        tar.add(folder / "root", arcname=".")
    env = podman_of(folder)

    def podman(*words: object) -> None:
        words = ("podman", "--log-level=error", *words)
        subprocess.run(list(map(str, words)), env=env, check=True, capture_output=True, timeout=60)

    podman("import", folder / "root.tar", NAME)
    (folder / "Containerfile").write_text(f"FROM {NAME}\nCOPY root/data /more\n")

    def save(*flags: str) -> Path:
        file = folder / f"{len(list(folder.iterdir()))}.tar"
        podman("save", *flags, "-o", file, NAME)
        return file

    return save


def judge(file: Path, tag: str = ""):
    demands = Demands(by="--image-tar", image_tar=str(file), image_tag=tag)
    return get("profile-image")(demands, read(str(file)))


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_podman_saves_is_whole(saved, kind):
    file = saved("--format", kind)

    assert judge(file, NAME).status is Status.PASS
    assert judge(file, "lab/tiny:1.2").status is Status.WARN
    assert judge(file, "lab/tiny:1.3").status is Status.FAIL


def test_docker_agrees(saved, docker, tmp_path):
    """What is called whole is loaded; what is called spoiled is not."""
    file = saved("--format", "docker-archive")
    data = file.read_bytes()
    cut, spoiled, root = (tmp_path / name for name in ("cut", "spoiled", "root"))
    cut.write_bytes(data[: len(data) // 2])
    spoiled.write_bytes(data[:3] + b"!" + data[4:])
    root.write_bytes((file.parent / "root.tar").read_bytes())
    for path in (file, cut, spoiled, root):
        loaded = docker.tell("load", "-i", path)

        assert (judge(path).status is Status.PASS) == (loaded.returncode == 0), loaded.stderr
    again = tmp_path / "again.tar"
    docker.tell("save", "-o", again, NAME)

    assert judge(again, NAME).status is Status.PASS


def test_by_the_command(saved, examine, tmp_path):
    file = saved("--format", "docker-archive")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(file.read_bytes()[:9000])

    def status(tar: Path) -> Status:
        only = ["--only", "profile-*", "--data", str(file), "--image-tar", str(tar)]
        (node,) = examine(*only, "--image-tag", NAME).nodes
        results = {result.id: result.status for result in node.results}

        assert results["profile-files"] is Status.PASS
        return results["profile-image"]

    assert status(file) is Status.PASS
    assert status(cut) is Status.FAIL


def test_a_mount_that_hangs_is_unknown_and_holds_nobody_up(require, in_mounts, gpudoctor, tmp_path):
    require(os.geteuid() == 0, "a FUSE mount in a namespace needs root")
    require(shutil.which("fuse-overlayfs"), "fuse-overlayfs is not installed")
    require(os.access("/dev/fuse", os.R_OK | os.W_OK), "/dev/fuse cannot be opened")
    script = f"""
        cd {tmp_path}
        mkdir lower mnt
        echo 1 >lower/data.bin
        fuse-overlayfs -o lowerdir=lower -f mnt >log 2>&1 </dev/null & server=$!
        until grep -q " {tmp_path}/mnt " /proc/mounts; do sleep 0.05; done
        kill -STOP $server
        (sleep 12; kill -KILL $server) >/dev/null 2>&1 </dev/null &
    """
    here = tmp_path / "here.bin"
    here.write_bytes(b"1")
    words = [gpudoctor, "check", "--only", "profile-files", "-f", "json", "--data", str(here)]
    (node,) = report_of(in_mounts(script, [*words, "--data", f"{tmp_path}/mnt/data.bin"])).nodes
    (result,) = node.results

    assert result.status is Status.ERROR
    assert "no answer" in result.reason
    assert "mnt/data.bin" in result.reason
    assert str(here) not in result.reason


def test_somebody_else_s_file_is_not_read(require, public, installed):
    """Where root runs the tests: opened by a user who may not."""
    require(os.geteuid() == 0, "it takes root to become somebody else")
    secret = public / "closed/data.bin"
    secret.parent.mkdir()
    secret.write_bytes(b"1")
    secret.parent.chmod(0o700)
    words = [
        "setpriv",
        "--reuid=12345",
        "--regid=12345",
        "--clear-groups",
        f"{installed}/bin/python",
    ]
    words += ["-m", "gpudoctor", "check", "--only", "profile-files", "--data", str(secret)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/")

    assert ended.returncode == 1, ended.stderr
    assert "uid 12345 may not read it" in ended.stdout
    assert f"chmod a+x {secret.parent}" in ended.stdout
