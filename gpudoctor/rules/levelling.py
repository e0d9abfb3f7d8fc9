"""The fix where nodes differ: what makes the few like the many."""

import re
from collections.abc import Iterator, Sequence
from shlex import quote

from gpudoctor.data import table
from gpudoctor.facts.image import Image
from gpudoctor.facts.job_python import JobPython
from gpudoctor.finding import Fix
from gpudoctor.launch.settings import (
    EnvSet,
    EnvUnset,
    Memlock,
    Memory,
    NoFile,
    Setting,
    ShmSize,
)
from gpudoctor.rules import traits
from gpudoctor.rules.alike import Comparison
from gpudoctor.rules.cuda_compat import Wheel
from gpudoctor.rules.differences import remark, who
from gpudoctor.snapshot import Absent, Snapshot
from gpudoctor.units import parse_size

_NAMED = 2  # differences that the text names; the commands have all of them
_BESIDE_TORCH = re.compile(r"nvidia-.*|triton|pytorch-triton-rocm")  # its wheel brings them
_OF_ROOT = ("sudo ",)
_SWITCH = {"enabled": "1", "disabled": "0"}
_GPU_MODES = {  # nvidia-smi's options, and its words for the values
    traits.MIG: ("-mig", _SWITCH),
    traits.ECC: ("-e", _SWITCH),
    traits.COMPUTE_MODE: ("-c", {"default": "DEFAULT", "exclusive process": "EXCLUSIVE_PROCESS"}),
}


def level(differences: Sequence[Comparison], nodes: Sequence[Snapshot]) -> Fix:
    """Settings and commands for all the differences, the worst first."""
    settings: list[Setting] = []
    commands: list[str] = []
    packages: list[str] = []
    by_name = {node.name: node for node in nodes}
    of_torch = any(c.trait is traits.TORCH for c in differences)
    for difference in differences:
        if of_torch and _BESIDE_TORCH.fullmatch(difference.trait.label):
            continue
        settings += _settings(difference)
        package = _package(difference, by_name)
        packages += [package] if package else []
        commands += _commands(difference, by_name)
    commands[:0] = _pip(packages, differences, by_name)
    return Fix(
        *settings,
        text=_text(differences),
        commands=tuple(dict.fromkeys(commands)),
        needs_root=any(command.startswith(_OF_ROOT) for command in commands),
    )


def target(difference: Comparison) -> str:
    """The value that all should have: the usual one; where there is none, a likely one."""
    if difference.split.usual is not None:
        return difference.split.usual
    said = [v for v in difference.split.groups if v != difference.trait.unset]
    return max(said, key=_in_order)


def _in_order(value: str) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", value)], value


def _text(differences: Sequence[Comparison]) -> str:
    named = [f"{c.trait.label} {target(c)}" for c in differences[:_NAMED]]
    more = len(differences) - len(named)
    what = ", ".join(named) + (f" and {more} more" if more else "")
    outliers = {name for c in differences for name in c.split.outliers}
    if not outliers:
        return f"Decide for one, for instance {what}, and let all nodes have it"
    return f"Let {who(outliers)} have what the others have: {what}"


def _odd(difference: Comparison, nodes: dict[str, Snapshot]) -> Snapshot:
    """A node that has to change."""
    wanted = target(difference)
    names = [n for v, group in difference.split.groups.items() if v != wanted for n in group]
    return nodes[names[0]]


def _settings(difference: Comparison) -> list[Setting]:
    """What the launch line must say, for it is the same for all nodes."""
    trait, value = difference.trait, target(difference)
    if trait is traits.PORT or traits.variable(trait.label) is trait:
        return [EnvUnset(trait.label) if value == trait.unset else EnvSet(trait.label, value)]
    number = None if value == "unlimited" else _size(value)
    if trait is traits.MEMLOCK:
        return [Memlock(number)]
    if trait is traits.NOFILE:
        return [NoFile(number)]
    if trait is traits.SHM and number:
        return [ShmSize(number)]
    if trait is traits.CGROUP and number:
        return [Memory(number)]
    return []


def _size(value: str) -> int | None:
    try:
        return parse_size(value)
    except ValueError:
        return None


