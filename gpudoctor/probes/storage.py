"""Look at the directories that a job writes to, and at mounts that may hang."""

import functools
import os
import re
import time
from collections.abc import Iterator

from msgspec.structs import replace

from gpudoctor.facts.storage import NetworkMount, NetworkMounts, Place, Storage
from gpudoctor.probes import Machine, error_words, probe
from gpudoctor.probes.in_time import in_time
from gpudoctor.probes.mounts import Mount, mount_of, mounts
from gpudoctor.probes.user import NAMES, Entry, entry, home
from gpudoctor.redact import cut_secrets
from gpudoctor.snapshot import Absent

SECONDS = 2.5  # for one place or mount; all are asked at once
TEMPORARY = "temporary files"
_NETWORK = (
    r"nfs4?|cifs|smb3|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|wekafs|panfs|pvfs2|orangefs|afs"
    r"|fuse(\..+)?|fuseblk"
)
_TRUE = ("1", "ON", "YES", "TRUE")
# On every desktop, private to its user, and of no use to a job.
_DESKTOP = ("fuse.portal", "fuse.gvfsd-fuse", "fuse.lxcfs")
_DERIVED = ("TORCH_HOME", "HF_HOME", "TORCH_EXTENSIONS_DIR")  # in XDG_CACHE_HOME by default
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # then nothing is written to HF_HOME


@probe(isolated=True, timeout=9.0)
def storage(machine: Machine) -> Storage | Absent:
    """Space, mount options and a file really made, for every place of the job."""
    if not machine.live:
        return Absent("the places are those of a running job: not known from --root")
    try:
        own = entry(machine, os.getuid())
    except TimeoutError:
        own = None
    try:
        table = mounts(machine)
    except OSError:
        table = []
    found = []
    # The caches depend on which directory for temporary files can be used.
    for place in _look([*_temporary(machine)], table):
        found.append(place)
        if place.exists and not place.write_error:
            break
    others = _look([*_others(machine, own, found[-1].path)], table)
    # A default that will be made in the cache directory says nothing that this does not say.
    found += [p for p in others if p.exists or p.named_by or p.moved_by not in _DERIVED]
    # A variable can name anything.
    return Storage(places=tuple(replace(place, path=cut_secrets(place.path)) for place in found))


@probe(isolated=True)
def network_mounts(machine: Machine) -> NetworkMounts:
    """Ask every network file system for its size."""
    root = "" if machine.live else machine.root.rstrip("/")
    # Under --root it is our own view that shows what is mounted there.
    table = [m for m in mounts(Machine()) if m.target.startswith(f"{root}/")]
    found = networked(table)
    answers = in_time([functools.partial(_ask, mount) for mount in found], SECONDS)
    return NetworkMounts(
        mounts=tuple(
            NetworkMount(
                target=mount.target.removeprefix(root) or "/",
                filesystem=mount.filesystem,
                source=without_credentials(mount.source),
                answered=answer is not None,
                seconds=round(answer[0], 3) if answer else SECONDS,
                error=answer[1] if answer else f"no answer in {SECONDS:g} s",
            )
            for mount, answer in zip(found, answers, strict=True)
        )
    )


def networked(table: list[Mount]) -> list[Mount]:
    """The mounts that need somebody to answer, one of each file system."""
    found = {
        mount.device or mount.target: mount
        for mount in reversed(table)
        if re.fullmatch(_NETWORK, mount.filesystem) and mount.filesystem not in _DESKTOP
    }
    return list(reversed(found.values()))


def without_credentials(source: str) -> str:
    """A mount's source without user, password and query: "//nas/data", not "//me:pw@nas/data"."""
    source = re.sub(r"//[^/@\s]*@", "//", source)
    return re.sub(r"^[^/@:\s]*:[^/@\s]*@", "", source).partition("?")[0]


def _ask(mount: Mount) -> tuple[float, str]:
    started = time.monotonic()
    try:
        os.statvfs(mount.target)
        error = ""
    except (PermissionError, FileNotFoundError):  # an answer, too; another mount may hide it
        error = ""
    except OSError as failed:
        error = error_words(failed)
    return time.monotonic() - started, error


