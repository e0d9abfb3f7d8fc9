"""What a job runs from: its container's image, and its own code."""

from gpudoctor.snapshot import Fact


class Image(Fact, frozen=True, kw_only=True):
    """The container image, as far as it can be seen from inside.

    Attributes:
        id: of its contents, or what stands for it; empty: not to be seen.
        name: that it was started by; what a tag means may change.
        told_by: the file or variable that says so.
    """

    id: str = ""
    name: str = ""
    told_by: str = ""


class Code(Fact, frozen=True, kw_only=True):
    """The contents of a directory.

    Attributes:
        path: as it was given, made absolute.
        digest: over the paths and contents of its files; empty: see `error`.
        files: that it has.
        bytes: in them.
        by_size: files so large that only name and size count.
        missing: why it is not there: "ENOENT: No such file or directory".
        error: why else there is no digest, as that there are too many files.
    """

    path: str
    digest: str = ""
    files: int = 0
    bytes: int = 0
    by_size: int = 0
    missing: str = ""
    error: str = ""
