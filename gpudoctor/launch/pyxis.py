"""A batch script of Slurm whose srun starts containers: pyxis and enroot."""

from collections.abc import Sequence
from shlex import quote

from gpudoctor.launch import Spelling
from gpudoctor.launch._inherits import unprivileged
from gpudoctor.launch._shell import command, prelude, spelling, tmpfs_options, without
from gpudoctor.launch.settings import (
    EnvSet,
    EnvUnset,
    GpuDevices,
    Mount,
    RdmaDevices,
    Setting,
    ShmSize,
)
from gpudoctor.launch.slurm import IN_SCRIPT, ON_NODES, inherited, notes, on_nodes, requested


def spell(settings: Sequence[Setting]) -> Spelling:
    settings = unprivileged(settings)
    return spelling(
        IN_SCRIPT,
        [
            *requested(settings),
            *(line for setting in settings for line in _shell(setting)),
            *_srun(settings),
        ],
        [note for setting in settings for note in notes(setting)],
        ON_NODES,
        # enroot binds the host's /dev/shm.
        on_nodes(settings, [s for s in settings if isinstance(s, ShmSize)]),
    )


def _shell(setting: Setting) -> list[str]:
    match setting:
        case EnvUnset():
            return []  # may come from the image: see _srun
        case GpuDevices(vendor="nvidia"):
            # enroot's hook gives no GPUs without the first, and no CUDA without the second.
            return [
                "export NVIDIA_VISIBLE_DEVICES=all",
                "export NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            ]
        case RdmaDevices():
            return ["export MELLANOX_VISIBLE_DEVICES=all"]
    return [*inherited(setting), *prelude(setting)]


def _srun(settings: Sequence[Setting]) -> list[str]:
    mounts = [_mount(setting) for setting in settings if isinstance(setting, Mount)]
    # Else the image's own value would win.
    names = [setting.name for setting in settings if isinstance(setting, EnvSet)]
    flags = [f"--container-mounts={quote(','.join(mounts))}"] if mounts else []
    flags += [f"--container-env={','.join(names)}"] if names else []
    wrapper = without(settings)
    if not flags and not wrapper:
        return []
    return command(["srun --container-image=IMAGE", *flags, *wrapper, "COMMAND"])


def _mount(mount: Mount) -> str:
    if not mount.source:
        return f"tmpfs:{mount.target}:{'+'.join(tmpfs_options(mount))}"
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"
