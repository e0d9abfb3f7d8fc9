"""Real file systems: small, full, noexec, read-only, without inodes, and one that hangs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

import msgspec
import pytest

from gpudoctor import EnvSet, Status
from gpudoctor.report import Report, Result

pytestmark = pytest.mark.lab


@pytest.fixture
def check(in_mounts, gpudoctor, tmp_path):
    """`check(script)`: results of the topic after a script has changed what is mounted.

    The script finds a home, a /tmp and a working directory of the test's own.
    """
    for name in ("home", "tmp", "job"):
        (tmp_path / name).mkdir()
    own = {"HOME": f"{tmp_path}/home", "TMPDIR": f"{tmp_path}/tmp", "USER": "alice"}

    def run(script: str, **env: str) -> dict[str, Result]:
        ended = in_mounts(
            f"cd {tmp_path}\n{script}\ncd {tmp_path}/job",
            [gpudoctor, "check", "-f", "json", "--redact", "none", "storage"],
            env={"PATH": os.environ["PATH"], **own, **env},
        )
        assert ended.stdout, ended.stderr
        report = msgspec.json.decode(ended.stdout, type=Report)

        return {result.id: result for result in report.results}

    return run


def test_nothing_wrong(check, tmp_path):
    found = check("mount -t tmpfs -o size=40g none home")

    assert found["storage-writable"].status is Status.PASS
    assert not [*(tmp_path / "job").iterdir()]


@pytest.mark.parametrize(
    ("script", "id_", "status", "says"),
    [
        pytest.param(
            "mount -t tmpfs -o size=64m none tmp",
            "storage-space",
            Status.FAIL,
            "64 MiB of 64 MiB free",
            id="small tmp",
        ),
        pytest.param(
            "mount -t tmpfs -o size=2m none job; yes >job/full 2>&1 || :",
            "storage-space",
            Status.FAIL,
            "ENOSPC",
            id="full working directory",
        ),
        pytest.param(
            "mount -t tmpfs -o nr_inodes=3 none home; touch home/1 home/2",
            "storage-space",
            Status.FAIL,
            "home: ENOSPC",
            id="no inodes",
        ),
        pytest.param(
            "mount -t tmpfs -o size=40g,nr_inodes=1000 none home; touch $(seq -f home/%g 980)",
            "storage-space",
            Status.WARN,
            "19 of 1000 inodes free",
            id="few inodes",
        ),
        pytest.param(
            "mount -t tmpfs -o noexec none tmp",
            "storage-writable",
            Status.FAIL,
            "tmp/torchinductor_alice is noexec",
            id="noexec tmp",
        ),
        pytest.param(
            "mount -t tmpfs -o ro none home",
            "storage-writable",
            Status.FAIL,
            "EROFS: Read-only file system",
            id="read-only home",
        ),
        pytest.param(
            "mount -t tmpfs -o ro none job",
            "storage-writable",
            Status.WARN,
            "working directory",
            id="read-only working directory",
        ),
        pytest.param(
            "rm -rf tmp", "storage-writable", Status.WARN, "TMPDIR", id="TMPDIR is not there"
        ),
    ],
)
def test_fault(script, id_, status, says, check):
    found = check(script)[id_]

    assert found.status is status
    assert says in found.summary


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("mount -t tmpfs -o noexec none tmp", id="noexec tmp"),
        pytest.param("mount -t tmpfs -o ro none home", id="read-only home"),
        pytest.param("mount -t tmpfs -o ro none tmp", id="read-only tmp"),
        pytest.param("mkdir -p home/.cache; mount -t tmpfs -o ro none home/.cache", id="cache"),
        pytest.param("rm -rf tmp", id="TMPDIR is not there"),
    ],
)
def test_fix_puts_it_right(script, check):
    broken = check(script)["storage-writable"]
    env = {s.name: s.value for s in broken.settings if isinstance(s, EnvSet)}

    assert broken.status in (Status.FAIL, Status.WARN)
    assert check(script, **env)["storage-writable"].status is Status.PASS


@pytest.fixture
def user_without_name(installed, require):
    """`user_without_name(**env)`: the result of storage-writable for a uid nobody knows."""
    require(os.geteuid() == 0, "becoming another user needs root")
    require(shutil.which("setpriv"), "setpriv is not installed")
    become = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
    words = [*become, installed / "bin/python", "-m", "gpudoctor", "check", "-f", "json"]

    def run(**env: str) -> Result:
        ended = subprocess.run(
            [*words, "storage-writable"],
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            timeout=60,
            cwd="/tmp",
        )
        return msgspec.json.decode(ended.stdout, type=Report).results[0]

    return run


def test_a_user_without_a_name(user_without_name):
    broken = user_without_name(HOME="/tmp")
    put_right = user_without_name(HOME="/tmp", USER="uid4711")

    assert broken.status is Status.FAIL
    assert broken.summary == "uid 4711 has no name: no passwd entry, and USER is not set"
    assert broken.settings == (EnvSet("USER", "uid4711"),)
    assert put_right.status is Status.PASS


def test_a_home_that_belongs_to_somebody_else(user_without_name):
    broken = user_without_name(HOME="/root", USER="x")

    assert broken.status is Status.FAIL
    assert broken.summary == "HOME /root: EACCES: Permission denied"


@pytest.fixture
def hung(require, tmp_path) -> Iterator[str]:
    """A script that mounts a FUSE file system at ./mnt, whose process it then stops."""
    require(shutil.which("fuse-overlayfs"), "fuse-overlayfs is not installed")
    require(os.access("/dev/fuse", os.R_OK | os.W_OK), "/dev/fuse cannot be opened")
    (tmp_path / "lower").mkdir()
    (tmp_path / "mnt").mkdir()
    yield """
        fuse-overlayfs -o lowerdir=lower -f mnt >log 2>&1 </dev/null & echo $! >pid
        for i in $(seq 100); do mountpoint -q mnt && break; sleep 0.05; done
        mountpoint -q mnt
        kill -STOP $(cat pid)
    """
    with contextlib.suppress(OSError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_hung_mount_is_named(hung, check, tmp_path):
    found = check(hung)

    assert found["storage-mounts"].status is Status.FAIL
    assert found["storage-mounts"].summary.startswith(f"{tmp_path}/mnt (fuse.fuse-overlayfs")
    assert found["storage-writable"].status is Status.PASS, "no place is on it"


def test_a_place_on_a_hung_mount_does_not_lose_the_others(hung, check, tmp_path):
    found = check(hung, HF_HOME=f"{tmp_path}/mnt/models", TORCH_HOME=f"{tmp_path}/mnt/torch")

    assert found["storage-writable"].status is Status.FAIL
    assert re.search(r"TORCH_HOME .*: ETIMEDOUT: no answer", found["storage-writable"].summary)
    assert found["storage-space"].status is not Status.ERROR


def test_a_mount_whose_process_has_died(hung, check, tmp_path):
    found = check(f"{hung}\nkill -KILL $(cat pid)\nwait", HF_HOME=f"{tmp_path}/mnt/models")

    assert found["storage-mounts"].status is Status.WARN
    assert "ENOTCONN" in found["storage-mounts"].summary
    assert "HF_HOME" in found["storage-writable"].summary


def test_a_mount_that_answers(hung, check):
    found = check(f"{hung}\nkill -CONT $(cat pid)")

    assert found["storage-mounts"].status in (Status.PASS, Status.WARN), "slowly or not"
