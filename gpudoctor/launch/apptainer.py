"""apptainer exec; a container is a process of its caller, whose limits it has."""

from collections.abc import Sequence
from shlex import quote

from gpudoctor.launch import Spelling
from gpudoctor.launch import _node as node
from gpudoctor.launch._inherits import groups_of, notes_on
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import command, prelude, spelling, without
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    EnvUnset,
    GpuDevices,
    HostNetwork,
    IpcHost,
    Memory,
    Mount,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
)


def spell(settings: Sequence[Setting]) -> Spelling:
    lines = [line for setting in settings for line in _shell(setting)]
    flags = [flag for setting in settings for flag in _flags(setting)]
    wrapper = without(settings)
    if flags or wrapper or any(isinstance(s, EnvSet) for s in settings):
        lines += command(["apptainer exec", *dict.fromkeys(flags), "IMAGE", *wrapper, "COMMAND"])
    of_host = [s for s in settings if isinstance(s, ShmSize | Pids | Memory | Cpus) or rlimit(s)]
    groups = [group for setting in settings for group in groups_of(setting)]
    return spelling(
        "Start the container with:",
        lines,
        [note for setting in settings for note in _notes(setting)],
        "On the node, as root:",
        [
            *node.lines([*of_host, *groups]),
            *(line for setting in settings for line in _allowed(setting)),
        ],
    )


def _shell(setting: Setting) -> list[str]:
    match setting:
        case EnvSet(name=name, value=value):
            # --env would split a value at its commas.
            return [f"export APPTAINERENV_{name}={quote(value)}"]
        case EnvUnset():
            return []  # may come from the image
    return prelude(setting)


def _flags(setting: Setting) -> list[str]:
    match setting:
        case ShmSize() | IpcHost():
            return ["--bind /dev/shm"]  # needed with --contain, harmless without
        case GpuDevices(vendor=vendor):
            return ["--rocm" if vendor == "amd" else "--nv"]
        case RdmaDevices():
            return ["--bind /dev/infiniband"]
        case Capability(name=name):
            return [f"--add-caps=CAP_{name}"]
        case Mount(source="", target=target):
            return [f"--scratch={quote(target)}"]
        case Mount(source=source, target=target):
            end = ":ro" if setting.read_only else ""
            return [f"--bind {quote(f'{source}:{target}{end}')}"]
    return []


def _notes(setting: Setting) -> list[str]:
    match setting:
        case HostNetwork():
            return notes_on(setting, "Apptainer without --net")
        case Pids() | Memory() | Cpus():
            return ["Limits of pids, memory and CPUs are the caller's: under Slurm, ask sbatch."]
    return []


def _allowed(setting: Setting) -> list[str]:
    """What the administrator must permit."""
    match setting:
        case Capability(name=name):
            return [f"apptainer capability add --user USER CAP_{name}"]
        case Mount(source="", tmpfs_bytes=count) if count:
            mebibytes = -(-count // (1 << 20))
            return [f"apptainer config global --set 'sessiondir max size' {mebibytes}"]
    return []
