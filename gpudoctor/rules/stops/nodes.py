"""Device nodes that are there and cannot be opened."""

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from gpudoctor.facts.container import Container
from gpudoctor.facts.gpu_path import DeviceNode, DeviceNodes
from gpudoctor.facts.gpus import Gpu
from gpudoctor.facts.user import User
from gpudoctor.finding import Fix, Owner
from gpudoctor.launch.settings import GpuDevices, Group, Setting
from gpudoctor.rules.stops.stop import Stop, is_inside

NOBODY = 65534  # the group that a user namespace shows for one that it does not map
DRI = "/dev/dri"
PATHS = {
    "nvidia": (r"/dev/nvidia(ctl|-uvm)", r"/dev/nvidia\d+"),
    "amd": (r"/dev/kfd", r"/dev/dri/renderD\d+"),
    "wsl": (r"none", r"/dev/dxg"),
}


class Nodes(Struct, frozen=True):
    """The nodes of a vendor: those for all GPUs, and those of each."""

    control: list[DeviceNode]
    gpus: list[DeviceNode]

    @property
    def refused(self) -> list[DeviceNode]:
        """What keeps the job out. A job may be given some of the GPUs, but must be given one."""
        closed = [node for node in self.control if _is_refused(node)]
        if self.gpus and all(node.error for node in self.gpus):
            closed += [node for node in self.gpus if _is_refused(node)]
        return closed


def nodes_of(nodes: DeviceNodes | None, vendor: str) -> Nodes:
    control, gpus = PATHS[vendor]
    found = nodes.nodes if nodes else ()
    return Nodes(
        [node for node in found if re.fullmatch(control, node.path)],
        [node for node in found if re.fullmatch(gpus, node.path)],
    )


def without_node(nodes: Nodes, gpus: Iterable[Gpu]) -> list[Gpu]:
    """GPUs that the driver offers, and whose device node is not here: ROCm leaves them out."""
    here = {node.path for node in nodes.gpus}
    cards = [gpu for gpu in gpus if gpu.render_node and not gpu.integrated]
    return [gpu for gpu in cards if f"{DRI}/{gpu.render_node}" not in here]


def left_out(gpus: Sequence[Gpu], container: Container | None) -> Stop:
    """Some GPUs of AMD's have no device node here."""
    paths = [f"{DRI}/{gpu.render_node}" for gpu in gpus]
    more = f" and {len(paths) - 1} more are" if paths[1:] else " is"
    summary = f"{paths[0]}{more} not here: ROCm leaves such a GPU out"
    evidence = tuple(
        f"{path}, of {gpu.bus_id}: not here" for path, gpu in zip(paths, gpus, strict=True)
    )
    if is_inside(container):
        return Stop(summary, Fix(GpuDevices("amd")), "launch", evidence)
    fix = Fix(text="Have udev make the nodes", commands=["udevadm trigger"], needs_root=True)
    return Stop(summary, fix, "node", evidence)


def _is_refused(node: DeviceNode) -> bool:
    return node.error.startswith(("EPERM", "EACCES"))


def closed(
    nodes: Nodes,
    vendor: str,
    user: User | None,
    container: Container | None,
    names: Mapping[str, int],
) -> Stop:
    """At least one node is refused: by a device cgroup (EPERM) or by its mode (EACCES)."""
    refused = nodes.refused
    first = refused[0]
    owner: Owner = "launch" if is_inside(container) else "node"
    evidence = [f"{n.path}: mode {n.mode}, uid {n.uid}, gid {n.gid}: {n.error}" for n in refused]
    evidence += [f"{name} is {gid} in this image" for name, gid in names.items()]
    if first.error.startswith("EPERM"):
        summary = f"{first.path} is there, but a device cgroup keeps this job from it"
        if container and container.slurm and not is_inside(container) and nodes.control:
            if not any(_is_refused(node) for node in nodes.control):
                summary = f"Slurm gave this job none of the node's {len(nodes.gpus)} GPUs"
            fix, owner = Fix(GpuDevices(vendor, 1)), "launch"
        else:
            fix = _cgroup(vendor, container)
        return Stop(summary, fix, owner, tuple(evidence))
    groups = {n.gid for n in refused if int(n.mode or "0", 8) & 0o060 == 0o060}
    mine = {user.gid, *user.groups} if user else set()
    missing = tuple(sorted(groups - mine - {0, NOBODY}))
    summary = f"{first.path} is mode {first.mode} of group {first.gid}"
    if user:
        summary += f", which uid {user.uid} is not in"
    if len(missing) == len({n.gid for n in refused}):
        settings: list[Setting] = [Group(gid) for gid in missing]
        if is_inside(container) and vendor == "amd":
            settings = [GpuDevices("amd", groups=missing)]
        return Stop(summary, Fix(*settings), owner, tuple(evidence))
    if any(n.gid == NOBODY for n in refused) and is_inside(container):
        text = "Keep the groups of the user who starts the rootless container"
        command = "podman run --group-add keep-groups --device /dev/kfd --device /dev/dri IMAGE"
        return Stop(summary, Fix(text=text, commands=[command]), owner, tuple(evidence))
    summary = f"{first.path} may not be opened: mode {first.mode}, uid {first.uid}"
    return Stop(summary, _mode(first, vendor), "node", tuple(evidence))


def _cgroup(vendor: str, container: Container | None) -> Fix:
    if not is_inside(container):
        text = "Start the job where its unit or session may use GPUs (DevicePolicy=, DeviceAllow=)"
        return Fix(text=text, commands=["systemctl show -p DevicePolicy -p DeviceAllow UNIT"])
    if vendor == "amd":
        return Fix(GpuDevices("amd"))
    # NVIDIA/nvidia-docker#1730: systemd writes the device cgroup anew, without these nodes.
    return Fix(
        GpuDevices("nvidia"),
        text="Restart the container; so that `systemctl daemon-reload` does not do it again, on"
        " the node",
        commands=["nvidia-ctk system create-dev-char-symlinks --create-all"],
        needs_root=True,
    )


def _mode(node: DeviceNode, vendor: str) -> Fix:
    if int(node.mode or "0", 8) & 0o006 == 0o006:
        text = "The mode allows it: a security module such as SELinux does not. Allow it"
        return Fix(text=text, commands=["setsebool -P container_use_devices 1"], needs_root=True)
    if vendor == "amd":
        rule = 'SUBSYSTEM==\\"kfd|drm\\", KERNEL==\\"kfd|renderD*\\", GROUP=\\"render\\"'
        return Fix(
            text="Give the nodes to the group render",
            commands=[
                f'echo "{rule}, MODE=\\"0660\\"" > /etc/udev/rules.d/70-amdgpu.rules',
                "udevadm control --reload && udevadm trigger",
            ],
            needs_root=True,
        )
    option = "options nvidia NVreg_DeviceFileMode=0666"
    return Fix(
        text="Let all users open the nodes",
        commands=[
            "chmod 0666 /dev/nvidia*",
            f"echo '{option}' > /etc/modprobe.d/nvidia-mode.conf",
        ],
        needs_root=True,
    )
