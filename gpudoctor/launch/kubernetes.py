"""A pod of Kubernetes; limits of processes are the container runtime's, on the node."""

import re
from collections.abc import Sequence
from typing import Any

from gpudoctor.launch import Spelling
from gpudoctor.launch import _node as node
from gpudoctor.launch._limits import rlimit
from gpudoctor.launch._shell import exact, spelling, without
from gpudoctor.launch._yaml import dump
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    GpuDevices,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    NProc,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)

KUBELET = "/var/lib/kubelet/config.yaml"


def pod_of(settings: Sequence[Setting]) -> "Pod":
    """What a pod must say; but for its command."""
    pod = Pod()
    for setting in settings:
        pod.add(setting)
    return pod


def spell(settings: Sequence[Setting]) -> Spelling:
    pod = pod_of(settings)
    if wrapper := before_command(settings):
        pod.container["command"] = [*wrapper, "COMMAND"]
    limits = [s for s in settings if isinstance(s, Memlock | NoFile | NProc)]
    on_node = node.lines(limits, "containerd")
    for setting in settings:
        if isinstance(setting, Pids):
            on_node += _pod_pids(setting)
    return spelling(
        "In the manifest of the pod (or of a Job's pod template):",
        dump({"spec": pod.spec()}) if pod.spec() else [],
        pod.notes,
        "On every GPU node, as root (CRI-O: crio instead of containerd):",
        on_node,
    )


class Pod:
    """The parts of a pod that grow setting by setting."""

    def __init__(self) -> None:
        self.top: dict[str, Any] = {}
        self.container: dict[str, Any] = {}
        self.volumes: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def spec(self) -> dict[str, Any]:
        spec = dict(self.top)
        if self.container:
            spec["containers"] = [{"name": "CONTAINER", **self.container}]
        if self.volumes:
            spec["volumes"] = self.volumes
        return spec

    def add(self, setting: Setting) -> None:
        match setting:
            case ShmSize(bytes=count):
                self._volume("dshm", "/dev/shm", _memory(count))
                self.notes.append("What is in /dev/shm counts against the memory limit.")
            case IpcHost():
                self.top["hostIPC"] = True
            case Memlock():
                self._capability("IPC_LOCK")
                self.notes.append(
                    "IPC_LOCK lifts the memlock limit for root inside; a pod has no field for it."
                )
            case Memory(value=None):
                self.notes.append("Remove resources.limits.memory from the container.")
            case Memory(value=int(value)):
                self._resource("memory", _size(value))
            case Cpus(count=count):
                self._resource("cpu", count)
            case GpuDevices(vendor=vendor, count=count, groups=groups):
                self._limit(f"{vendor}.com/gpu", count or "GPUS")
                if count is None:
                    self.notes.append("GPUS is how many GPUs the job uses.")
                if vendor == "nvidia":
                    self.notes.append(
                        "Where nvidia is not the default runtime, add runtimeClassName: nvidia."
                    )
                self._groups(groups)
            case RdmaDevices():
                self._limit("rdma/RESOURCE", 1)
                self.notes.append(
                    "`kubectl describe node` names rdma/RESOURCE (EFA: vpc.amazonaws.com/efa)."
                )
            case HostNetwork():
                self.top |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
            case Capability(name=name):
                self._capability(name)
            case Group(gid=gid):
                self._groups([gid])
            case EnvSet(name=name, value=value):
                # Kubernetes expands $(NAME) in values.
                variable = {"name": name, "value": value.replace("$(", "$$(")}
                self.container.setdefault("env", []).append(variable)
            case Mount(target=target, source="", tmpfs_bytes=count):
                self._volume(_name(target), target, _memory(count), setting.read_only)
            case Mount(target=target, source=source):
                host = {"hostPath": {"path": source, "type": "Directory"}}
                self._volume(_name(target), target, host, setting.read_only)

    def _volume(self, name: str, path: str, kind: dict[str, Any], read_only: bool = False) -> None:
        taken = {volume["name"] for volume in self.volumes}
        while name in taken:
            name += "-2"
        self.volumes.append({"name": name, **kind})
        mount = {"name": name, "mountPath": path} | ({"readOnly": True} if read_only else {})
        self.container.setdefault("volumeMounts", []).append(mount)

    def _limit(self, name: str, amount: str | int) -> None:
        resources = self.container.setdefault("resources", {})
        resources.setdefault("limits", {})[name] = amount

    def _resource(self, name: str, amount: str | int) -> None:
        self._limit(name, amount)
        self.container["resources"].setdefault("requests", {})[name] = amount

    def _capability(self, name: str) -> None:
        context = self.container.setdefault("securityContext", {"capabilities": {"add": []}})
        if name not in context["capabilities"]["add"]:
            context["capabilities"]["add"].append(name)

    def _groups(self, gids: Sequence[int]) -> None:
        if gids:
            context = self.top.setdefault("securityContext", {"supplementalGroups": []})
            present = context["supplementalGroups"]
            present += [gid for gid in gids if gid not in present]


def _memory(count: int | None) -> dict[str, Any]:
    limit = {"sizeLimit": _size(count)} if count else {}
    return {"emptyDir": {"medium": "Memory", **limit}}


def _size(count: int) -> str | int:
    text = exact(count, ("", "Ki", "Mi", "Gi", "Ti"))
    return int(text) if text.isdigit() else text


def _name(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:60].rstrip("-") or "root"


def before_command(settings: Sequence[Setting]) -> list[str]:
    """The words before a command that take variables away and lower its stack."""
    words = [part for word in without(settings) for part in word.split()]
    for setting in settings:
        limit = rlimit(setting)
        if isinstance(setting, Stack) and limit is not None:
            # The one limit that every process may lower for itself.
            words = ["sh", "-c", f'ulimit -S -s {limit.coarse} && exec "$@"', "sh", *words]
    return words


def _pod_pids(pids: Pids) -> list[str]:
    value = -1 if pids.value is None else pids.value
    return [
        f"sed -i '/^podPidsLimit:/d' {KUBELET}",
        f"echo 'podPidsLimit: {value}' >> {KUBELET}",
        "systemctl restart kubelet",
    ]
