"""Look at the files that the job will read: really open each."""

import errno
import functools
import glob
import os
import re
import stat
from itertools import islice

from gpudoctor.facts.files import WantedFile, WantedFiles
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.probes.contents import ENOUGH, mistaken
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent

SECONDS = 3.0  # for one path; all are asked at once
MOST = 200  # paths asked for, of which each waits by itself
MATCHES = 1000  # of one pattern
ENTRIES = 1000  # of a directory; a data set may have millions
POINTER = 1024  # bytes; a file that only stands for another is smaller
NONE = "no file is asked for: --data PATH, or `files` of a profile"


def _unasked(machine: Machine) -> str:
    return "" if machine.demands and machine.demands.files else NONE


@probe(isolated=True, timeout=6.0, unless=_unasked)
def wanted_files(machine: Machine) -> WantedFiles | Absent:
    """Stat and open every file that profile and options ask for."""
    if not machine.live:
        return Absent("the job's files are not known from --root")
    asked = list(dict.fromkeys(machine.demands.files if machine.demands else ()))
    looks = [functools.partial(_look, machine, one) for one in asked[:MOST]]
    found: list[WantedFile] = []
    for one, answer in zip(asked, in_time(looks, SECONDS), strict=False):
        late = f"no answer in {SECONDS:g} s"
        found += answer or [WantedFile(asked=one, path=_absolute(machine, one), unseen=late)]
    late = f"only the first {MOST} paths were looked at"
    found += [WantedFile(asked=one, path=one, unseen=late) for one in asked[MOST:]]
    return WantedFiles(files=tuple(found), uid=os.getuid())


def _absolute(machine: Machine, asked: str) -> str:
    home = machine.env.get("HOME", "")
    if home and (asked == "~" or asked.startswith("~/")):
        asked = home + asked[1:]
    return os.path.join(machine.cwd or os.getcwd(), asked)


def _look(machine: Machine, asked: str) -> list[WantedFile]:
    """What is at a path; a pattern's matches, unless a file is really called like that."""
    if "://" in asked:
        return [WantedFile(asked=asked, path=asked, unseen="an address, not a file")]
    path = _absolute(machine, asked)
    matches = [path]
    if re.search(r"[*?\[]", path) and not os.path.lexists(path):
        matches = sorted(islice(glob.iglob(path, recursive=True), MATCHES)) or [path]
    told = functools.partial(WantedFile, asked=asked)
    return [_seen(functools.partial(told, path=match), match) for match in matches]


def _seen(told: "functools.partial[WantedFile]", path: str) -> WantedFile:
    try:
        status = os.stat(path)
    except OSError as error:
        return _pair(told, path) or _unreached(told, path, error)
    whose = {"mode": stat.S_IMODE(status.st_mode), "owner": status.st_uid}
    if stat.S_ISDIR(status.st_mode):
        try:
            entries, spoiled = _inside(path)
        except OSError as error:
            return told(kind="directory", error=error_words(error), stops=path, **whose)
        return told(kind="directory", entries=entries, spoiled=spoiled, **whose)
    if not stat.S_ISREG(status.st_mode):
        return told(kind="other", **whose)
    try:
        start = _start(path)
    except OSError as error:
        return told(kind="file", error=error_words(error), stops=path, **whose)
    what = "" if path.lower().endswith((".html", ".htm", ".xhtml")) else mistaken(start)
    return told(kind="file", bytes=status.st_size, mistaken=what, **whose)


def _pair(told: "functools.partial[WantedFile]", path: str) -> WantedFile | None:
    """PATH.bin and PATH.idx, which Megatron and NeMo call by what they have in common."""
    halves = {half: f"{path}.{half}" for half in ("bin", "idx")}
    there = [half for half in halves if os.path.lexists(halves[half])]
    if not there:
        return None
    found = [_seen(told, halves[half]) for half in there]
    worst = min(found, key=lambda half: (not half.error, not half.mistaken, half.bytes))
    lacks = next((path for half, path in halves.items() if half not in there), "")
    return told(
        kind="pair",
        error=worst.error,
        link=worst.link,
        stops=worst.stops,
        mode=worst.mode,
        owner=worst.owner,
        bytes=worst.bytes,
        mistaken=worst.mistaken,
        lacks=lacks,
    )


def _unreached(told: "functools.partial[WantedFile]", path: str, error: OSError) -> WantedFile:
    """Why a path leads nowhere, and how far one gets on the way."""
    link = os.readlink(path) if os.path.islink(path) else ""
    way = os.path.dirname(path)
    while way != "/" and not os.path.lexists(way):
        way = os.path.dirname(way)
    if error.errno == errno.EACCES:
        way = _closed(os.path.realpath(path)) or way
    try:
        status = os.stat(way)
    except OSError:
        return told(error=error_words(error), link=link, stops=way)
    mode, owner = stat.S_IMODE(status.st_mode), status.st_uid
    return told(error=error_words(error), link=link, stops=way, mode=mode, owner=owner)


def _closed(path: str) -> str:
    """The first directory on the way that this user may not pass."""
    way = "/"
    for part in path.split("/")[1:-1]:
        way = os.path.join(way, part)
        if not os.access(way, os.X_OK):
            return way
    return ""


def _inside(folder: str) -> tuple[int, tuple[str, ...]]:
    """How much is in a directory, and what of it stands for data that is not there."""
    spoiled: list[str] = []
    count = 0
    with os.scandir(folder) as entries:
        for entry in islice(entries, ENTRIES):
            count += 1
            if why := _spoiled(entry):
                spoiled.append(f"{entry.name}: {why}")
    return count, tuple(sorted(spoiled)[:10])


def _spoiled(entry: "os.DirEntry[str]") -> str:
    try:
        if entry.is_symlink() and not os.path.exists(entry.path):
            return f"leads to {os.readlink(entry.path)}, which is not there"
        if entry.is_file() and 0 < entry.stat().st_size < POINTER:
            return mistaken(_start(entry.path)) if "." in entry.name else ""
    except OSError as error:
        return error_words(error)
    return ""


def _start(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return os.read(descriptor, ENOUGH)
    finally:
        os.close(descriptor)
