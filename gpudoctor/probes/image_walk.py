"""Walk over the members of an image's file: are they all there, and of which images?

Loaded only where an image is asked for.
"""

import io

from msgspec.structs import replace

from gpudoctor.facts.image_tar import END_MARK, ImageTar
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

MOST = 20_000  # members; of an image there are some hundreds
_ROOT_TREE = {"bin", "dev", "etc", "lib", "proc", "root", "sbin", "sys", "tmp", "usr", "var"}


def walked(found: ImageTar, file: io.FileIO, until: float) -> ImageTar:
    """What is told of a file, with what its headers tell."""
    source = _source(file, found.compression, until)
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


def _source(file: io.FileIO, compression: str, until: float) -> Source:
    if compression == "gzip":
        import gzip

        return Compressed(gzip.GzipFile(fileobj=file), until)
    if compression == "bzip2":
        import bz2

        return Compressed(bz2.BZ2File(file), until)
    return Plain(file.fileno(), until)
