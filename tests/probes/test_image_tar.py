"""probes/image_tar.py: tars that are really made, and then spoiled."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile

import pytest

from gpudoctor import Demands, Machine
from gpudoctor.probes.image_tar import image_tar, read

CONFIG = b'{"architecture": "amd64"}'
LAYER = bytes(range(256)) * 40


def member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def saved(*, tags=("lab/tiny:1.2",), without: str = "", before=(), format=tarfile.USTAR_FORMAT):
    """As `docker save` wrote it up to version 24."""
    names = [f"{index:064x}/layer.tar" for index in range(2)]
    manifest = [{"Config": f"{digest(CONFIG)}.json", "RepoTags": tags, "Layers": names}]
    parts = dict.fromkeys(names, LAYER) | {f"{digest(CONFIG)}.json": CONFIG}
    parts["manifest.json"] = json.dumps(manifest).encode()
    return tarred({**dict(before), **parts}, without, format)


def layout(*, annotations=None, docker: bool = False, without: str = ""):
    """An OCI layout, as podman writes it; with docker's manifest, as Docker does since 25."""
    parts: dict[str, bytes] = {}

    def blob(data: bytes) -> str:
        parts[f"blobs/sha256/{digest(data)}"] = data
        return f"sha256:{digest(data)}"

    config, layer = blob(b"{}"), blob(LAYER)
    manifest = {"config": {"digest": config}, "layers": [{"digest": layer}]}
    entry = {"digest": blob(json.dumps(manifest).encode()), "annotations": annotations}
    parts["index.json"] = json.dumps({"manifests": [entry]}).encode()
    if docker:
        one = {"Config": f"blobs/sha256/{digest(b'{}')}", "RepoTags": ["lab/tiny:1.2"]}
        layers = [f"blobs/sha256/{digest(LAYER)}"]
        parts["manifest.json"] = json.dumps([{**one, "Layers": layers}]).encode()
    return tarred(parts, without)


