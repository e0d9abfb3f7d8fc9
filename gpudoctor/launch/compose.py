"""A service of a compose file."""

from collections.abc import Sequence
from typing import Any

from gpudoctor.launch import Spelling
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import exact, spelling, tmpfs_options, without
from gpudoctor.launch._yaml import dump
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


def entries(settings: Sequence[Setting]) -> tuple[dict[str, Any], list[str]]:
    """What a service must say, and what is to be told beside it."""
    service: dict[str, Any] = {}
    notes: list[str] = []
    for setting in settings:
        _add(setting, service, notes)
    return service, notes


def spell(settings: Sequence[Setting]) -> Spelling:
    service, notes = entries(settings)
    if unset := without(settings):
        # `NAME:` without a value would pass the value of the shell that calls compose.
        service["command"] = " ".join([*unset, "COMMAND"])
    return spelling("In the compose file:", dump({"services": {"SERVICE": service}}), notes)


def _add(setting: Setting, service: dict[str, Any], notes: list[str]) -> None:
    match setting:
        case ShmSize(bytes=count):
            service["shm_size"] = exact(count)
        case IpcHost():
            service["ipc"] = "host"
        case Pids(value=value):
            service["pids_limit"] = -1 if value is None else value
        case Memory(value=None):
            service["mem_limit"] = 0
            notes.append("Remove deploy.resources.limits.memory, if it is there.")
        case Memory(value=int(value)):
            service["mem_limit"] = exact(value)
        case Cpus(count=count):
            service["cpus"] = count
        case GpuDevices(vendor="amd", groups=groups):
            _extend(service, "devices", "/dev/kfd", "/dev/dri")
            _extend(service, "group_add", *map(str, groups or AMD_GROUPS))
            _extend(service, "security_opt", "seccomp:unconfined")
            if not groups:
                notes.append(
                    "KFD_GID is what `stat -c %g /dev/kfd` prints on the host, RENDER_GID what "
                    "`stat -c %g /dev/dri/renderD128` prints."
                )
        case GpuDevices(count=count):
            devices = {"driver": "nvidia", "count": count or "all", "capabilities": ["gpu"]}
            service["deploy"] = {"resources": {"reservations": {"devices": [devices]}}}
        case RdmaDevices():
            _extend(service, "devices", "/dev/infiniband")
        case HostNetwork():
            service["network_mode"] = "host"
            notes.append("Remove networks: and ports:, which contradict the host's network.")
        case Capability(name=name):
            _extend(service, "cap_add", name)
        case Group(gid=gid):
            _extend(service, "group_add", str(gid))
        case EnvSet(name=name, value=value):
            service.setdefault("environment", {})[name] = value.replace("$", "$$")
        case Mount(source="", target=target):
            _extend(service, "tmpfs", f"{target}:{','.join(tmpfs_options(setting))}")
        case Mount(source=source, target=target):
            volume = {"type": "bind", "source": source, "target": target}
            _extend(service, "volumes", volume | ({"read_only": True} if setting.read_only else {}))
    if limit := rlimit(setting):
        ulimits = service.setdefault("ulimits", {})
        ulimits[limit.name] = -1 if limit.value is None else limit.value  # soft and hard


def _extend(service: dict[str, Any], key: str, *items: object) -> None:
    present = service.setdefault(key, [])
    present += [item for item in items if item not in present]


AMD_GROUPS = ("KFD_GID", "RENDER_GID")
