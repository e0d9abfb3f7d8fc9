"""Where a job writes: temporary files, caches, home, checkpoints; and mounts that may hang."""

import shlex
from collections.abc import Iterable

from gpudoctor import (
    GIB,
    MIB,
    EnvSet,
    Finding,
    Fix,
    Mount,
    NetworkMounts,
    Place,
    Setting,
    Status,
    Storage,
    User,
    Workload,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    unknown,
    warn,
)

FEW, LITTLE = GIB, 5 * GIB  # free, for caches and outputs: one small model, one large
FEW_TEMPORARY, LITTLE_TEMPORARY = 100 * MIB, GIB  # what torch.compile leaves in /tmp
LITTLE_SHARE, PLENTY = 0.05, 20 * GIB  # 5 % of a large file system is plenty
FEW_INODES = 100_000  # a conda environment, or a data set of single files
CHECKPOINTS = 3  # the last, the one being written, and one kept as the best
TMPFS = 8 * GIB  # a limit, taken from memory only as it fills
SLOW_SECONDS = 1.0  # statfs of a healthy server takes some ms
FULL = ("ENOSPC", "EDQUOT")
BEARABLE = ("CUDA_CACHE_PATH", "MPLCONFIGDIR", "HF_HOME")  # slower without, or filled beforehand
INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"
TEMPORARY, HOME, HERE = "temporary files", "home", "working directory"


@check(
    owner="job",
    symptoms=[
        r"No space left on device",
        r"Disk quota exceeded",
        r"PytorchStreamWriter failed writing file",
    ],
)
def storage_space(storage: Storage, workload: Workload) -> Finding:
    """The places that the job writes to have room.

    A full file system ends the job where it first writes: torch.compile's cache, a download,
    or the first checkpoint after hours ("No space left on device", "PytorchStreamWriter
    failed writing file"). The same error comes from a file system without free inodes, and
    from a quota ("Disk quota exceeded"), which `df` does not show.
    """
    faults = [f for place in storage.places if (f := _too_full(place, storage, workload))]
    if not faults:
        if workload.checkpoint_dir and not _of(storage, "checkpoints"):
            where = f"--checkpoint-dir {workload.checkpoint_dir}"
            return unknown(f"the checkpoint directory was not looked at: collect with {where}")
        if all(place.write_error for place in storage.places):
            return unknown("no place takes files or answers: see storage-writable")
    return _together(faults, "Free some space, or write elsewhere") or ok(_room(storage))


@check(
    owner="launch",
    symptoms=[
        r"Permission denied: '/\.(cache|triton|config)",
        r"getpwuid\(\): uid not found",
        r"No username set in the environment",
        r"failed to map segment from shared object",
        r"No usable temporary directory found",
        r"Could not determine home directory",
        r"\[Errno 30\] Read-only file system",
    ],
)
def storage_writable(storage: Storage, user: User | None) -> Finding:
    """Home, caches and temporary files can be written to, and the user has a name.

    torch, Triton and Hugging Face write to caches in the home directory or in /tmp. Where
    they cannot, the job ends at its first compilation or download: "Permission denied:
    '/.triton'", "failed to map segment from shared object" (mounted noexec), or "getpwuid():
    uid not found: 1000", because torch names its cache after the user.
    """
    faults = [f for place in storage.places if (f := _unusable(place, storage))]
    faults += [*_temporary(storage), *_nameless(storage, user)]
    roles = [place.role for place in storage.places]
    caches = count_of(roles.count("cache"), "cache")
    good = f"home, {caches} and temporary files take files"
    return _together(faults, "Write where this user may") or ok(good)


@check(
    owner="node",
    symptoms=[
        r"Stale file handle",
        r"Transport endpoint is not connected",
        r"nfs: server .* not responding",
    ],
)
def storage_mounts(network_mounts: NetworkMounts) -> Finding:
    """Every network file system answers.

    What touches a mount whose server is gone waits for ever, in a state that even `kill -9`
    does not end: the job stands still without any message, and so do `df` and `ls`.
    """
    mounts = network_mounts.mounts
    if not mounts:
        return skip("no network file system is mounted")
    faults = []
    for mount in mounts:
        named = f"{mount.target} ({mount.filesystem} {mount.source})"
        target = shlex.quote(mount.target)
        away = Fix(commands=[f"sudo umount -f -l {target}", f"sudo mount {target}"])
        if not mount.answered:
            faults.append(fail(f"{named}: {mount.error}", away))
        elif mount.error:
            faults.append(warn(f"{named}: {mount.error}", away))
        elif mount.seconds > SLOW_SECONDS:
            look = Fix(commands=[f"time stat -f {target}"])
            faults.append(warn(f"{named}: {mount.seconds:.1f} s to answer", look))
    slowest = max(mount.seconds for mount in mounts)
    good = f"{count_of(len(mounts), 'mount')} answered, the slowest in {slowest:.3f} s"
    return _together(faults, "Bring the server back, or unmount", root=True) or ok(good)


