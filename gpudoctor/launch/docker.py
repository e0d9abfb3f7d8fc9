"""docker run."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch._run import spell_run
from gpudoctor.launch.settings import GpuDevices, Setting


def spell(settings: Sequence[Setting]) -> Spelling:
    return spell_run("docker", settings, _flags)


def _flags(setting: Setting) -> list[str]:
    match setting:
        case GpuDevices(vendor="nvidia", count=count):
            return [f"--gpus {count or 'all'}"]
    return []
