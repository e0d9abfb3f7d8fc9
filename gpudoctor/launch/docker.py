"""docker run."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch._run import spell_run
from gpudoctor.launch.settings import GpuDevices, Setting


def spell(settings: Sequence[Setting]) -> Spelling:
    return spell_run("docker", settings, flags)


def flags(setting: Setting) -> list[str]:
    """The flags that only docker has for a setting."""
    match setting:
        case GpuDevices(vendor="nvidia", count=count):
            return [f"--gpus {count or 'all'}"]
    return []
