"""Tell the container's image from inside, and digest the job's own code."""

import os
import re
import stat
from collections.abc import Iterator

from gpudoctor.facts.image import Code, Image
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.snapshot import Absent

LARGE = 16 << 20  # bytes; no one writes such code by hand
MOST = 20_000  # files; a repository of code has fewer, a data set more
# What is no code, and changes while others look: logs of this very job among it.
_NO_FOLDER = r"\..*|__pycache__|wandb|mlruns|node_modules|venv|.*\.egg-info"
_READ = (stat.S_IFREG, stat.S_IFLNK)
_NO_FILE = r".*\.(pyc|log|out|err|lock|swp|tmp)|core\.\d+|nohup\.out"


@probe()
def image(machine: Machine) -> Image | Absent:
    """The image by podman's file, by Apptainer's variable, by the build that NVIDIA's name."""
    said = machine.text("/run/.containerenv") or ""
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', said, re.MULTILINE))
    if fields.get("imageid"):
        return Image(
            id=fields["imageid"], name=fields.get("image", ""), told_by="/run/.containerenv"
        )
    env = machine.env
    for variable in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if env.get(variable):
            return Image(name=env[variable], told_by=variable)
    if env.get("NVIDIA_BUILD_ID", "").isdigit():
        return Image(id=f"NVIDIA build {env['NVIDIA_BUILD_ID']}", told_by="NVIDIA_BUILD_ID")
    return Absent("no image tells its name in here")


def _untold(machine: Machine) -> str:
    return "" if machine.told.get("code") else "asked for with --code DIR"


@probe(isolated=True, timeout=30.0, unless=_untold)
def code(machine: Machine) -> Code | Absent:
    """Digest the directory that `--code` names."""
    import hashlib  # 2 ms

    top = os.path.normpath(os.path.join(machine.cwd or os.getcwd(), str(machine.told["code"])))
    digest, files, total, by_size = hashlib.sha256(), 0, 0, 0
    try:
        for path, status in _files(machine.path(top), ""):
            files += 1
            if files > MOST:
                return Code(path=top, error=f"more than {MOST} files: name the code's own folder")
            where = os.path.join(machine.path(top), path)
            digest.update(os.fsencode(path) + b"\0")
            if stat.S_ISLNK(status.st_mode):
                digest.update(os.fsencode(os.readlink(where)))
            elif status.st_size > LARGE:
                by_size += 1
                digest.update(b"%d" % status.st_size)
            else:
                with open(where, "rb") as file:
                    digest.update(hashlib.sha256(file.read(LARGE)).digest())
            digest.update(b"\0")
            total += status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if files:
            return Code(path=top, error="it changed while it was read")
        return Code(path=top, missing=error_words(error))
    except OSError as error:
        return Code(path=top, error=f"{error.filename}: {error_words(error)}")
    return Code(path=top, digest=digest.hexdigest(), files=files, bytes=total, by_size=by_size)


def _files(top: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Files and links under a directory, by path, in an order that is alike everywhere."""
    with os.scandir(os.path.join(top, below)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = os.path.join(below, entry.name)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if not re.fullmatch(_NO_FOLDER, entry.name):
                yield from _files(top, path)
        elif stat.S_IFMT(status.st_mode) in _READ and not re.fullmatch(_NO_FILE, entry.name):
            yield path, status
