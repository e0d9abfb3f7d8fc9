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
    answered: bool = True  # False: it hangs, as a directory on a dead network mount does

    def version_of(self, stem: str, major: int) -> tuple[int, ...]:
        """The version of a library by its longest name; () if there is none of this major.

        libnccl.so.2 and libnccl.so.2.18.3 are (2, 18, 3).
        """
        found = [
            tuple(map(int, name.removeprefix(f"{stem}.so.").split(".")))
            for name in self.libraries
            if name.startswith(f"{stem}.so.{major}")
        ]
        return max((v for v in found if v[0] == major), key=len, default=())


class Environment(Fact, frozen=True, kw_only=True):
    """Variables by name.

    `values` holds only names on the allow-list of `gpudoctor.redact`; `names` also those
    that look like a variable of NCCL, torch, CUDA or ROCm but are not known. Their values
    are not collected. `asked`: names that a profile asks about beside these; of their values
    only the one that it names itself, or an empty one, is told.
    """

    values: Mapping[str, str] = {}
    names: tuple[str, ...] = ()
    library_dirs: tuple[LibraryDir, ...] = ()
    preload: tuple[str, ...] = ()
    preload_missing: tuple[str, ...] = ()  # of those, paths where there is no file
    asked: tuple[str, ...] = ()
