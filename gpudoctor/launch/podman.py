"""podman run."""

from collections.abc import Sequence

from msgspec.structs import replace

from gpudoctor.launch import Spelling
from gpudoctor.launch._run import spell_run
from gpudoctor.launch.settings import GpuDevices, Setting


def spell(settings: Sequence[Setting]) -> Spelling:
    spelling = spell_run("podman", settings, flags)
    if any(isinstance(s, GpuDevices) and s.vendor == "nvidia" for s in settings):
        return replace(
            spelling,
            node_text="If podman does not know nvidia.com/gpu, on the node, as root:",
            node_lines=("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",),
        )
    return spelling


def flags(setting: Setting) -> list[str]:
    """The flags that only podman has for a setting."""
    match setting:
        case GpuDevices(vendor="nvidia", count=count):
            which = ["all"] if count is None else range(count)
            devices = [f"--device nvidia.com/gpu={gpu}" for gpu in which]
            # SELinux labels would keep the container from the driver's device nodes.
            return [*devices, "--security-opt label=disable"]
    return []
