"""checks/profile/files.py: what was found at the paths that are asked for."""

import pytest

from gpudoctor import Absent, Container, Demands, Status, WantedFile, WantedFiles
from gpudoctor.registry import get

DOCKER = Container(runtime="docker")


def judge(*found: WantedFile, asked=None, container=None):
    names = tuple(dict.fromkeys(file.asked for file in found)) if asked is None else asked
    return get("profile-files")(
        Demands(by="--data", files=names), WantedFiles(files=found, uid=1000), container
    )


def file(path: str = "/data/train.bin", **more) -> WantedFile:
    return WantedFile(asked=path, path=path, **{"kind": "file", "bytes": 4096, **more})


def nothing(path: str = "/data/train.bin", **more) -> WantedFile:
    return WantedFile(asked=path, path=path, error="ENOENT: No such file or directory", **more)


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(file(), Status.PASS, "1 file, 4 KiB: opened by uid 1000", id="a file"),
        pytest.param(file(kind="pair"), Status.PASS, "1 file", id="a pair by its prefix"),
        pytest.param(
            WantedFile(asked="d", path="/d", kind="directory", entries=3),
            Status.PASS,
            "1 directory",
            id="a directory",
        ),
        pytest.param(nothing(stops="/data"), Status.FAIL, "is not there", id="missing"),
        pytest.param(
            nothing(link="/nfs/train.bin"), Status.FAIL, "leads to /nfs/train.bin", id="dangling"
        ),
        pytest.param(
            file(error="EACCES: Permission denied", stops="/data/train.bin", mode=0o600),
            Status.FAIL,
            "uid 1000 may not read it",
            id="of somebody else",
        ),
        pytest.param(
            file(error="EIO: Input/output error"), Status.FAIL, "EIO: Input", id="disk error"
        ),
        pytest.param(file(bytes=0), Status.FAIL, "is empty: 0 bytes", id="of no length"),
        pytest.param(
            file(mistaken="HTML page"), Status.FAIL, "is no data: HTML page", id="web page"
        ),
        pytest.param(
            file(mistaken="Git LFS pointer"), Status.FAIL, "no data: Git LFS pointer", id="pointer"
        ),
        pytest.param(
            file(kind="pair", lacks="/data/train.bin.idx"),
            Status.FAIL,
            "/data/train.bin.idx is missing",
            id="half of a pair",
        ),
        pytest.param(
            WantedFile(asked="d", path="/d", kind="directory"),
            Status.FAIL,
            "/d is empty",
            id="an empty directory",
        ),
        pytest.param(
            WantedFile(asked="d", path="/d", kind="directory", entries=9, spoiled=("a: b",)),
            Status.WARN,
            "1 entry without data",
            id="pointers in a directory",
        ),
        pytest.param(file(kind="other"), Status.FAIL, "is no file", id="a pipe"),
        pytest.param(
            WantedFile(asked="f", path="/nfs/f", unseen="no answer in 3 s"),
            Status.ERROR,
            "",
            id="a dead server is unknown",
        ),
    ],
)
def test_one_path(found, status, says):
    finding = judge(found)

    assert finding.status is status
    assert says in finding.summary


def test_the_worst_comes_first_and_all_are_told():
    empty = WantedFile(asked="d", path="/d", kind="directory", entries=1, spoiled=("a: b",))

    finding = judge(file("/a"), empty, nothing("/b", stops="/"), nothing("/c", stops="/"))

    assert finding.status is Status.FAIL
    assert finding.summary == "/b is not there (and 2 more)"
    assert "/c is not there" in finding.evidence


def test_one_that_is_missing_counts_though_another_is_unknown():
    late = WantedFile(asked="f", path="/nfs/f", unseen="no answer in 3 s")

    finding = judge(late, nothing(stops="/data"))

    assert finding.status is Status.FAIL
    assert "/nfs/f: no answer in 3 s" in finding.evidence


def test_who_may_not_read_gets_the_command_that_lets_him():
    closed = file(error="EACCES: Permission denied", stops="/data", mode=0o700, owner=0)

    fix = judge(closed).fix

    assert fix.commands[0] == "sudo chmod a+x /data"
    assert fix.needs_root


def test_in_a_container_it_may_not_be_mounted():
    assert "mounted" in judge(nothing(stops="/"), container=DOCKER).fix.text
    assert "mounted" not in judge(nothing(stops="/")).fix.text


def test_is_skipped_when_nothing_is_asked_for():
    assert judge(asked=()).status is Status.SKIP


def test_is_unknown_when_nobody_looked():
    demands = Demands(by="--data", files=("/data",))

    assert judge(asked=("/data",)).status is Status.ERROR
    assert get("profile-files")(demands, Absent("of --root"), None).status is Status.ERROR
