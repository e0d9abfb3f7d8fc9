"""Look into a container image that is kept in a file: by headers and seeks."""

import io
import os
import stat
import time

from msgspec.structs import replace

from gpudoctor.facts.image_tar import END_MARK, ImageTar
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.probes.contents import ENOUGH, mistaken
from gpudoctor.probes.image_manifest import Kept
from gpudoctor.probes.tar import (
    BLOCK,
    Compressed,
    Corrupt,
    Cut,
    Garbled,
    Plain,
    Source,
    Unread,
    Walk,
)
from gpudoctor.snapshot import Absent

SECONDS = 4.0  # for reading; a compressed file is uncompressed so long
MOST = 20_000  # members; of an image there are some hundreds
UNREAD = ("xz", "zstd")  # the first may take gigabytes, the second is in no Python before 3.14
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"PK\x03\x04": "zip archive",
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"Rar!": "RAR archive",
    b"hsqs": "SquashFS image",
    b"#!/usr/bin/env run-singularity": "Apptainer image",
}
_ROOT_TREE = {"bin", "dev", "etc", "lib", "proc", "root", "sbin", "sys", "tmp", "usr", "var"}
NONE = "no image is asked for: --image-tar FILE, or `image-tar` of a profile"


def _unasked(machine: Machine) -> str:
    return "" if machine.demands and machine.demands.image_tar else NONE


@probe(isolated=True, timeout=SECONDS + 2, unless=_unasked)
def image_tar(machine: Machine) -> ImageTar | Absent:
    """Read the headers of the file that profile or option name."""
    if not machine.live:
        return Absent("the file is not known from --root")
    asked = machine.demands.image_tar if machine.demands else ""
    home = machine.env.get("HOME", "")
    if home and asked.startswith("~/"):
        asked = home + asked[1:]
    return read(os.path.join(machine.cwd or os.getcwd(), asked))


def read(path: str, seconds: float = SECONDS) -> ImageTar:
    """What is in a file that should be an image."""
    if os.path.isdir(path):
        return ImageTar(path=path, mistaken="directory")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        return ImageTar(path=path, error=error_words(error))
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return ImageTar(path=path, mistaken="device or pipe")
        start = file.read(ENOUGH)
        file.seek(0)
        beside = f"{path}.aria2"  # aria2 makes room for the whole file at once
        found = ImageTar(
            path=path,
            bytes=status.st_size,
            compression=_named(_COMPRESSIONS, start),
            mistaken=_mistaken(start),
            downloading=beside if os.path.exists(beside) else "",
        )
        if found.mistaken:
            return found
        if found.compression in UNREAD:
            return replace(found, unread=f"{found.compression} is not read here")
        return _walked(found, _source(file, found.compression, time.monotonic() + seconds))


def _mistaken(start: bytes) -> str:
    if not start:
        return "empty file"
    return mistaken(start) or _named(_OTHERS, start)


def _named(starts: dict[bytes, str], start: bytes) -> str:
    return next((name for begin, name in starts.items() if start.startswith(begin)), "")


def _source(file: io.FileIO, compression: str, until: float) -> Source:
    if compression == "gzip":
        import gzip

        return Compressed(gzip.GzipFile(fileobj=file), until)
    if compression == "bzip2":
        import bz2

        return Compressed(bz2.BZ2File(file), until)
    return Plain(file.fileno(), until)


def _walked(found: ImageTar, source: Source) -> ImageTar:
    walk, members, kept = Walk(source), 0, Kept()
    try:
        for member in walk:
            members += 1
            if members > MOST:
                raise Unread(f"more than {MOST} members")
            kept.take(member, source)
        if isinstance(source, Compressed):
            source.drain()
        elif source.end is not None:
            found = replace(found, unfilled=max(0, source.end - walk.at - 2 * BLOCK))
    except Corrupt as error:
        if not members and not isinstance(error, Garbled):
            return replace(found, mistaken=f"{found.compression} file that is no tar".strip())
        found = replace(found, corrupt=str(error))
    except Cut as cut:
        if not walk.at and isinstance(source, Plain):
            return replace(found, mistaken="file that is no tar")
        found = replace(found, cut=cut.inside or END_MARK, lacking=cut.lacking)
    except Unread as given_up:
        found = replace(found, unread=str(given_up))
    layout, images, corrupt = kept.images()
    return replace(
        found,
        at=walk.at,
        members=members,
        root_tree=len(kept.tops & _ROOT_TREE) >= 3,
        layout=layout,
        images=images,
        corrupt=found.corrupt or ("" if found.cut else corrupt),
    )
