"""Files that the job will read: the data that a profile or `--data` names."""

from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact


class WantedFile(Struct, frozen=True, kw_only=True):
    """One path that was asked for, or one that its pattern found.

    Attributes:
        asked: as the profile or the option has it.
        path: absolute, where it was looked for.
        unseen: why nobody knows what is there, as that a server did not answer.
        kind: what is there; empty: nothing. A pair is PATH.bin and PATH.idx.
        error: of opening it: "EACCES: Permission denied".
        link: where a symbolic link points at which there is nothing.
        stops: the nearest thing on the way that exists, or the one that cannot be passed.
        mode, owner: of `stops`, or of what cannot be opened.
        bytes: of a file; of the smaller half of a pair.
        mistaken: what its first bytes show it to be instead of data: "HTML page".
        lacks: the half of a pair that is not there.
        entries: of a directory, counted up to a limit.
        spoiled: of those entries what cannot be used, "NAME: why"; at most a few.
    """

    asked: str
    path: str
    unseen: str = ""
    kind: Literal["file", "pair", "directory", "other", ""] = ""
    error: str = ""
    link: str = ""
    stops: str = ""
    mode: int = 0
    owner: int = 0
    bytes: int = 0
    mistaken: str = ""
    lacks: str = ""
    entries: int = 0
    spoiled: tuple[str, ...] = ()


class WantedFiles(Fact, frozen=True, kw_only=True):
    """Every file that is demanded, really opened by this user."""

    files: tuple[WantedFile, ...] = ()
    uid: int = 0
