"""A container image in a file, as `docker save` writes it and `docker load` reads it."""

from msgspec import Struct

from gpudoctor.snapshot import Fact

END_MARK = "the end mark"


class TarImage(Struct, frozen=True, kw_only=True):
    """One image that the tar's manifest tells of.

    Attributes:
        id: "sha256:..." of its configuration; empty: not told.
        tags: "busybox:latest", or of an OCI layout perhaps only the tag.
        layers: how many it has.
        missing: layers, or the configuration, that are not in the tar.
    """

    id: str = ""
    tags: tuple[str, ...] = ()
    layers: int = 0
    missing: tuple[str, ...] = ()


class ImageTar(Fact, frozen=True, kw_only=True):
    """The file, by the headers of its members; what is in its layers is not read.

    Attributes:
        path: absolute, where it was looked for.
        error: of opening it: "ENOENT: No such file or directory".
        bytes: of the file.
        compression: "gzip", "xz", "bzip2", "zstd"; empty: none.
        mistaken: what it is instead of a tar: "HTML page".
        downloading: the file beside it by which a download keeps its place.
        corrupt: what is wrong where reading ended.
        at: the offset where that is, of the tar as it is uncompressed.
        cut: the file ends inside this member, or before END_MARK.
        lacking: bytes that are missing at least; 0: unknown.
        unfilled: bytes of zeros, or of anything else, behind an early end mark.
        unread: why it was not read to its end; empty: it was.
        members: that were seen.
        root_tree: they are those of a root directory, as `docker export` writes it.
        layout: "docker" has a manifest.json, "oci" only an index.json; empty: neither.
        images: that it holds.
    """

    path: str
    error: str = ""
    bytes: int = 0
    compression: str = ""
    mistaken: str = ""
    downloading: str = ""
    corrupt: str = ""
    at: int = 0
    cut: str = ""
    lacking: int = 0
    unfilled: int = 0
    unread: str = ""
    members: int = 0
    root_tree: bool = False
    layout: str = ""
    images: tuple[TarImage, ...] = ()
