"""`docker run` and `podman run`: one command whose flags they share."""

from collections.abc import Callable, Sequence
from shlex import quote

from gpudoctor.launch import Spelling
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import command, exact, tmpfs_options, without
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memory,
    Mount,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
)


def spell_run(
    program: str, settings: Sequence[Setting], own: Callable[[Setting], list[str]]
) -> Spelling:
    """The one command.

    Args:
        program: docker or podman.
        settings: merged.
        own: the program's own flags for a setting; none for those that both share.
    """
    flags = [flag for setting in settings for flag in own(setting) or shared(setting)]
    # No flag unsets for sure: `--env NAME` may pass the caller's value, `--env NAME=` sets an
    # empty one, and podman's --unsetenv leaves what another --env sets.
    words = [f"{program} run", *dict.fromkeys(flags), "IMAGE", *without(settings), "COMMAND"]
    return Spelling(text="Start the container with:", lines=tuple(command(words)))


def shared(setting: Setting) -> list[str]:
    """The flags that docker and podman share for a setting."""
    match setting:
        case ShmSize(bytes=count):
            return [f"--shm-size={exact(count)}"]
        case IpcHost():
            return ["--ipc=host"]
        case Pids(value=value):
            return [f"--pids-limit={-1 if value is None else value}"]
        case Memory(value=value):
            return [f"--memory={exact(value or 0)}"]  # 0: no limit
        case Cpus(count=count):
            return [f"--cpus={count}"]
        case GpuDevices(vendor="amd", groups=groups):
            return [
                "--device /dev/kfd",
                "--device /dev/dri",
                *(f"--group-add {group}" for group in groups or AMD_GROUPS),
                "--security-opt seccomp=unconfined",
            ]
        case RdmaDevices():
            return ["--device /dev/infiniband"]
        case HostNetwork():
            return ["--network=host"]
        case Capability(name=name):
            return [f"--cap-add={name}"]
        case Group(gid=gid):
            return [f"--group-add {gid}"]
        case EnvSet(name=name, value=value):
            return [f"--env {quote(f'{name}={value}')}"]
        case Mount(source=""):
            options = ",".join(tmpfs_options(setting))
            return [f"--tmpfs {quote(f'{setting.target}:{options}')}"]
        case Mount():
            end = ":ro" if setting.read_only else ""
            return [f"--volume {quote(f'{setting.source}:{setting.target}{end}')}"]
    limit = rlimit(setting)
    if limit is None:
        return []
    value = -1 if limit.value is None else limit.value
    return [f"--ulimit {limit.name}={value}:{value}"]


# Their numbers differ from host to host, and their names mean nothing in an image.
AMD_GROUPS = ('"$(stat -c %g /dev/kfd)"', '"$(stat -c %g /dev/dri/renderD128)"')
