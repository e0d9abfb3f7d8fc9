"""probes/mounts.py, on mountinfo as kernels write it."""

import pytest

from gpudoctor.probes import Machine
from gpudoctor.probes.mounts import mount_at, mount_of, mounts, parse

DOCKER = r"""
815 628 0:72 / / rw,relatime master:227 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c
816 815 0:75 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
820 815 0:80 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k,inode64
825 815 254:1 /home/me/my\040data /data rw,relatime master:1 - ext4 /dev/vda1 rw,discard
826 815 0:81 / /empty rw,relatime -  tmpfs  rw,size=4k
827 815 0:82 / /none rw,relatime shared:3 master:1 - tmpfs  rw,size=4k
828 815 0:83 / /odd\134040\043 rw,relatime - tmpfs odd\040source rw
829 815 0:84 / /data rw,relatime - tmpfs above rw
"""


@pytest.fixture(scope="module")
def found():
    return parse(DOCKER)


def test_fields(found):
    data = next(mount for mount in found if mount.target == "/data")

    assert data.root == "/home/me/my data"
    assert data.filesystem == "ext4"
    assert data.source == "/dev/vda1"
    assert data.options == ("rw", "relatime", "rw", "discard")
    assert data.device == "254:1"


def test_a_source_may_be_empty(found):
    (mount,) = (mount for mount in found if mount.target == "/none")

    assert (mount.filesystem, mount.source) == ("tmpfs", "")
    assert mount.options[-1] == "size=4k"


def test_escapes_are_undone_once(found):
    (mount,) = (mount for mount in found if mount.source == "odd source")

    assert mount.target == "/odd\\040#"


@pytest.mark.parametrize("text", ["", "\n", "nonsense", "1 2 0:1 / /x rw", "1 2 - a b"])
def test_what_is_no_mount_is_passed_over(text):
    assert parse(text) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        pytest.param("/", "overlay", id="the root"),
        pytest.param("/home/me", "overlay", id="on the root"),
        pytest.param("/dev/shm", "shm", id="a mount itself"),
        pytest.param("/dev/shm/x/y", "shm", id="inside"),
        pytest.param("/dev/shmoo", "overlay", id="only the same letters"),
        pytest.param("/data/x", "above", id="the last one mounted there"),
    ],
)
def test_mount_of_a_path(found, path, source):
    mount = mount_of(found, path)

    assert mount is not None
    assert mount.source == source


def test_from_outside_it_is_the_view_of_the_first_process(tmp_path):
    folder = tmp_path / "proc" / "1"
    folder.mkdir(parents=True)
    (folder / "mountinfo").write_text(DOCKER)
    machine = Machine(str(tmp_path))

    assert mounts(machine) == parse(DOCKER)
    assert mount_at(Machine(str(tmp_path / "nothing")), "/") is None
