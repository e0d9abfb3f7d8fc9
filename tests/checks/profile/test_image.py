"""checks/profile/image.py: what was found in a file that should be an image."""

import pytest

from gpudoctor import GIB, Absent, Demands, ImageTar, Status, TarImage
from gpudoctor.registry import get

ID = "sha256:" + "ab" * 32
GOOD = TarImage(id=ID, tags=("cpmlive-flash:0.0.4",), layers=12)


def judge(tar, tag: str = ""):
    demands = Demands(by="--image-tar", image_tar="image.tar", image_tag=tag)
    return get("profile-image")(demands, tar)


def tar(*images: TarImage, **more) -> ImageTar:
    layout = "docker" if images else ""
    told = {"bytes": 9 * GIB, "layout": layout, "images": images, "members": 40}
    return ImageTar(path="/data/image.tar", **{**told, **more})


@pytest.mark.parametrize(
    ("found", "tag", "status", "says"),
    [
        pytest.param(tar(GOOD), "", Status.PASS, "12 layers, 9 GiB", id="whole"),
        pytest.param(tar(GOOD), "cpmlive-flash:0.0.4", Status.PASS, "0.0.4", id="of this tag"),
        pytest.param(
            tar(TarImage(tags=("docker.io/library/busybox:latest",))),
            "busybox",
            Status.PASS,
            "busybox",
            id="the long name of the same",
        ),
        pytest.param(
            tar(TarImage(tags=("0.0.4",)), layout="oci"),
            "cpmlive-flash:0.0.4",
            Status.PASS,
            "0.0.4",
            id="an OCI layout that tells the tag alone",
        ),
        pytest.param(
            tar(GOOD, TarImage(tags=("other:1",))), "other:1", Status.PASS, "", id="one of two"
        ),
        pytest.param(
            tar(GOOD, cut="the end mark", lacking=1024), "", Status.PASS, "", id="no end mark"
        ),
        pytest.param(tar(GOOD, unfilled=9216), "", Status.PASS, "", id="padded"),
        pytest.param(
            tar(GOOD),
            "cpmlive-flash:0.0.5",
            Status.FAIL,
            "holds cpmlive-flash:0.0.4, not cpmlive-flash:0.0.5",
            id="another tag",
        ),
        pytest.param(
            tar(TarImage(id=ID, layers=2)), "a:1", Status.FAIL, f"holds {ID[:12]}", id="nameless"
        ),
        pytest.param(
            tar(TarImage(tags=("localhost/a:1",))),
            "a:1",
            Status.WARN,
            "docker does not",
            id="podman's name",
        ),
        pytest.param(
            tar(cut="3f2a/layer.tar", lacking=3 * GIB),
            "",
            Status.FAIL,
            "cut off at 9 GiB, 3 GiB or more are missing",
            id="broken off in a layer",
        ),
        pytest.param(
            tar(cut="the end mark", lacking=1024), "", Status.FAIL, "cut off", id="between members"
        ),
        pytest.param(
            tar(unfilled=GIB, at=5 * GIB), "", Status.FAIL, "only zeros from 5 GiB", id="unfilled"
        ),
        pytest.param(
            tar(GOOD, downloading="/data/image.tar.aria2"),
            "",
            Status.FAIL,
            "still being downloaded",
            id="on its way",
        ),
        pytest.param(
            tar(corrupt="the check sum of a header is wrong", at=4096),
            "",
            Status.FAIL,
            "corrupt at 4096",
            id="corrupt",
        ),
        pytest.param(
            tar(TarImage(layers=2, missing=("blobs/sha256/ab",))),
            "",
            Status.FAIL,
            "lacks 1 part of its own manifest",
            id="a layer is not in it",
        ),
        pytest.param(
            tar(root_tree=True), "", Status.FAIL, "file system of a container", id="docker export"
        ),
        pytest.param(
            tar(root_tree=True, unread="more than 20000 members"),
            "",
            Status.FAIL,
            "file system",
            id="a large one of docker export",
        ),
        pytest.param(tar(), "", Status.FAIL, "no image", id="some other tar"),
        pytest.param(
            tar(mistaken="HTML page", bytes=900), "", Status.FAIL, "HTML page", id="web page"
        ),
        pytest.param(
            ImageTar(path="/x.tar", error="ENOENT: No such file or directory"),
            "",
            Status.FAIL,
            "is not there",
            id="missing",
        ),
        pytest.param(
            ImageTar(path="/x.tar", error="EACCES: Permission denied"),
            "",
            Status.FAIL,
            "EACCES",
            id="unreadable",
        ),
        pytest.param(
            tar(compression="gzip", unread="only its first 2 GiB could be read in time"),
            "",
            Status.ERROR,
            "",
            id="not read to its end",
        ),
        pytest.param(
            tar(compression="zstd", unread="zstd is not read here"),
            "",
            Status.ERROR,
            "",
            id="of a kind that is not read",
        ),
    ],
)
def test_a_file(found, tag, status, says):
    finding = judge(found, tag)

    assert finding.status is status
    assert says in finding.summary


def test_what_was_not_read_is_told_with_the_command_that_reads_it():
    finding = judge(tar(compression="zstd", unread="zstd is not read here"))

    assert "zstd -t /data/image.tar" in finding.reason


def test_the_fix_of_a_wrong_tag_can_be_pasted():
    nameless = tar(TarImage(id=ID, layers=2))

    assert judge(tar(GOOD), "x:1").fix.commands == (
        "docker load -i /data/image.tar",
        "docker tag cpmlive-flash:0.0.4 x:1",
    )
    assert judge(nameless, "x:1").fix.commands[1] == f"docker tag {ID} x:1"


def test_a_root_directory_is_imported_by_the_name_that_is_asked_for():
    fix = judge(tar(root_tree=True), "cpmlive:1").fix

    assert fix.commands == ("docker import /data/image.tar cpmlive:1",)


def test_is_skipped_when_nothing_is_asked_for():
    assert get("profile-image")(Demands(by="profile"), Absent("none")).status is Status.SKIP


def test_is_unknown_when_nobody_looked():
    assert judge(Absent("of --root")).status is Status.ERROR
