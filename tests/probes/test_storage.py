"""probes/storage.py: real directories, and mounts as recorded."""

import os
from pathlib import Path

import pytest

from gpudoctor import Absent, Machine, NetworkMounts, Place, Storage
from gpudoctor.probes.mounts import parse
from gpudoctor.probes.storage import network_mounts, networked, storage, without_credentials


@pytest.fixture
def machine(tmp_path):
    """A job whose every place is in the test's own directory."""
    for name in ("home", "tmp", "job"):
        (tmp_path / name).mkdir()
    env = {"HOME": f"{tmp_path}/home", "TMPDIR": f"{tmp_path}/tmp", "USER": 'a"l*ice'}
    return Machine(env=env, cwd=f"{tmp_path}/job")


def places(machine: Machine, **env: str) -> dict[str, Place]:
    """Places by the variable that moves them, else by their role."""
    found = storage(Machine(env={**machine.env, **env}, cwd=machine.cwd))

    assert isinstance(found, Storage)
    return {place.moved_by or place.role: place for place in found.places}


def test_a_plain_job(machine, tmp_path):
    found = places(machine)

    assert [*found] == [
        "TMPDIR",
        "working directory",
        "HOME",
        "XDG_CACHE_HOME",
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "root",
    ]
    assert found["TMPDIR"].path == f"{tmp_path}/tmp"
    assert found["XDG_CACHE_HOME"].path == f"{tmp_path}/home/.cache"
    assert found["TRITON_CACHE_DIR"].path == f"{tmp_path}/home/.triton/cache"
    assert found["TORCHINDUCTOR_CACHE_DIR"].path == f"{tmp_path}/tmp/torchinductor_a_l_ice"
    assert {place.write_error for name, place in found.items() if name != "root"} == {""}
    assert {name for name, place in found.items() if place.builds} == {
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
    }


def test_space_is_what_statvfs_says(machine, tmp_path):
    here = places(machine)["working directory"]
    real = os.statvfs(tmp_path)

    assert here.total_bytes == real.f_blocks * real.f_frsize
    assert here.inodes == (real.f_files or None)
    assert Path(here.mount).is_mount()


def test_nothing_stays_behind_and_nothing_is_made(machine, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    places(machine, TORCH_HOME=f"{tmp_path}/new/torch")

    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_exist_is_judged_by_its_nearest_parent(machine, tmp_path):
    found = places(machine, TORCH_HOME=f"{tmp_path}/new/torch")["TORCH_HOME"]

    assert not found.exists
    assert found.named_by == "TORCH_HOME"
    assert found.write_error == ""


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda path: path.write_text(""), "ENOTDIR", id="a file"),
        pytest.param(lambda path: path.symlink_to("/nowhere/x"), "ENOENT", id="a dangling link"),
        pytest.param(lambda path: path.symlink_to(path), "ELOOP", id="a link to itself"),
    ],
)
@pytest.mark.parametrize("below", ["", "/torch"])
def test_what_is_no_directory(make, error, below, machine, tmp_path):
    make(tmp_path / "odd")
    found = places(machine, TORCH_HOME=f"{tmp_path}/odd{below}")["TORCH_HOME"]

    # Below a dangling link the path does not exist, but what is there is the link.
    assert found.write_error.startswith(error)


def test_default_caches_that_exist_may_belong_to_somebody_else(machine, tmp_path):
    (tmp_path / "home/.cache").mkdir()
    (tmp_path / "home/.cache/huggingface").write_text("")
    found = places(machine)

    assert found["HF_HOME"].write_error.startswith("ENOTDIR")
    assert found["HF_HOME"].named_by == ""
    assert "TORCH_HOME" not in found