def _package(difference: Comparison, nodes: dict[str, Snapshot]) -> str:
    """What pip must be told to install; empty: it is no matter of pip."""
    trait, value = difference.trait, target(difference)
    if trait is traits.TORCH:
        version, _, build = value.partition("+")
        if re.fullmatch(r"[\w.]+\+(cu\d+|rocm[\d.]+|cpu|xpu)", value):
            return Wheel(version, build).command
        return quote(f"torch=={value}")
    if trait is traits.NCCL:
        for name in difference.split.groups.get(value, ()):
            python = nodes[name].get(JobPython)
            for wheel, version in python.packages.items() if not isinstance(python, Absent) else ():
                if wheel.startswith("nvidia-nccl-cu") and version == value:
                    return quote(f"{wheel}=={value}")
    is_package = trait.unset == traits.NOT_INSTALLED and value != trait.unset
    return quote(f"{trait.label}=={value}") if is_package else ""


def _pip(
    packages: Sequence[str], differences: Sequence[Comparison], nodes: dict[str, Snapshot]
) -> Iterator[str]:
    """One line for what comes from the usual index, one for torch, which may have its own."""
    if not packages:
        return
    pip = _pip_of(_odd(differences[0], nodes))
    index = table("torch_wheels")["index"]
    own = [package for package in packages if index in package]
    usual = [package for package in packages if index not in package]
    for package in own:
        yield f"{pip} install {package}"
    if usual:
        yield f"{pip} install {' '.join(usual)}"


def _pip_of(node: Snapshot) -> str:
    python = node.get(JobPython)
    return "python3 -m pip" if isinstance(python, Absent) else python.pip


def _commands(difference: Comparison, nodes: dict[str, Snapshot]) -> Iterator[str]:
    trait, value = difference.trait, target(difference)
    odd = _odd(difference, nodes)
    if trait is traits.DRIVER:
        branch = "".join(re.findall(r"^\d+", value))
        yield f"sudo apt-get install -y nvidia-driver-{branch}  # dnf: nvidia-driver:{branch}"
        yield "sudo reboot"
    elif trait is traits.AMD_DRIVER:
        yield "sudo apt-get install -y amdgpu-dkms  # from the release that the others have"
        yield "sudo reboot"
    elif trait is traits.IMAGE:
        image = odd.get(Image)
        name = "IMAGE" if isinstance(image, Absent) else image.name or "IMAGE"
        yield f"docker pull {quote(name)}  # podman pull; Kubernetes: imagePullPolicy: Always"
    elif trait in (traits.CODE, traits.CODE_PATH):
        yield from _same_code(difference, odd, nodes)
    elif trait in _GPU_MODES:
        option, words = _GPU_MODES[trait]
        if value in words:
            yield f"sudo nvidia-smi {option} {words[value]}"
    elif trait is traits.POWER_LIMIT and re.fullmatch(r"\d+ W", value):
        yield f"sudo nvidia-smi -pl {value.split()[0]}"
    elif trait is traits.PARTITION:
        yield f"sudo rocm-smi --setcomputepartition {quote(value.partition('/')[0])}"
    elif trait in (traits.NVLINK, traits.FABRIC):
        yield "nvidia-smi nvlink -s"
        yield "systemctl status nvidia-fabricmanager"
    elif trait in (traits.GPU_COUNT, traits.GPU_MODEL):
        yield "lspci | grep -iE 'nvidia|amd/ati'"
        yield "sudo dmesg | grep -iE 'xid|fallen off the bus|amdgpu'"
    elif trait is traits.CGROUP and value == "unlimited":
        yield f"cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/*/memory.max  # on {remark(odd.name)}"
    elif trait.unset == traits.NOT_INSTALLED and value == trait.unset:
        yield f"{_pip_of(odd)} uninstall -y {quote(trait.label)}"
    elif trait is traits.PYTHON:
        python = odd.get(JobPython)
        if not isinstance(python, Absent):
            yield f"{quote(python.path)} --version"
    elif trait is traits.SPEED:
        interface = quote(traits.traits(odd).get(traits.INTERFACE, "eth0"))
        yield f"ethtool {interface} | grep -E 'Speed|Duplex|Auto-neg'  # on {remark(odd.name)}"
        yield f"sudo ethtool -r {interface}"
    elif trait in (traits.WORLD, traits.NNODES):
        yield f"env | grep -E 'WORLD_SIZE|NNODES|NTASKS'  # on {remark(odd.name)}"


def _same_code(difference: Comparison, odd: Snapshot, nodes: dict[str, Snapshot]) -> Iterator[str]:
    """From a node that has the usual code; a repository has its own way."""
    (first, *_) = difference.split.groups[target(difference)]
    path = traits.traits(nodes[first]).get(traits.CODE_PATH, "")
    there = traits.traits(odd).get(traits.CODE_PATH, path)
    if path:
        copy = f"rsync -a --delete {quote(f'{first}:{path}/')} {quote(f'{there}/')}"
        yield f"{copy}  # on {remark(odd.name)}"