def _together(faults: Iterable[Finding], text: str, root: bool = False) -> Finding | None:
    """One finding of all, the worst one first; the same of several places counts once."""
    found = sorted(faults, key=lambda fault: fault.status is not Status.FAIL)
    if not found:
        return None
    summaries = list(dict.fromkeys(fault.summary for fault in found))
    more = f" (and {len(summaries) - 1} more)" if len(summaries) > 1 else ""
    fixes = [fault.fix for fault in found if fault.fix]
    return (fail if found[0].status is Status.FAIL else warn)(
        summaries[0] + more,
        Fix(
            *dict.fromkeys(setting for fix in fixes for setting in fix.settings),
            text=text,
            commands=dict.fromkeys(command for fix in fixes for command in fix.commands),
            needs_root=root,
        ),
        evidence=summaries if more else [],
        basis=found[0].basis or "measured",
    )


def _too_full(place: Place, storage: Storage, workload: Workload) -> Finding | None:
    """What is wrong with a place's room."""
    at = shlex.quote(place.path)
    usage = (f"df -h {at}", f"du -xh --max-depth=2 {at} | sort -h | tail -20")
    away = _elsewhere(place, storage, LITTLE)
    if place.write_error.startswith(FULL):
        text = f"{place.role} {place.path}: {place.write_error}"
        return fail(text, Fix(*away, commands=[*usage, f"df -i {at}", "quota -s"]))
    free, total = place.free_bytes, place.total_bytes
    if place.write_error or free is None or total is None or place.role == HOME:
        return None  # written to elsewhere only, or without a limit
    need = CHECKPOINTS * workload.checkpoint_bytes
    if free < need and place.role == ("checkpoints" if workload.checkpoint_dir else HERE):
        text = f"{size(free)} free on {place.mount}, {CHECKPOINTS} checkpoints need {size(need)}"
        return fail(text, Fix(commands=usage), basis="rule-of-thumb")
    if place.role == "root":
        few, little = 0, FEW
    elif place.role == TEMPORARY or place.builds:
        few, little = FEW_TEMPORARY, LITTLE_TEMPORARY
        if place.filesystem == "tmpfs" and not away:
            away = (Mount(place.mount, executable=True, tmpfs_bytes=TMPFS),)
    else:
        few, little = FEW, max(LITTLE, min(PLENTY, int(LITTLE_SHARE * total)))
    if free < little:
        text = f"{size(free)} of {size(total)} free on {place.mount}"
        worse = fail if free < few else warn
        return worse(text, Fix(*away, commands=usage), basis="rule-of-thumb")
    left, inodes = place.inodes_free, place.inodes
    if left is not None and inodes and left < min(FEW_INODES, LITTLE_SHARE * inodes):
        text = f"{left} of {inodes} inodes free on {place.mount}"
        count = f"du -x --inodes --max-depth=2 {at} | sort -n | tail -20"
        return warn(text, Fix(*away, commands=[f"df -i {at}", count]), basis="rule-of-thumb")
    return None


def _unusable(place: Place, storage: Storage) -> Finding | None:
    """What is wrong with writing to a place; a full one is not a matter of permission."""
    error = place.write_error
    if place.role in (TEMPORARY, HOME, "root") or error.startswith(FULL):
        return None  # the home directory matters through the caches that are in it
    if not error and place.noexec and place.builds:
        # Only kernels that a job writes itself go to the default places of the other two.
        worse = fail if place.named_by or place.moved_by == INDUCTOR else warn
        text = f"{place.path} is noexec: code built there does not load"
        return worse(text, Fix(*_moved(place, storage)))
    if not error:
        return None
    text = f"{place.named_by or place.role} {place.path}: {error}"
    if place.role == HERE:
        there = next((shlex.quote(p.path) for p in _usable(storage)), "/tmp")
        return warn(text, Fix(commands=[f"cd {there}  # in a container: --workdir {there}"]))
    if place.role == "checkpoints":
        return fail(text, Fix(commands=[f"ls -ld {shlex.quote(place.path)}"]))
    default = not place.named_by and place.moved_by != INDUCTOR
    for home in _of(storage, HOME):
        if default and home.write_error and place.path.startswith(home.path):
            return fail(f"HOME {home.path}: {home.write_error}", Fix(*_moved(home, storage)))
    bearable = place.named_by and place.moved_by in BEARABLE
    return (warn if bearable else fail)(text, Fix(*_moved(place, storage)))


