"""A service of systemd, by a drop-in of its unit."""

from collections.abc import Sequence

from gpudoctor.launch import Spelling
from gpudoctor.launch import _node as node
from gpudoctor.launch._shell import tmpfs_options
from gpudoctor.launch.settings import (
    Capability,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Mount,
    RdmaDevices,
    Setting,
    ShmSize,
)


def spell(settings: Sequence[Setting]) -> Spelling:
    said = [line for setting in settings for line in _directives(setting)]
    on_node = node.lines([setting for setting in settings if isinstance(setting, ShmSize)])
    return Spelling(
        text="In the unit (systemctl edit UNIT), then restart it:" if said else "",
        lines=("[Service]", *dict.fromkeys(said)) if said else (),
        node_text="On the node, as root (services share its /dev/shm):" if on_node else "",
        node_lines=tuple(on_node),
    )


def _directives(setting: Setting) -> list[str]:
    match setting:
        case IpcHost():
            return ["PrivateIPC=no"]
        case GpuDevices(groups=groups):
            return [*DEVICES, *(f"SupplementaryGroups={gid}" for gid in groups)]
        case RdmaDevices():
            return DEVICES
        case HostNetwork():
            return ["PrivateNetwork=no"]
        case Capability(name=name):
            return [f"AmbientCapabilities=CAP_{name}"]
        case Group(gid=gid):
            return [f"SupplementaryGroups={gid}"]
        case EnvSet(name=name, value=value):
            return [f"Environment={_quoted(f'{name}={value}')}"]
        case EnvUnset(name=name):
            return [f"UnsetEnvironment={name}"]
        case Mount(source="", target=target):
            options = ",".join(tmpfs_options(setting))
            return [f"TemporaryFileSystem={_word(f'{target}:{options}')}"]
        case Mount(source=source, target=target):
            kind = "BindReadOnlyPaths" if setting.read_only else "BindPaths"
            return [f"{kind}={_word(f'{source}:{target}')}"]
    directive = node.directive(setting)
    return [directive] if directive else []


DEVICES = ["PrivateDevices=no", "DevicePolicy=auto"]


def _word(text: str) -> str:
    return text if text.isascii() and not set(text) & set(" \t\n\"'\\%") else _quoted(text)


def _quoted(text: str) -> str:
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%")):
        text = text.replace(char, escaped)
    return f'"{text}"'
