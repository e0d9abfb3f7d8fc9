"""Settings in the words of each launcher: docker, compose, Kubernetes, Slurm, the bare host.

Each module here spells every setting of `gpudoctor.launch.settings` for one launcher, in a
function `spell(settings) -> Spelling`.
"""

import functools
import importlib
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.launch.settings import Drop, IpcHost, Mount, Setting, ShmSize

LAUNCHERS = (
    "docker",
    "podman",
    "compose",
    "kubernetes",
    "slurm",
    "pyxis",
    "apptainer",
    "systemd",
    "host",
)
"""The words for launchers, in the order in which they are shown."""


class Spelling(Struct, frozen=True, kw_only=True):
    """Settings as one launcher takes them.

    `lines` is what the person who launches changes: one command, or a snippet of a file.
    `node_lines` is what somebody with root on the node must do because the launch cannot.
    Lines can be pasted as they are. Either may be empty; the text beside it says what it is.
    """

    text: str = ""
    lines: tuple[str, ...] = ()
    node_text: str = ""
    node_lines: tuple[str, ...] = ()


def merge(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """One setting per thing, satisfying all, and none that contradicts another."""
    merged: dict[tuple[str, ...], Setting] = {}
    for setting in map(_plain, settings):
        present = merged.get(setting.key)
        merged[setting.key] = setting if present is None else present.merge(setting)
    if any(isinstance(setting, IpcHost) for setting in merged.values()):
        # Docker ignores a size beside --ipc=host, podman refuses it.
        return tuple(s for s in merged.values() if not isinstance(s, ShmSize))
    return tuple(merged.values())


def _plain(setting: Setting) -> Setting:
    # A tmpfs on /dev/shm would stand beside the one that every launcher makes there.
    if isinstance(setting, Mount) and setting.target == "/dev/shm" and not setting.source:
        return ShmSize(setting.tmpfs_bytes) if setting.tmpfs_bytes else setting
    return setting


def spell(settings: Sequence[Setting], launcher: str) -> Spelling:
    """The settings, merged, in a launcher's words.

    Raises:
        KeyError: there is no such launcher.
    """
    if launcher not in LAUNCHERS:
        raise KeyError(launcher)
    merged = merge(settings)
    asked = [setting for setting in merged if not isinstance(setting, Drop)]
    gone = [_named(setting) for setting in merged if isinstance(setting, Drop)]
    words: Spelling = _module(launcher).spell(asked) if asked or not gone else Spelling()
    if not gone:
        return words
    take_out = f"Take out {', '.join(gone)}."
    return replace(words, text=f"{take_out} {words.text}".strip())


# How a field that must go is called where its value does not say it.
_FIELDS = {
    "shm_bytes": "the size of /dev/shm",
    "ports": "the published port",
    "groups": "the group",
    "ranks": "the number of ranks",
    "gpus": "the request for GPUs",
    "torn": "what stands behind the backslashes",
}


def _named(drop: Drop) -> str:
    return f"{_FIELDS.get(drop.field, '')} {drop.value}".strip() or drop.field


@functools.cache
def _module(launcher: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"gpudoctor.launch.{launcher}")