def _temporary(storage: Storage) -> list[Finding]:
    """Faults of the directories that Python tries for temporary files; the last one is used."""
    faults = []
    tried = _of(storage, TEMPORARY)
    used = next((place.path for place in tried if place in _usable(storage)), "/tmp")
    for place in tried:
        error = place.write_error if place.exists else "there is no such directory"
        if error and not error.startswith(FULL):
            text = f"{place.named_by or TEMPORARY} {place.path}: {error}"
            worse = fail if error.startswith("ETIMEDOUT") else warn
            faults.append(worse(text, Fix(EnvSet(place.moved_by, used))))
    if faults and len(faults) == len(tried):
        text = f"no directory for temporary files: not even {tried[-1].path}"
        faults.append(fail(text, Fix(Mount("/tmp", executable=True, tmpfs_bytes=TMPFS))))
    return faults


def _nameless(storage: Storage, user: User | None) -> list[Finding]:
    """Faults of who the user is: getpass.getuser() and Path.home() must find something."""
    faults: list[Finding] = []
    if user is None:
        return faults
    if not user.name_from_environment and not user.has_passwd_entry:
        if user.has_passwd_entry is None:
            text = f"the user database does not answer who uid {user.uid} is"
        else:
            text = f"uid {user.uid} has no name: no passwd entry, and USER is not set"
        named = any(place.named_by == INDUCTOR for place in storage.places)
        worse = warn if named or user.has_passwd_entry is None else fail
        faults.append(worse(text, Fix(EnvSet("USER", f"uid{user.uid}"))))
    if not user.home:
        home = Place(role=HOME, path="", moved_by="HOME")
        text = f"HOME is not set, and uid {user.uid} has no passwd entry"
        faults.append(warn(text, Fix(*_moved(home, storage))))
    return faults


def _of(storage: Storage, role: str) -> list[Place]:
    return [place for place in storage.places if place.role == role]


def _usable(storage: Storage, least: int = FEW_TEMPORARY) -> list[Place]:
    """Directories with so much room, that take files and run code: the best first."""
    return [
        place
        for role in (TEMPORARY, HOME, HERE)
        for place in _of(storage, role)
        if place.exists
        and not place.write_error
        and not place.noexec
        and (place.free_bytes is None or place.free_bytes >= least)
    ]


def _elsewhere(place: Place, storage: Storage, least: int = FEW_TEMPORARY) -> tuple[Setting, ...]:
    """The setting that puts a place into a directory that was seen to be usable, if any was."""
    better = [p.path for p in _usable(storage, least) if p.path != place.path]
    if not better or not place.moved_by:
        return ()
    return (EnvSet(place.moved_by, _inside(better[0], place.moved_by)),)


def _moved(place: Place, storage: Storage) -> tuple[Setting, ...]:
    """The settings that put a place elsewhere, into a /tmp of its own if need be."""
    own = Mount("/tmp", executable=True, tmpfs_bytes=TMPFS)
    inside = EnvSet(place.moved_by, _inside("/tmp", place.moved_by))
    return _elsewhere(place, storage) or (own, inside)


def _inside(folder: str, variable: str) -> str:
    if variable in ("HOME", "TMPDIR", "TEMP", "TMP"):
        return folder  # these must exist; caches are made
    return f"{folder.rstrip('/')}/{variable.removesuffix('_DIR').lower()}"


def _room(storage: Storage) -> str:
    """What to say when all is well: the file system with the least room."""
    written = [place for place in storage.places if not place.write_error]
    known = [(p.free_bytes, p.mount) for p in written if p.free_bytes is not None]
    if not known:
        return "no file system has a limit"
    free, mount = min(known)
    others = len({mount for _, mount in known}) - 1
    return f"{size(free)} free on {mount}" + (f", more on {others} other" if others else "")
