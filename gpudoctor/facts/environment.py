"""Environment variables that matter to training: an allow-list of names, never a dump."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class LibraryDir(Struct, frozen=True, kw_only=True):
    """A directory of LD_LIBRARY_PATH and the libraries in it that shadow the wheels'."""

    path: str
    exists: bool
    libraries: tuple[str, ...] = ()  # libnccl.so.2, libcudnn.so.9, ...
    is_compat: bool = False  # CUDA forward compatibility
    is_stubs: bool = False


class Environment(Fact, frozen=True, kw_only=True):
    """Variables by name.

    `values` holds only names on the allow-list of `gpudoctor.redact`; `names` also those
    that look like a variable of NCCL, torch, CUDA or ROCm but are not known. Their values
    are not collected.
    """

    values: Mapping[str, str] = {}
    names: tuple[str, ...] = ()
    library_dirs: tuple[LibraryDir, ...] = ()
    preload: tuple[str, ...] = ()