def tarred(parts, without: str = "", format=tarfile.USTAR_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as tar:
        for name, content in parts.items():
            if not without or without not in name:
                member(tar, name, content)
    return data.getvalue()


@pytest.fixture
def look(tmp_path):
    def look(data: bytes, **options):
        (tmp_path / "image.tar").write_bytes(data)
        return read(str(tmp_path / "image.tar"), **options)

    return look


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_whole_one(look, format):
    long = {f"{'d' * 120}/{'f' * 120}": b"1"}

    found = look(saved(before=long if format != tarfile.USTAR_FORMAT else {}, format=format))
    (image,) = found.images

    assert found.layout == "docker"
    assert image.tags == ("lab/tiny:1.2",)
    assert image.id == f"sha256:{digest(CONFIG)}"
    assert (image.layers, image.missing) == (2, ())
    assert [found.corrupt, found.cut, found.unread, found.mistaken] == [""] * 4


def test_cut_anywhere_is_never_whole(look):
    data = saved()
    end = len(data.rstrip(b"\0"))
    for size in range(1, end, 211):
        found = look(data[:size])
        whole = found.images and not any(image.missing for image in found.images)

        assert found.cut or found.mistaken, size
        assert not whole or found.cut == "the end mark", size


def test_cut_in_a_layer_says_how_much_is_missing(look):
    data = saved()

    found = look(data[:5000])

    assert found.cut.endswith("/layer.tar")
    assert found.lacking == 512 + len(LAYER) + 1024 - 5000


def test_cut_behind_the_last_member_lacks_only_the_end_mark(look):
    found = look(saved().rstrip(b"\0") + b"\0" * 10)

    assert found.cut in ("the end mark", "manifest.json")


def test_a_spoiled_header_is_corrupt_and_said_where(look):
    data = bytearray(saved())
    second = 512 + len(LAYER)
    data[second + 3] ^= 0xFF

    found = look(bytes(data))

    assert found.corrupt == "the check sum of a header is wrong"
    assert found.at == second


def test_room_that_was_never_filled(look):
    data = saved()
    hole = 512 + len(LAYER)

    found = look(data[:hole] + bytes(3 << 20))

    assert found.unfilled > 2 << 20
    assert not found.layout


def test_layers_that_are_not_in_it(look):
    (image,) = look(saved(without=f"{1:064x}")).images

    assert image.missing == (f"{1:064x}/layer.tar",)


def test_a_layer_may_be_a_link_to_another(look):
    data = io.BytesIO()
    manifest = [{"Config": "", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    with tarfile.open(fileobj=data, mode="w") as tar:
        member(tar, "c.tar", LAYER)
        for name, target in {"a/layer.tar": "../c.tar", "b/layer.tar": "../gone.tar"}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        member(tar, "manifest.json", json.dumps(manifest).encode())

    (image,) = look(data.getvalue()).images

    assert image.missing == ("b/layer.tar",)
    assert image.tags == ()


@pytest.mark.parametrize(
    ("annotations", "docker", "kind", "tags"),
    [
        pytest.param(None, False, "oci", (), id="nameless"),
        pytest.param(
            {"org.opencontainers.image.ref.name": "localhost/lab/tiny:1.2"},
            False,
            "oci",
            ("localhost/lab/tiny:1.2",),
            id="podman",
        ),
        pytest.param(
            {
                "io.containerd.image.name": "docker.io/lab/tiny:1.2",
                "org.opencontainers.image.ref.name": "1.2",
            },
            False,
            "oci",
            ("docker.io/lab/tiny:1.2",),
            id="containerd",
        ),
        pytest.param({}, True, "docker", ("lab/tiny:1.2",), id="Docker since 25"),
    ],
)
def test_an_oci_layout(look, annotations, docker, kind, tags):
    found = look(layout(annotations=annotations, docker=docker))

    assert found.layout == kind
    assert found.images[0].tags == tags
    assert found.images[0].id == f"sha256:{digest(b'{}')}"
    assert found.images[0].missing == ()


def test_an_oci_layout_without_its_layer(look):
    found = look(layout(without=digest(LAYER)))

    assert found.images[0].missing == (f"blobs/sha256/{digest(LAYER)}",)


def test_of_several_platforms_one_is_enough(look):
    inner = json.dumps({"config": {"digest": f"sha256:{digest(b'{}')}"}, "layers": []}).encode()
    here, gone = f"sha256:{digest(inner)}", "sha256:" + "0" * 64
    nested = json.dumps({"manifests": [{"digest": gone}, {"digest": here}]}).encode()
    index = json.dumps({"manifests": [{"digest": f"sha256:{digest(nested)}"}]}).encode()
    blobs = {f"blobs/sha256/{digest(data)}": data for data in (b"{}", inner, nested)}

    (image,) = look(tarred({**blobs, "index.json": index})).images

    assert image.missing == ()


@pytest.mark.parametrize(
    ("compress", "name"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2")],
    ids=["gzip", "bzip2"],
)
def test_compressed(look, compress, name):
    whole = look(compress(saved()))
    cut = look(compress(saved())[:-9])
    late = look(compress(saved()), seconds=-1)

    assert whole.compression == name
    assert whole.images[0].tags == ("lab/tiny:1.2",)
    assert [whole.corrupt, whole.cut, whole.unread] == [""] * 3
    assert cut.cut
    assert late.unread


def test_gzip_with_a_wrong_byte(look):
    data = bytearray(gzip.compress(saved(), compresslevel=0))
    data[len(data) // 2] ^= 0xFF

    assert look(bytes(data)).corrupt
    assert look(b"\x1f\x8b" + bytes(900)).corrupt


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"", "empty file", id="nothing"),
        pytest.param(b"<!DOCTYPE html><html>" + b" " * 900, "HTML page", id="page"),
        pytest.param(b"PK\x03\x04" + bytes(900), "zip archive", id="zip"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", id="LFS"),
        pytest.param(b"x" * 2000, "file that is no tar", id="anything"),
        pytest.param(gzip.compress(b"x" * 2000), "gzip file that is no tar", id="gzip of anything"),
        pytest.param(b"short", "file that is no tar", id="short"),
    ],
)
def test_what_is_no_tar(look, data, what):
    assert look(data).mistaken == what


def test_a_container_s_root_directory(look):
    found = look(tarred({"bin/sh": b"1", "etc/passwd": b"1", "usr/bin/env": b"1"}))

    assert found.root_tree
    assert not found.layout


@pytest.mark.parametrize("data", [b"\x28\xb5\x2f\xfd" + bytes(900), lzma.compress(b"1")])
def test_what_is_not_read_is_said(look, data):
    assert "is not read here" in look(data).unread


def test_a_directory_and_nothing(tmp_path):
    assert read(str(tmp_path)).mistaken == "directory"
    assert read(str(tmp_path / "no")).error.startswith("ENOENT")


def header(size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = size, kind
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(b"\x80" + b"\0" * 3 + b"\xff" * 8), id="an impossible size"),
        pytest.param(header(b"\xff" * 12), id="a negative size"),
        pytest.param(header(b"77777777777\0", b"x"), id="an extended header of gigabytes"),
        pytest.param(header(b"99999999999\0"), id="no number"),
        pytest.param(header(b"00000000000\0") * 30_000, id="members without end"),
        pytest.param(header(b"00000000012\0", b"x") + b"9 size=x\n\0" + bytes(502) * 2, id="pax"),
        pytest.param(tarred({"manifest.json": b"[" * 100_000}), id="a deep manifest"),
        pytest.param(tarred({"manifest.json": b'{"a": 1}'}), id="a manifest of something else"),
        pytest.param(tarred({"index.json": b"[]"}), id="an index of something else"),
        pytest.param(tarred({"index.json": b'{"manifests": [{"digest": "\xc2"}]}'}), id="no UTF-8"),
        pytest.param(bytes(2000), id="zeros"),
    ],
)
def test_hostile_ones_are_never_whole(look, data):
    found = look(data)

    assert not found.images


def test_twenty_gigabytes_are_read_by_headers(tmp_path):
    block = tarfile.TarInfo("0/layer.tar")
    block.size = 20 << 30
    path = tmp_path / "large.tar"
    with open(path, "wb") as file:
        file.write(block.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + block.size)
        file.write(saved())

    found = read(str(path))

    assert found.images[0].tags == ("lab/tiny:1.2",)
    assert found.bytes > 20 << 30


def test_time_is_kept_with_a_plain_one_too(look):
    assert look(saved(), seconds=-1).unread


def test_is_not_looked_at_unasked(tmp_path):
    unasked = image_tar.unless
    (tmp_path / "a.tar").write_bytes(saved())
    machine = Machine(cwd=str(tmp_path), demands=Demands(image_tar="a.tar"))

    assert unasked
    assert unasked(Machine())
    assert not unasked(machine)
    assert image_tar(machine).path == f"{tmp_path}/a.tar"
