"""Read /proc/self/mountinfo."""

import re

from msgspec import Struct

from gpudoctor.probes import Machine


class Mount(Struct, frozen=True):
    """One line of mountinfo."""

    root: str  # the directory of the file system that is mounted
    target: str
    options: tuple[str, ...]  # per mount and of the file system
    filesystem: str
    source: str
    device: str = ""  # major:minor; the same for mounts of one file system


def mounts(machine: Machine) -> list[Mount]:
    """All mounts, in the kernel's order (a later one hides an earlier at the same target).

    Raises:
        OSError: /proc cannot be read.
    """
    # Seen from outside, the machine's own view is that of its first process.
    return parse(machine.read(f"/proc/{'self' if machine.live else '1'}/mountinfo"))


def parse(text: str) -> list[Mount]:
    """Mounts from the text of a mountinfo file."""
    found = []
    for line in text.split("\n"):
        mount, _, system = line.partition(" - ")
        # A source may be empty: two spaces then.
        fields, kind = mount.split(" "), system.split(" ")
        if len(fields) < 6 or len(kind) < 2:
            continue
        options = (*fields[5].split(","), *(kind[2].split(",") if len(kind) > 2 else ()))
        root, target, source = (_unescape(text) for text in (fields[3], fields[4], kind[1]))
        found.append(Mount(root, target, options, kind[0], source, fields[2]))
    return found


def mount_at(machine: Machine, path: str) -> Mount | None:
    """The mount that a path lies on; None if mountinfo cannot be read."""
    try:
        return mount_of(mounts(machine), path)
    except OSError:
        return None


def mount_of(found: list[Mount], path: str) -> Mount | None:
    """The mount that a path (absolute, no links) lies on."""
    best = None
    for mount in found:
        inside = path == mount.target or path.startswith(mount.target.rstrip("/") + "/")
        if inside and (best is None or len(mount.target) >= len(best.target)):
            best = mount
    return best


def _unescape(text: str) -> str:
    """White space, backslash and # stand as three octal digits."""
    if "\\" not in text:
        return text
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
