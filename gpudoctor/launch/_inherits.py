"""Launchers whose jobs live in the host's namespaces: Slurm, pyxis, Apptainer, a shell."""

from collections.abc import Iterable, Sequence

from gpudoctor.launch import merge
from gpudoctor.launch.settings import (
    Capability,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Setting,
)


def unprivileged(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """The same for a job that gets no capabilities: what IPC_LOCK is for, memlock does too."""
    return merge(Memlock() if s == Capability("IPC_LOCK") else s for s in settings)


def notes_on(setting: Setting, job: str) -> list[str]:
    """What to say about a setting that needs nothing, or that nothing can give."""
    match setting:
        case IpcHost():
            return [f"{job} uses the host's /dev/shm and IPC already."]
        case HostNetwork():
            return [f"{job} uses the host's network already."]
        case Capability(name=name):
            return [f"{job} cannot be given CAP_{name}."]
    return []


def groups_of(setting: Setting) -> Sequence[Setting]:
    """The groups that the user must be in; where devices are the host's, so are their groups."""
    match setting:
        case Group():
            return [setting]
        case GpuDevices(groups=groups):
            return [Group(gid) for gid in groups]
    return []