@pytest.mark.parametrize(
    ("env", "name", "path"),
    [
        pytest.param({"HF_HOME": "hf"}, "HF_HOME", "{}/job/hf", id="relative"),
        pytest.param({"HF_HOME": "~/hf"}, "HF_HOME", "{}/home/hf", id="tilde"),
        pytest.param({"TRITON_HOME": "/t"}, "TRITON_CACHE_DIR", "/t/.triton/cache", id="triton"),
        pytest.param({"XDG_CACHE_HOME": "/c"}, "XDG_CACHE_HOME", "/c", id="cache"),
        pytest.param({"HOME": ""}, "HOME", "/", id="empty HOME"),
        pytest.param({"HOME": "h"}, "HOME", "{}/job/h", id="relative HOME"),
    ],
)
def test_paths(env, name, path, machine, tmp_path):
    assert places(machine, **env)[name].path == path.format(tmp_path)


@pytest.mark.parametrize(("value", "looked_at"), [("1", False), ("true", False), ("0", True)])
def test_offline_nothing_is_written_to_the_models(value, looked_at, machine):
    assert ("HF_HOME" in places(machine, HF_HOME="/models", HF_HUB_OFFLINE=value)) is looked_at


def test_temporary_directories_are_tried_as_python_tries_them(machine, tmp_path):
    env = {"TMPDIR": f"{tmp_path}/gone", "TMP": f"{tmp_path}/tmp"}
    found = storage(Machine(env={**machine.env, **env}, cwd=machine.cwd))
    tried = [place for place in found.places if place.role == "temporary files"]

    assert [(place.named_by, place.exists) for place in tried] == [("TMPDIR", False), ("TMP", True)]
    assert any(place.path == f"{tmp_path}/tmp/torchinductor_a_l_ice" for place in found.places)


def test_nothing_is_written_under_a_root(tmp_path):
    assert isinstance(storage(Machine(str(tmp_path))), Absent)


MOUNTINFO = r"""
1 0 254:1 / / rw - ext4 /dev/vda1 rw
2 1 0:21 / /proc rw - proc proc rw
3 1 0:40 / /home rw - autofs auto.home rw
4 1 0:41 / /home/alice rw - nfs4 nas:/home rw,addr=10.0.0.2
5 1 0:41 /x /mnt/again rw - nfs4 nas:/home rw,addr=10.0.0.2
6 1 0:42 / /scratch rw - lustre 10.0.0.1@o2ib:10.0.0.3@o2ib:/scratch rw
7 1 0:43 / /models rw - fuse.gcsfuse models rw
8 1 0:44 / /bucket rw - fuse s3fs rw
9 1 0:45 / /win rw - cifs //me:secret@server/share rw
10 1 0:46 / /run/user/1000/doc rw - fuse.portal portal rw
11 1 0:47 / /run/user/1000/gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw
12 1 0:48 / /sys/fs/fuse/connections rw - fusectl fusectl rw
13 1 0:49 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
14 1 0:50 / /weka rw - wekafs default rw
15 1 0:51 / /nfsd rw - nfsd nfsd rw
"""


def test_networked():
    found = [mount.target for mount in networked(parse(MOUNTINFO))]

    assert found == ["/home/alice", "/scratch", "/models", "/bucket", "/win", "/weka"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nas:/home", "nas:/home"),
        ("[fe80::1]:/home", "[fe80::1]:/home"),
        ("//server/share", "//server/share"),
        ("//me:secret@server/share", "//server/share"),
        ("https://me:secret@dav.example.com/x?sig=abc", "https://dav.example.com/x"),
        ("me:secret@host:/x", "host:/x"),
        ("me@host:/x", "me@host:/x"),
        ("10.0.0.1@o2ib:10.0.0.3@o2ib:/scratch", "10.0.0.1@o2ib:10.0.0.3@o2ib:/scratch"),
        ("s3fs", "s3fs"),
        ("", ""),
    ],
)
def test_without_credentials(source, expected):
    assert without_credentials(source) == expected


def test_every_network_mount_of_this_machine_is_asked():
    found = network_mounts(Machine())

    assert isinstance(found, NetworkMounts)
    assert all(mount.answered or mount.error for mount in found.mounts)
