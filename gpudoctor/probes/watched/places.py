"""Space where the job keeps its checkpoints; a network mount may hang."""

import os
from collections.abc import Sequence

from gpudoctor.watch.look import Space


class PlacesSource:
    """The file systems of directories, or of what there is above those."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def __call__(self) -> tuple[Space, ...]:
        return tuple(map(_space, self._folders))


def _space(path: str) -> Space:
    at = os.path.abspath(path)
    while at != "/" and not os.path.isdir(at):
        at = os.path.dirname(at)
    found = os.statvfs(at)
    return Space(
        path=path,
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        inodes=found.f_files,
        inodes_free=found.f_favail,
    )
