"""Look into a container image that is kept in a file: by headers and seeks."""

import os
import stat
import time

from msgspec.structs import replace

from gpudoctor.facts.image_tar import ImageTar
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.probes.contents import ENOUGH, mistaken
from gpudoctor.snapshot import Absent

SECONDS = 4.0  # for reading; a compressed file is uncompressed so long
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
        from gpudoctor.probes.image_walk import walked

        return walked(found, file, time.monotonic() + seconds)


def _mistaken(start: bytes) -> str:
    if not start:
        return "empty file"
    return mistaken(start) or _named(_OTHERS, start)


def _named(starts: dict[bytes, str], start: bytes) -> str:
    return next((name for begin, name in starts.items() if start.startswith(begin)), "")
