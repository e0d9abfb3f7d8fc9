"""The files that the job will read."""

import shlex
from collections.abc import Iterable

from gpudoctor import (
    Absent,
    Container,
    Demands,
    Finding,
    Fix,
    Status,
    WantedFile,
    WantedFiles,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    unknown,
    warn,
)

MOUNTED = ("docker", "podman", "containerd", "cri-o", "enroot", "apptainer")


@check(
    owner="job",
    symptoms=[
        r"FileNotFoundError: \[Errno 2\] No such file or directory",
        r"PermissionError: \[Errno 13\] Permission denied",
        r"(?:pickle\.)?UnpicklingError: invalid load key, '[v<]'",
        r"Unsupported operand (?:118|60)",
        r"SafetensorError: Error while deserializing header: HeaderTooLarge",
        r"AssertionError: One or both of the \.idx and \.bin files cannot be found",
    ],
)
def profile_files(
    demands: Demands, wanted_files: WantedFiles | Absent, container: Container | None
) -> Finding:
    """The files that the job will read are there and can be read.

    A path that is not mounted, belongs to somebody else, or holds a Git LFS pointer or a web
    page in place of the data is found out only when the data is loaded, after every rank has
    started: "FileNotFoundError: [Errno 2] No such file or directory", "UnpicklingError: invalid
    load key, 'v'" or since PyTorch 2.6 "Unsupported operand 118" (a pointer; a page: '<', 60).
    """
    if not demands.files:
        return skip("no file is asked for: --data PATH, or `files` of a profile")
    if isinstance(wanted_files, Absent):
        return unknown(f"the files were not looked at: {wanted_files.absent}")
    files = wanted_files.files
    looked_at = {file.asked for file in files}
    unseen = [f"{name}: not looked at" for name in demands.files if name not in looked_at]
    unseen += [f"{file.path}: {file.unseen}" for file in files if file.unseen]
    if faults := [fault for f in files if (fault := _fault(f, wanted_files.uid, container))]:
        return _together(faults, unseen)
    if unseen:
        return unknown("; ".join(unseen[:3]))
    data = [file for file in files if file.kind != "directory"]
    counts = [f"{count_of(len(data), 'file')}, {size(sum(f.bytes for f in data))}"] * bool(data)
    if folders := len(files) - len(data):
        counts.append(count_of(folders, "directory", "directories"))
    return ok(f"{', '.join(counts)}: opened by uid {wanted_files.uid}")


def _fault(file: WantedFile, uid: int, container: Container | None) -> Finding | None:
    """What is wrong with one path."""
    at = shlex.quote(file.path)
    if file.unseen:
        return None
    if file.lacks:
        fix = Fix(text=f"Bring {file.lacks} as well: it is made and moved with its other half")
        return fail(f"{file.path}: {file.lacks} is missing", fix)
    if file.link:
        text = f"Bring what {file.path} stands for, or let it point there"
        return fail(f"{file.path} leads to {file.link}: nothing there", _brought(text, container))
    if file.error.startswith("ENOENT"):
        text = f"Bring it to {file.path}, or name where it is"
        evidence = [f"as far as it goes: {file.stops}"]
        return fail(f"{file.path} is not there", _brought(text, container), evidence=evidence)
    if file.error.startswith("EACCES"):
        return _closed(file, uid)
    if file.error:
        return fail(f"{file.path}: {file.error}", Fix(commands=[f"ls -ld {at}"]))
    if file.kind == "other":
        return fail(f"{file.path} is no file", Fix(commands=[f"ls -ld {at}"]))
    return _spoiled(file, container)


def _spoiled(file: WantedFile, container: Container | None) -> Finding | None:
    """What is wrong with the contents of a path that can be opened."""
    at = shlex.quote(file.path)
    if file.kind == "directory":
        if file.spoiled:
            pull = [f"git -C {at} lfs pull"] * any("Git LFS" in line for line in file.spoiled)
            summary = f"{file.path}: {count_of(len(file.spoiled), 'entry', 'entries')} without data"
            fix = Fix(text="Bring the data that these stand for", commands=pull)
            return warn(summary, fix, evidence=file.spoiled)
        if not file.entries:
            return fail(f"{file.path} is empty", _brought(f"Fill {file.path}", container))
    elif file.mistaken:
        pull = [f"git -C {shlex.quote(_folder(file.path))} lfs pull"]
        fix = Fix(
            text="Get the data itself: what was saved in its place is not it",
            commands=pull if file.mistaken == "Git LFS pointer" else [f"head -c 300 {at}"],
        )
        return fail(f"{file.path} is no data: {file.mistaken}", fix)
    elif not file.bytes:
        return fail(f"{file.path} is empty: 0 bytes", Fix(text=f"Get {file.path} again"))
    return None


def _closed(file: WantedFile, uid: int) -> Finding:
    """A path that this user may not read, or not come by."""
    at, way = shlex.quote(file.path), file.stops != file.path
    allow = f"chmod a+{'x' if way else 'rX'} {shlex.quote(file.stops)}"
    return fail(
        f"{file.path}: uid {uid} may not read it",
        Fix(
            text=f"Let uid {uid} read it, or run as uid {file.owner}",
            commands=[allow if uid == file.owner else f"sudo {allow}", f"namei -l {at}"],
            needs_root=uid != file.owner,
        ),
        evidence=[f"{file.stops}: mode {file.mode:04o}, owner uid {file.owner}"],
    )


def _brought(text: str, container: Container | None) -> Fix:
    if container and container.runtime in MOUNTED:
        text += ". In a container it must be mounted: -v /on/the/host:/in/the/container:ro"
    return Fix(text=text)


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _together(faults: Iterable[Finding], unseen: Iterable[str]) -> Finding:
    """One finding of all paths, the worst first."""
    found = sorted(faults, key=lambda fault: fault.status is not Status.FAIL)
    summaries = [fault.summary for fault in found]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    fixes = [fault.fix for fault in found if fault.fix]
    return (fail if found[0].status is Status.FAIL else warn)(
        summaries[0] + more,
        Fix(
            text="; ".join(list(dict.fromkeys(fix.text for fix in fixes if fix.text))[:5]),
            commands=dict.fromkeys(command for fix in fixes for command in fix.commands),
            needs_root=any(fix.needs_root for fix in fixes),
        ),
        evidence=[
            *(summaries if more else []),
            *(line for fault in found for line in fault.evidence),
            *unseen,
        ][:20],
        basis="measured",
    )
