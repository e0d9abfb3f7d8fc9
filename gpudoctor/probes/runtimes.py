"""What each container runtime leaves to be seen: the evidence, weighed, without a verdict."""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from gpudoctor.facts.container import Clue
from gpudoctor.probes import Machine
from gpudoctor.probes.mounts import Mount, parse

ID = "[0-9a-f]{64}"


class Sign(Struct, frozen=True):
    """What a text shows when a runtime made it."""

    runtime: str
    points: int
    pattern: str


# "/etc/hosts is ..." and the like: where the file lies on the host.
FILES = (
    Sign("docker", 5, rf"/containers/{ID}/(hostname|hosts|resolv\.conf)$|/buildkit/executor/"),
    Sign("podman", 5, rf"/[a-z]+-containers/{ID}/userdata/"),
    Sign("containerd", 5, rf"/io\.containerd\.[^/]+/sandboxes/{ID}/|/nerdctl/"),
    Sign("enroot", 6, r"^/\.lock is "),
)
FILE_TARGETS = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv", "/.lock")
# The file system at /, with its options.
ROOT = (
    Sign("docker", 3, r"/overlay2/|/docker/(vfs|fuse-overlayfs|btrfs|zfs)/"),
    Sign("podman", 3, r"/containers/storage/|/overlay/l/|-containers/"),
    Sign("containerd", 2, r"/io\.containerd\.snapshotter\.v1\."),
    Sign("apptainer", 5, r"/(apptainer|singularity)/mnt/session/"),
    Sign("enroot", 5, r"/pyxis_|/enroot[/-]"),
    Sign("lxc", 3, r"/(lxc|lxd|incus)/.*rootfs"),
    Sign("gvisor", 1, r"9p .*trans=fd"),
)
CGROUP = (
    Sign("docker", 4, rf"/docker[-/]{ID}"),
    Sign("podman", 4, rf"/libpod-{ID}"),
    Sign("cri-o", 4, rf"/crio-{ID}"),
    Sign("containerd", 4, rf"[/:]cri-containerd[-:]{ID}"),
    Sign("lxc", 4, r"/lxc(\.payload)?[./]"),
    Sign("kubernetes", 4, r"/kubepods"),
)
# What a container's manager calls itself; anything else is a container of an unknown kind.
MANAGERS = ("docker", "podman", "lxc", "systemd-nspawn")


def clues(machine: Machine, private: Mapping[str, bool | None], *, wsl2: bool) -> Iterator[Clue]:
    """All evidence.

    Args:
        machine: where to look.
        private: of each kind of namespace, whether ours is not the machine's first.
        wsl2: every distribution has namespaces of its own there.
    """
    if wsl2:
        yield Clue("none", 4, "the kernel of WSL2")
    else:
        yield from _namespaces(private)
    found: list[Mount] = []
    if private["mnt"] is not False:
        found = parse(machine.text("/proc/self/mountinfo") or "")
    yield from _mounts(found)
    groups = machine.text("/proc/self/cgroup") or ""
    yield from _signs(CGROUP, groups, "cgroup")
    yield from _files(machine)
    yield from _variables(machine)
    version = machine.text("/proc/version") or ""
    if "gvisor" in version or "#1 SMP Sun Jan 10 15:06:54 PST 2016" in version:
        yield Clue("gvisor", 6, "/proc/version is gVisor's")


def _namespaces(private: Mapping[str, bool | None]) -> Iterator[Clue]:
    """A host's processes live in the first namespaces; containers have some of their own."""
    for kind, points in (("mnt", 4), ("pid", 2), ("ipc", 1), ("uts", 1), ("user", 1)):
        if private[kind] is False:
            yield Clue("none", points, f"the first {kind} namespace")
    own = [kind for kind, is_private in private.items() if is_private]
    if "pid" in own:
        # Services and sandboxes have mount namespaces too; their processes stay the host's.
        yield Clue("other", 4 if len(own) > 3 else 3, f"own namespaces: {', '.join(own)}")


def _mounts(found: list[Mount]) -> Iterator[Clue]:
    files = [f"{m.target} is {m.root}" for m in found if m.target in FILE_TARGETS]
    yield from _signs(FILES, "\n".join(files), "mounts")
    root = [m for m in found if m.target == "/"][-1:]
    words = [f"{m.filesystem} {m.root} {m.source} {','.join(m.options)}" for m in root]
    yield from _signs(ROOT, "".join(words), "root file system")
    if any(m.filesystem == "fuse.lxcfs" and m.target.startswith("/proc/") for m in found):
        yield Clue("lxc", 2, "lxcfs in /proc")
    if any(re.search(r"/pods/[0-9a-f-]{36}/", m.root) for m in found):
        yield Clue("kubernetes", 4, "files of a pod are mounted")
    if any(m.target.endswith("/secrets/kubernetes.io/serviceaccount") for m in found):
        yield Clue("kubernetes", 3, "a service account is mounted")


def _files(machine: Machine) -> Iterator[Clue]:
    # An image's files stay when its tree becomes that of a virtual machine: one point.
    if machine.exists("/.dockerenv"):
        yield Clue("docker", 1, "/.dockerenv")
    environment = machine.text("/run/.containerenv")
    if environment is not None:
        written = environment.startswith('engine="podman')
        yield Clue("podman", 3 if written else 1, "/run/.containerenv")
    if machine.exists("/.singularity.d"):
        yield Clue("apptainer", 2, "/.singularity.d")
        if _image_of_apptainer(machine):
            yield Clue("apptainer", 4, "and variables of Apptainer")
    for path in ("/dev/.lxd-mounts", "/dev/lxd/sock", "/dev/incus/sock"):
        if machine.exists(path):
            yield Clue("lxc", 3, path)
    manager, where = _manager(machine)
    for name in MANAGERS:
        if manager.startswith(name):
            yield Clue(name, 4, f"{where} says {manager}")
            break
    else:
        if manager:
            yield Clue("other", 2, f"{where} says {manager}")
    if (machine.text("/etc/hosts") or "").startswith("# Kubernetes-managed hosts file"):
        yield Clue("kubernetes", 1, "/etc/hosts is Kubernetes'")


def _variables(machine: Machine) -> Iterator[Clue]:
    """Variables are inherited and exported: a hint, no more."""
    if "KUBERNETES_SERVICE_HOST" in machine.env:
        yield Clue("kubernetes", 1, "KUBERNETES_SERVICE_HOST")
    for name in MANAGERS:
        if machine.env.get("container", "").startswith(name):
            yield Clue(name, 1, f"container={name}")
    if _image_of_apptainer(machine):
        yield Clue("apptainer", 1, "variables of Apptainer")


def _image_of_apptainer(machine: Machine) -> bool:
    return bool({"APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"} & machine.env.keys())


def _manager(machine: Machine) -> tuple[str, str]:
    """What the first process was told that it runs in, and where that stands."""
    for path in ("/run/host/container-manager", "/run/systemd/container"):
        if text := machine.text(path):
            return text, path
    for pair in (machine.text("/proc/1/environ") or "").split("\0"):
        if pair.startswith("container=") and len(pair) > len("container="):
            return pair.partition("=")[2], "/proc/1/environ"
    return "", ""


def _signs(signs: tuple[Sign, ...], text: str, where: str) -> Iterator[Clue]:
    for sign in signs if text else ():
        if match := re.search(sign.pattern, text, re.MULTILINE):
            yield Clue(sign.runtime, sign.points, f"{where}: {match[0][:60]}")
