"""What root does on a node for jobs that inherit its kernel's state: no launch can."""

from collections.abc import Sequence
from shlex import quote

from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import command, exact, tmpfs_options, write
from gpudoctor.launch.settings import (
    Cpus,
    GpuDevices,
    Group,
    Memory,
    Mount,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)

LIMITS_D = "/etc/security/limits.d/99-gpudoctor.conf"


def lines(settings: Sequence[Setting], service: str = "") -> list[str]:
    """Shell lines for root; settings that no node has are not for this function.

    Args:
        settings: merged.
        service: the systemd service that starts the jobs; empty where people log in.
    """
    found = [line for setting in settings for line in _lines(setting)]
    limited = [s for s in settings if directive(s) and not isinstance(s, Stack)]
    if limited:
        found += _drop_in(service, limited) if service else _login(limited)
    gids = [gid for setting in settings for gid in _groups(setting)]
    if gids:
        found += [f"usermod -aG {','.join(dict.fromkeys(gids))} USER"]
    if gids or (not service and any(map(rlimit, limited))):
        found += ["# Then log in again."]
    return found


def directive(setting: Setting) -> str:
    """A limit as systemd's units have it; empty for what is no limit."""
    match setting:
        case Pids(value=value):
            return f"TasksMax={'infinity' if value is None else value}"
        case Memory(value=value):
            return f"MemoryMax={'infinity' if value is None else exact(value, SYSTEMD)}"
        case Cpus(count=count):
            return f"CPUQuota={count}00%"
    limit = rlimit(setting)
    if limit is None:
        return ""
    amount = "infinity"
    if limit.value is not None:
        amount = exact(limit.value, SYSTEMD) if limit.unit > 1 else str(limit.value)
    hard = ":infinity" if isinstance(setting, Stack) else ""
    return f"Limit{limit.name.upper()}={amount}{hard}"


SYSTEMD = ("", "K", "M", "G", "T")


def _lines(setting: Setting) -> list[str]:
    match setting:
        case ShmSize(bytes=count):
            options = f"rw,nosuid,nodev,size={exact(count)}"
            return [f"mount -o remount,{options} /dev/shm", *_fstab("tmpfs", "/dev/shm", options)]
        case Mount(source="", target=target, executable=True):
            # A new tmpfs would hide what is there; it is only the options that are wrong.
            mounted = f'"$(findmnt -no TARGET -T {quote(target)})"'
            found = [f"mount -o remount,rw,exec {mounted}  # and in /etc/fstab"]
            if setting.tmpfs_bytes:
                size = exact(setting.tmpfs_bytes)
                found.append(f"# If it is a tmpfs: mount -o remount,size={size} {quote(target)}")
            return found
        case Mount(source="", target=target):
            options = ",".join(["nosuid,nodev", *tmpfs_options(setting)])
            return _mounted("tmpfs", target, options)
        case Mount(source=source, target=target):
            options = "bind,ro" if setting.read_only else "bind"
            return _mounted(source, target, options)
        case RdmaDevices():
            return ["modprobe -a ib_uverbs ib_umad rdma_ucm"]
        case GpuDevices(vendor="nvidia"):
            return ["nvidia-modprobe -u -c 0"]
        case GpuDevices(vendor="amd"):
            return ["modprobe amdgpu"]
    return []


def _mounted(source: str, target: str, options: str) -> list[str]:
    return [
        f"mkdir -p {quote(target)}",
        f"mount -t {_kind(source)} -o {options} {quote(source)} {quote(target)}",
        *_fstab(source, target, options),
    ]


def _fstab(source: str, target: str, options: str) -> list[str]:
    """The same after the next boot, in place of what was said of that directory."""
    source, target = source.replace(" ", "\\040"), target.replace(" ", "\\040")
    present = quote(f"\\#[[:space:]]{target}[[:space:]]#d")
    entry = quote(f"{source} {target} {_kind(source)} {options} 0 0")
    return [f"sed -i {present} /etc/fstab", f"echo {entry} >> /etc/fstab"]


def _kind(source: str) -> str:
    return "tmpfs" if source == "tmpfs" else "none"


def _drop_in(service: str, settings: Sequence[Setting]) -> list[str]:
    folder = f"/etc/systemd/system/{service}.service.d"
    return [
        f"mkdir -p {folder}",
        *write(f"{folder}/gpudoctor.conf", ["[Service]", *map(directive, settings)]),
        f"systemctl daemon-reload && systemctl restart {service}",
    ]


def _login(settings: Sequence[Setting]) -> list[str]:
    limits = [limit for limit in map(rlimit, settings) if limit is not None]
    found: list[str] = []
    if limits:
        # "*" does not mean root.
        entries = [f"- {limit.name} {limit.coarse}" for limit in limits]
        found += write(LIMITS_D, [f"{who} {entry}" for entry in entries for who in ("*", "root")])
    properties = [directive(setting) for setting in settings if not rlimit(setting)]
    if properties:
        found += command(['systemctl set-property "user-$(id -u USER).slice"', *properties])
    return found


def _groups(setting: Setting) -> list[str]:
    match setting:
        case Group(gid=gid):
            return [str(gid)]
        case GpuDevices(vendor="amd", groups=groups):
            return [str(gid) for gid in groups] or ["render", "video"]
    return []
