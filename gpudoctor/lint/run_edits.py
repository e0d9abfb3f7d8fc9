"""A `docker run` line changed so that it says what settings ask for, and nothing against it."""

import shlex
from collections.abc import Iterator, Sequence

from gpudoctor.data import table
from gpudoctor.launch import docker, podman
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._run import shared
from gpudoctor.launch.settings import (
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    HostNetwork,
    IpcHost,
    Memory,
    Mount,
    Pids,
    Setting,
    ShmSize,
)
from gpudoctor.lint.getopt import spelled
from gpudoctor.lint.run_line import Flag, RunLine
from gpudoctor.lint.source import Edit, Source

WIDTH = 100
_OWN = {"docker": docker.flags, "podman": podman.flags}
_DROPPED = {
    "shm_bytes": "shm-size",
    "ports": "publish",
    "groups": "group-add",
    "devices": "device",
    "security": "security-opt",
}


def edits(source: Source, line: RunLine, settings: Sequence[Setting]) -> list[Edit]:
    """What to change in the text; nothing where a variable holds the command."""
    if line.image and line.image.borrowed:
        return []
    own = [flag for flag in line.flags if not flag.borrowed]
    gone = [flag for flag in own if any(_is_against(flag, s) for s in settings)]
    kept = {(flag.name, flag.value) for flag in line.flags if flag not in gone}
    wanted = [text for s in settings for text in _OWN[line.engine](s) or shared(s)]
    if not any(text.startswith("--gpus") for text in wanted):
        refused = [s.value for s in settings if isinstance(s, Drop) and s.field == "refused"]
        wanted += map(_quoted, refused)
    changes, added = [], []
    for text in dict.fromkeys(wanted):
        if _parsed(text) in kept:
            continue
        old = next((flag for flag in gone if _replaces(text, flag)), None)
        if old:
            gone.remove(old)
            changes.append(Edit(old.start, old.end, text))
        else:
            added.append(text)
    known = table("run_flags")[line.engine]
    for flag in gone:
        right = None if flag.known else spelled(flag, known)
        changes.append(right or _without(line, flag))
    if late := [flag for flag in line.late if Drop("late", flag.written) in settings]:
        added.append(" ".join(source.text[flag.start : flag.end] for flag in late))
        changes.append(Edit(late[0].start, _without(line, late[-1]).end, ""))
    if added:
        changes.append(_inserted(source, line, added))
    changes += _unset(line, settings)
    if Drop("torn") in settings:
        torn = [Edit(start, end, "") for start, end in line.command.torn]
        changes += [t for t in torn if not any(c.start <= t.start < c.end for c in changes)]
    return changes


def _parsed(text: str) -> tuple[str, str]:
    """Name and value of a flag as launch/ writes it: "--gpus all", "--ipc=host"."""
    words = shlex.split(text)
    if len(words) == 2:
        return words[0][2:], words[1]
    name, _, value = words[0].partition("=")
    return name[2:], value


def _quoted(refused: str) -> str:
    """A list of GPUs with the quotes that docker wants inside the shell's."""
    name, _, value = refused.partition(" ")
    return f"{name} '\"{value}\"'"


def _replaces(text: str, flag: Flag) -> bool:
    """Whether it says the same thing anew, so that it can stand where the old flag does."""
    name, value = _parsed(text)
    same = name != "ulimit" or value.partition("=")[0] == flag.value.partition("=")[0]
    return name == flag.name and same and not flag.kept


def _is_against(flag: Flag, setting: Setting) -> bool:
    """Whether a flag must go for a setting to hold, or says the same thing otherwise."""
    match setting:
        case ShmSize():
            return flag.name == "shm-size" or (
                flag.name == "ipc" and flag.value in ("none", "host")
            )
        case IpcHost():
            return flag.name in ("ipc", "shm-size")
        case Pids():
            return flag.name == "pids-limit"
        case Memory():
            return flag.name in ("memory", "memory-swap")
        case Cpus():
            return flag.name in ("cpus", "cpu-quota", "cpu-period")
        case HostNetwork():
            return flag.name in ("network", "publish", "publish-all")
        case GpuDevices(vendor="nvidia"):
            by_flag = flag.name == "gpus" or flag.value.startswith("nvidia.com/gpu")
            return by_flag or _sets(flag, "NVIDIA_VISIBLE_DEVICES")
        case EnvSet(name=name) | EnvUnset(name=name):
            return _sets(flag, name)
        case Mount(target=target):
            parts = flag.value.split(":")
            return (flag.name == "tmpfs" and parts[0] == target) or (
                flag.name == "volume" and parts[1:2] == [target]
            )
        case Drop(field="unknown", value=value):
            return not flag.known and flag.written == value
        case Drop(field="refused", value=value):
            return f"{flag.written} {flag.value}" == value
        case Drop(field=field, value=value):
            return flag.name == _DROPPED.get(field) and value in ("", flag.value)
    limit = rlimit(setting)
    return limit is not None and flag.name == "ulimit" and flag.value.startswith(f"{limit.name}=")


def _sets(flag: Flag, name: str) -> bool:
    return flag.name == "env" and flag.value.partition("=")[0] == name


def _without(line: RunLine, flag: Flag) -> Edit:
    """The flag taken out with the blanks, or the continued line's end, behind it."""
    after = [word.start for word in line.command.words if word.start >= flag.end]
    if after:
        return Edit(flag.start, after[0], f"{flag.kept} " if flag.kept else "")
    return Edit(flag.start, flag.end, flag.kept)


def _inserted(source: Source, line: RunLine, added: Sequence[str]) -> Edit:
    """New flags before the image: on lines of their own where the command has several."""
    if line.image is None:
        return Edit(line.after, line.after, "".join(f" {text}" for text in added))
    at = line.image.start
    begin = source.start_of(source.line_at(at))
    indent = source.text[begin:at]
    if not indent.strip() and begin > line.command.start:
        return Edit(at, at, "".join(f"{text} \\\n{indent}" for text in added))
    end = source.text.find("\n", at)
    length = (len(source.text) if end < 0 else end) - begin
    words = " ".join(added)
    if length + len(words) < WIDTH:
        return Edit(at, at, f"{words} ")
    return Edit(at, at, f"\\\n  {words} \\\n  ")


def _unset(line: RunLine, settings: Sequence[Setting]) -> Iterator[Edit]:
    """What the image or the caller sets, and no flag can take away."""
    names = [s.name for s in settings if isinstance(s, EnvUnset)]
    names = [name for name in names if not any(_sets(flag, name) for flag in line.flags)]
    if names and line.arguments:
        at = line.arguments[0].start
        yield Edit(at, at, f"{' '.join(['env', *(f'-u {name}' for name in names)])} ")
