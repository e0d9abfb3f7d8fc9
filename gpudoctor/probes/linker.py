"""Load a vendor's library as the dynamic linker finds it, and tell which file that is.

Only for isolated probes: loading runs foreign code.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gpudoctor.probes import Machine

# Where glibc and musl look last; what ld.so.conf names is in the cache.
DEFAULT_DIRS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


class Library(Struct, frozen=True):
    """A loaded library, or why there is none."""

    handle: Any = None
    file: str = ""
    error: str = ""


def load(*names: str) -> Library:
    """The first of these that can be loaded; otherwise the error that says most."""
    import ctypes

    missing: list[str] = []
    broken: list[str] = []
    for name in names:
        try:
            return Library(ctypes.CDLL(name), mapped_file(name))
        except OSError as failed:
            error = " ".join(str(failed).split())
            # One that is there and is broken says more than one that is not there.
            absent = error.startswith(f"{name}: cannot open shared object file: No such file")
            (missing if absent else broken).append(error)
    return Library(error=[*broken, *missing][0])


def mapped_file(name: str) -> str:
    """The real file behind a loaded library, whatever links led to it; else its name."""
    with open("/proc/self/maps") as maps:
        return parse_maps(maps.read(), name) or name


def parse_maps(text: str, name: str) -> str:
    """The file in /proc/PID/maps that carries the name, with any version after it."""
    stem = os.path.basename(name).partition(".so")[0]
    pattern = rf"^[^/\n]*(/.*/{re.escape(stem)}\.so[^/\n]*)$"
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].removesuffix(" (deleted)") if found else ""


def version_of(file: str) -> str:
    """The driver that a library of NVIDIA's belongs to: "570.172.08" of libcuda.so.570.172.08."""
    match = re.search(r"\.so\.(\d{3,}\.[\d.]+)$", file)
    return match[1] if match else ""


def is_compat(file: str) -> bool:
    """Whether a libcuda is that of a forward-compatibility package."""
    return re.search(r"/(cuda-)?compat(/|_)", file) is not None


def in_sight(machine: Machine, names: Sequence[str]) -> bool:
    """Whether the linker could find one of these, by the names of files alone."""
    folders = [*machine.env.get("LD_LIBRARY_PATH", "").split(":"), *DEFAULT_DIRS]
    if any(machine.exists(f"{folder}/{name}") for folder in folders if folder for name in names):
        return True
    cache = machine.text("/etc/ld.so.cache") or ""
    return any(name in cache for name in names)


def find(machine: Machine, *names: str) -> str:
    """The file that the linker would take for the first of these names; empty: none."""
    for name in names:
        if found := find_all(machine, re.escape(name)):
            return found[0]
    return ""


def find_all(machine: Machine, pattern: str) -> tuple[str, ...]:
    """Every file in the linker's folders whose whole name has this pattern, in its order."""
    first = machine.env.get("LD_LIBRARY_PATH", "").split(":")
    if prefix := machine.env.get("CONDA_PREFIX"):  # where conda's own libraries look
        first.append(f"{prefix}/lib")
    cache = machine.text("/etc/ld.so.cache") or ""
    cached = re.findall(rf"(/[^\0]*/{pattern})(?=\0|$)", cache)
    found = [
        *_in_folders(machine, first, pattern),
        *(path for path in cached if machine.exists(path)),
        *_in_folders(machine, DEFAULT_DIRS, pattern),
    ]
    return tuple(dict.fromkeys(found))


def _in_folders(machine: Machine, folders: Sequence[str], pattern: str) -> list[str]:
    listed = [(folder, machine.list(folder)) for folder in folders if folder.startswith("/")]
    return [f"{folder}/{n}" for folder, names in listed for n in names if re.fullmatch(pattern, n)]