def _temporary(machine: Machine) -> Iterator[Place]:
    """Where tempfile.gettempdir() looks, in its order."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        if machine.env.get(name):
            path = _absolute(machine, machine.env[name])
            yield Place(role=TEMPORARY, path=path, named_by=name, moved_by=name)
    for path in ("/tmp", "/var/tmp"):
        yield Place(role=TEMPORARY, path=path, moved_by="TMPDIR")


def _others(machine: Machine, own: Entry | None, temporary: str) -> Iterator[Place]:
    """Every other place: what variables name, else where libraries go by default."""
    env = machine.env
    here = _absolute(machine, named) if (named := home(machine, own)) else ""
    place = functools.partial(_caches, machine, here)
    cache = env.get("XDG_CACHE_HOME") or (f"{here}/.cache" if here else "")
    triton = env.get("TRITON_HOME") or here
    if machine.cwd:
        yield Place(role="working directory", path=machine.cwd)
    if machine.checkpoint_dir:
        yield Place(role="checkpoints", path=_absolute(machine, machine.checkpoint_dir))
    if here:
        yield Place(role="home", path=here, moved_by="HOME")
    yield from place("XDG_CACHE_HOME", cache)
    yield from place("TRITON_CACHE_DIR", triton and f"{triton}/.triton/cache", builds=True)
    yield from place("TORCHINDUCTOR_CACHE_DIR", _inductor(machine, own, temporary), builds=True)
    yield from place("TORCH_EXTENSIONS_DIR", cache and f"{cache}/torch_extensions", builds=True)
    yield from place("TORCH_HOME", cache and f"{cache}/torch")
    if not any(env.get(name, "").upper() in _TRUE for name in _OFFLINE):
        yield from place("HF_HOME", cache and f"{cache}/huggingface")
    for name in ("CUDA_CACHE_PATH", "MPLCONFIGDIR"):
        yield from place(name)
    yield Place(role="root", path="/")


def _caches(
    machine: Machine, here: str, name: str, default: str = "", builds: bool = False
) -> Iterator[Place]:
    """The cache that a variable names, or the default; nothing if there is neither."""
    named = machine.env.get(name, "")
    if path := named or default:
        path = here + path[1:] if path.startswith("~/") else path
        yield Place(
            role="cache",
            path=_absolute(machine, path),
            named_by=name if named else "",
            moved_by=name,
            builds=builds,
        )


def _inductor(machine: Machine, own: Entry | None, temporary: str) -> str:
    """The cache of torch.compile; empty if the user has no name to call it by."""
    names = [machine.env[name] for name in NAMES if machine.env.get(name)]
    names += [own.name] if own else []
    return f"{temporary}/torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", names[0]) if names else ""


def _absolute(machine: Machine, path: str) -> str:
    return os.path.normpath(os.path.join(machine.cwd or "/", path))


def _look(places: list[Place], table: list[Mount]) -> list[Place]:
    """The places, each with what was seen of it; those of one file system in one go."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        mount = mount_of(table, place.path)
        groups.setdefault(mount.target if mount else "", []).append(place)
    questions = [functools.partial(_all_seen, group, table) for group in groups.values()]
    late = f"ETIMEDOUT: no answer in {SECONDS:g} s"
    seen: dict[Place, Place] = {}
    for group, answer in zip(groups.values(), in_time(questions, SECONDS), strict=True):
        found = answer or [replace(place, write_error=late) for place in group]
        seen.update(zip(group, found, strict=True))
    return [seen[place] for place in places]


def _all_seen(places: list[Place], table: list[Mount]) -> list[Place]:
    return [_seen(place, table) for place in places]


def _seen(place: Place, table: list[Mount]) -> Place:
    try:
        nearest = _nearest(place.path)
        place = replace(place, exists=nearest == place.path)
        if place.role == "root":
            found = os.statvfs(nearest)
            error = "EROFS: Read-only file system" if found.f_flag & os.ST_RDONLY else ""
        else:
            error = _write(nearest)
            found = os.statvfs(nearest)
    except OSError as failed:
        return replace(place, write_error=error_words(failed))
    mount = mount_of(table, os.path.realpath(nearest))
    return replace(
        place,
        write_error=error,
        total_bytes=found.f_blocks * found.f_frsize or None,
        free_bytes=found.f_bavail * found.f_frsize if found.f_blocks else None,
        inodes=found.f_files or None,
        inodes_free=found.f_favail if found.f_files else None,
        filesystem=mount.filesystem if mount else "",
        mount=mount.target if mount else nearest,  # in a chroot the root is not listed
        noexec=bool(found.f_flag & os.ST_NOEXEC),
    )


def _nearest(path: str) -> str:
    """The path, or its nearest parent that exists. Any other failure is one of the place."""
    while path != "/":
        try:
            os.lstat(path)
        except FileNotFoundError:
            path = os.path.dirname(path)
        else:
            break
    return path


def _write(folder: str) -> str:
    """Why no file can be made here; empty if one can."""
    path = f"{folder}/.gpudoctor-{os.getpid()}-{time.monotonic_ns()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.unlink(path)  # gone by name at once: nothing stays if we are killed
            os.write(descriptor, bytes(4096))
        finally:
            os.close(descriptor)  # where NFS tells of a quota
    except OSError as error:
        return error_words(error)
    return ""
