"""probes/files.py: real files, links, pairs and patterns."""

import os

import pytest

from gpudoctor import Absent, Demands, Machine
from gpudoctor.probes.contents import mistaken
from gpudoctor.probes.files import MOST, wanted_files

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def look(folder, *asked: str, **env: str):
    machine = Machine(cwd=str(folder), env=env, demands=Demands(files=asked))
    return wanted_files(machine).files


def one(folder, asked: str):
    (found,) = look(folder, asked)
    return found


def test_a_file_is_opened(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x" * 5000)

    found = one(tmp_path, "a.bin")

    assert (found.kind, found.bytes, found.error) == ("file", 5000, "")
    assert found.path == f"{tmp_path}/a.bin"


def test_what_is_not_there_says_how_far_it_goes(tmp_path):
    found = one(tmp_path, "data/x/a.bin")

    assert found.error.startswith("ENOENT")
    assert found.stops == str(tmp_path)


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "a").symlink_to("/nowhere/a")

    assert one(tmp_path, "a").link == "/nowhere/a"


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        pytest.param(("bin", "idx"), "", id="both"),
        pytest.param(("bin",), "t.idx", id="without its index"),
        pytest.param(("idx",), "t.bin", id="without its data"),
    ],
)
def test_a_pair_is_called_by_its_prefix(tmp_path, there, lacks):
    for half in there:
        (tmp_path / f"t.{half}").write_bytes(b"MMIDIDX")

    found = one(tmp_path, "t")

    assert found.kind == "pair"
    assert os.path.basename(found.lacks) == lacks
    assert not found.error


def test_a_pair_is_no_better_than_its_worse_half(tmp_path):
    (tmp_path / "t.bin").write_bytes(POINTER)
    (tmp_path / "t.idx").write_bytes(b"MMIDIDX")

    assert one(tmp_path, "t").mistaken == "Git LFS pointer"


def test_a_directory_is_looked_into(tmp_path):
    (tmp_path / "model").mkdir()
    empty = one(tmp_path, "model")
    (tmp_path / "model/README.md").write_text("version 2 of this model")
    (tmp_path / "model/model.safetensors").write_bytes(POINTER)
    (tmp_path / "model/config.json").symlink_to("../../blobs/ab")
    found = one(tmp_path, "model")

    assert (empty.kind, empty.entries) == ("directory", 0)
    assert found.entries == 3
    assert found.spoiled == (
        "config.json: leads to ../../blobs/ab, which is not there",
        "model.safetensors: Git LFS pointer",
    )


def test_a_pattern_means_its_matches(tmp_path):
    for name in ("a-1.bin", "a-2.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"1")

    assert [os.path.basename(file.path) for file in look(tmp_path, "a-*.bin")] == [
        "a-1.bin",
        "a-2.bin",
    ]
    assert one(tmp_path, "c-*.bin").error.startswith("ENOENT")


def test_a_file_may_be_called_like_a_pattern(tmp_path):
    (tmp_path / "a[1].bin").write_bytes(b"1")

    assert one(tmp_path, "a[1].bin").kind == "file"


def test_home(tmp_path):
    (tmp_path / "a").write_bytes(b"1")

    assert look("/", "~/a", HOME=str(tmp_path))[0].kind == "file"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert one(tmp_path, "pipe").kind == "other"


def test_an_address_is_not_looked_for(tmp_path):
    assert one(tmp_path, "s3://bucket/a").unseen == "an address, not a file"


def test_who_may_not_read(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything; tests/lab has it for root")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0)

    found = one(tmp_path, "a")

    assert found.error.startswith("EACCES")
    assert found.mode == 0


def test_more_than_can_be_looked_at_is_said(tmp_path):
    found = look(tmp_path, *(f"{number}" for number in range(MOST + 3)))

    assert sum(bool(file.unseen) for file in found) == 3


def test_is_not_looked_at_unasked():
    unasked = wanted_files.unless
    assert unasked
    assert unasked(Machine())
    assert unasked(Machine(demands=Demands(image_tar="x")))
    assert not unasked(Machine(demands=Demands(files=("x",))))
    assert isinstance(wanted_files(Machine(root="/x", demands=Demands(files=("x",)))), Absent)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        pytest.param(POINTER, "Git LFS pointer", id="pointer"),
        pytest.param(b"\xef\xbb\xbf\r\n <!DOCTYPE html><p>", "HTML page", id="page"),
        pytest.param(
            b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code>',
            "XML error message",
            id="of an object store",
        ),
        pytest.param(b"404: Not Found", "error message", id="of a web server"),
        pytest.param(b'<?xml version="1.0"?>\n<data/>', "", id="healthy: XML"),
        pytest.param(b"MMIDIDX\0\0", "", id="healthy: an index of Megatron"),
        pytest.param(b'{"error": 3}', "", id="healthy: JSON"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_what_was_saved_in_place_of_data(start, what):
    assert mistaken(start) == what
