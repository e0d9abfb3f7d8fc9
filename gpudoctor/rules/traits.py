"""What nodes of one job should have alike, read off the facts of each."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.facts.devices import Devices
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.gpu_path import KernelDriver
from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.facts.image import Code, Image
from gpudoctor.facts.job import Job
from gpudoctor.facts.job_python import JobPython, Packages
from gpudoctor.facts.limits import Limit, Limits
from gpudoctor.facts.master import Master
from gpudoctor.facts.nccl import NcclAnswer, NcclSettings
from gpudoctor.facts.network import Network
from gpudoctor.facts.pytorch import TorchBuild
from gpudoctor.facts.shm import Shm
from gpudoctor.facts.system import System
from gpudoctor.finding import Owner
from gpudoctor.rules.leading import device_of, leading
from gpudoctor.rules.shared_variables import is_breaking, is_inside, is_shared
from gpudoctor.snapshot import Absent, Fact, Snapshot
from gpudoctor.units import count_of, size

Group = Literal["versions", "image", "environment", "gpus", "limits", "interface"]
Matters = Literal["fail", "warn", "said"]

KINDS: tuple[type[Fact], ...] = (
    *(Gpus, KernelDriver, Devices, JobPython, TorchBuild, NcclAnswer, Packages, Image, Code),
    *(System, Environment, NcclSettings, Job, Shm, Limits, Cgroup, Network),
)
"""The facts that are read here. Packages are looked for where `Machine.told` has "cluster"."""

NO_GPU = "no GPU"
NOT_INSTALLED = "not installed"
CLOSE = 0.05  # sizes that follow from a node's memory: firmware takes a little more here and there


class Trait(Struct, frozen=True, kw_only=True):
    """Something that nodes should have alike.

    Attributes:
        group: which check speaks of it.
        label: for people, and the key: no two traits have the same.
        matters: what a difference does: breaks the job, risks it, or nothing that is known.
        owner: who must act.
        of_model: only nodes with the same GPUs must have it alike.
        fact: the fact that it is read from.
        unset: what a node has that has the fact, but says nothing of this; empty: not known.
        close: values that are sizes count as alike within this share of them.
    """

    group: Group
    label: str
    matters: Matters = "warn"
    owner: Owner = "node"
    of_model: bool = False
    fact: str = ""
    unset: str = ""
    close: float = 0.0


def traits(node: Snapshot) -> dict[Trait, str]:
    """What one node has, in short words. What is not known of it has no entry."""
    found: dict[Trait, str] = {}
    for trait, value in _all(node):
        if value:
            found.setdefault(trait, value)
    return found


def model(node: Snapshot) -> str:
    """The GPUs of a node, "NVIDIA H100 80GB HBM3", or NO_GPU; empty: not known."""
    gpus = node.get(Gpus)
    if isinstance(gpus, Gpus) and gpus.devices:
        names = sorted({gpu.name for gpu in gpus.devices if gpu.name})
        return " and ".join(names)
    devices = node.get(Devices)
    lacks = isinstance(gpus, Gpus) or (isinstance(gpus, Absent) and not gpus.broken)
    return NO_GPU if lacks and isinstance(devices, Devices) and not devices.gpus else ""


def _all(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    yield from _versions(node)
    yield from _images(node)
    yield from _environment(node)
    yield from _gpus(node)
    yield from _limits(node)
    yield from _interface(node)


DRIVER = Trait(fact="gpus", group="versions", label="NVIDIA driver", of_model=True)
AMD_DRIVER = Trait(fact="gpus", group="versions", label="amdgpu driver", of_model=True)
CUDA_DRIVER = Trait(
    fact="gpus", group="versions", label="CUDA of the driver", matters="said", of_model=True
)
TORCH = Trait(fact="torch_build", group="versions", label="torch", matters="fail", owner="image")
TORCH_CUDA = Trait(
    fact="torch_build", group="versions", label="CUDA of torch", matters="fail", owner="image"
)
TORCH_ROCM = Trait(
    fact="torch_build", group="versions", label="ROCm of torch", matters="fail", owner="image"
)
NCCL = Trait(fact="job_python", group="versions", label="NCCL", matters="fail", owner="image")
PYTHON = Trait(fact="job_python", group="versions", label="Python", owner="image")
KERNEL = Trait(fact="system", group="versions", label="kernel", matters="said", of_model=True)
ARCHITECTURE = Trait(fact="system", group="versions", label="CPU architecture", matters="said")


def _versions(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    gpus, driver = node.get(Gpus), node.get(KernelDriver)
    if isinstance(gpus, Gpus):
        vendors = {gpu.vendor for gpu in gpus.devices}
        if len(vendors) == 1:
            yield (DRIVER if vendors == {"nvidia"} else AMD_DRIVER), gpus.driver
        yield CUDA_DRIVER, ".".join(map(str, gpus.cuda or ()))
    if isinstance(driver, KernelDriver):
        yield DRIVER, driver.nvidia
        yield AMD_DRIVER, driver.amdgpu_version
    build, python = node.get(TorchBuild), node.get(JobPython)
    if isinstance(build, TorchBuild):
        yield TORCH, build.version
        yield TORCH_CUDA, ".".join(map(str, build.cuda or ()))
        yield TORCH_ROCM, build.hip
    yield NCCL, _nccl(node)
    if isinstance(python, JobPython):
        yield PYTHON, python.version
        for name, version in python.packages.items():
            if name != "torch" and not name.startswith("nvidia-nccl-"):
                yield _package(name, "versions"), version
    system = node.get(System)
    if isinstance(system, System):
        yield KERNEL, system.kernel
        yield ARCHITECTURE, system.architecture


def _nccl(node: Snapshot) -> str:
    """NCCL's version: by itself, by its wheel, by what torch's wheel asks for."""
    answer, python, build = node.get(NcclAnswer), node.get(JobPython), node.get(TorchBuild)
    if isinstance(answer, NcclAnswer) and answer.version:
        return ".".join(map(str, answer.version))
    packages = python.packages if isinstance(python, JobPython) else {}
    for name, version in packages.items():
        if name.startswith("nvidia-nccl-cu"):
            return version
    return build.nccl_pin.rpartition(" ")[2] if isinstance(build, TorchBuild) else ""


@functools.cache
def _package(name: str, group: Group) -> Trait:
    notable = group == "versions"
    return Trait(
        group=group,
        label=name,
        owner="image",
        fact="job_python" if notable else "packages",
        unset=NOT_INSTALLED,
    )


IMAGE = Trait(fact="image", group="image", label="container image", owner="launch")
OS = Trait(fact="system", group="image", label="operating system", matters="said", owner="image")
CODE = Trait(fact="code", group="image", label="code", matters="fail", owner="job")
CODE_PATH = Trait(fact="code", group="image", label="path of the code", owner="launch")


def _images(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    image, system, code = node.get(Image), node.get(System), node.get(Code)
    packages, python = node.get(Packages), node.get(JobPython)
    if isinstance(image, Image):
        yield IMAGE, image.id or image.name
    if isinstance(code, Code):
        told = f"{code.digest[:12]} ({count_of(code.files, 'file')})" if code.digest else ""
        yield CODE, "not there" if code.missing else told
        yield CODE_PATH, code.path
    if isinstance(system, System):
        yield OS, system.distribution
    if isinstance(packages, Packages):
        notable = python.packages if isinstance(python, JobPython) else {}
        for name, version in packages.versions.items():
            if name not in notable:
                yield _package(name, "image"), version


PORT = Trait(fact="job", group="environment", label="MASTER_PORT", matters="fail", owner="launch")
WORLD = Trait(fact="job", group="environment", label="WORLD_SIZE", matters="fail", owner="launch")
NNODES = Trait(
    fact="job", group="environment", label="number of nodes", matters="fail", owner="launch"
)


def _environment(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    job, environment, settings = node.get(Job), node.get(Environment), node.get(NcclSettings)
    if isinstance(job, Job):
        yield PORT, str(job.master_port or "")
        yield WORLD, str(job.world_size or "")
        yield NNODES, str(job.nodes or "")
    if isinstance(environment, Environment):
        told = environment.values
        if isinstance(settings, NcclSettings):
            told = settings.under(told)
        for name, value in told.items():
            trait = variable(name)
            if trait:
                yield trait, value.strip()


@functools.cache
def variable(name: str) -> Trait | None:
    """An environment variable as a trait; None: each node may have its own."""
    if not is_shared(name):
        return None
    return Trait(
        group="environment",
        label=name,
        matters="fail" if is_breaking(name) else "warn",
        owner="launch",
        of_model=is_inside(name),
        fact="environment",
        unset="unset",
    )


GPU_MODEL = Trait(fact="gpus", group="gpus", label="GPU model", matters="said", owner="cluster")
GPU_COUNT = Trait(fact="gpus", group="gpus", label="GPUs", of_model=True)
MIG = Trait(fact="gpus", group="gpus", label="MIG mode", of_model=True)
PARTITION = Trait(fact="gpus", group="gpus", label="partition mode", of_model=True)
ECC = Trait(fact="gpus", group="gpus", label="ECC", of_model=True)
COMPUTE_MODE = Trait(fact="gpus", group="gpus", label="compute mode", of_model=True)
POWER_LIMIT = Trait(fact="gpus", group="gpus", label="power limit", of_model=True)
NVLINK = Trait(fact="gpus", group="gpus", label="NVLink or XGMI", of_model=True)
FABRIC = Trait(fact="gpus", group="gpus", label="NVLink fabric", of_model=True)
PERSISTENCE = Trait(
    fact="gpus", group="gpus", label="persistence mode", matters="said", of_model=True
)


def _gpus(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    yield GPU_MODEL, model(node)
    gpus = node.get(Gpus)
    if not isinstance(gpus, Gpus) or not gpus.devices:
        return
    yield GPU_COUNT, str(len(gpus.alive))
    alive = gpus.alive
    yield MIG, _each(_on(gpu.mig_enabled) for gpu in alive)
    yield ECC, _each(_on(gpu.ecc_enabled) for gpu in alive)
    yield PERSISTENCE, _each(_on(gpu.persistence) for gpu in alive)
    yield COMPUTE_MODE, _each(gpu.compute_mode or "" for gpu in alive)
    partition = (f"{g.partition_compute or ''}/{g.partition_memory or ''}" for g in alive)
    yield PARTITION, _each(word.strip("/") for word in partition)
    yield POWER_LIMIT, _each(f"{g.power_limit_w:.0f} W" if g.power_limit_w else "" for g in alive)
    yield NVLINK, _each(map(_links, alive))
    yield FABRIC, _each(gpu.fabric_state or "" for gpu in alive)


def _on(value: bool | None) -> str:
    return "" if value is None else "enabled" if value else "disabled"


def _links(gpu: Gpu) -> str:
    return f"{sum(link.active for link in gpu.links)} links" if gpu.links else ""


def _each(words: Iterable[str]) -> str:
    """What all GPUs have; where they differ, how many have which; empty: not known of all."""
    told = Counter(words)
    if "" in told:
        return ""
    if len(told) <= 1:
        return next(iter(told), "")
    return ", ".join(f"{word} on {count}" for word, count in sorted(told.items()))


SHM = Trait(
    fact="shm", group="limits", label="/dev/shm", owner="launch", of_model=True, close=CLOSE
)
MEMLOCK = Trait(fact="limits", group="limits", label="memlock", owner="launch", of_model=True)
NOFILE = Trait(fact="limits", group="limits", label="nofile", owner="launch", of_model=True)
NPROC = Trait(
    fact="limits", group="limits", label="nproc", matters="said", owner="launch", of_model=True
)
STACK = Trait(
    fact="limits", group="limits", label="stack", matters="said", owner="launch", of_model=True
)
MEMORY = Trait(
    fact="system", group="limits", label="memory", matters="said", of_model=True, close=CLOSE
)
CGROUP = Trait(
    fact="cgroup", group="limits", label="cgroup memory", owner="launch", of_model=True, close=CLOSE
)
PIDS = Trait(
    fact="cgroup",
    group="limits",
    label="cgroup pids",
    matters="said",
    owner="launch",
    of_model=True,
)
CPUS = Trait(fact="system", group="limits", label="usable CPUs", matters="said", of_model=True)


def _limits(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    shm, limits, cgroup = node.get(Shm), node.get(Limits), node.get(Cgroup)
    system = node.get(System)
    if isinstance(shm, Shm):
        yield SHM, _shm(shm, system if isinstance(system, System) else None)
    if isinstance(limits, Limits):
        yield MEMLOCK, _soft(limits.memlock, in_bytes=True)
        yield STACK, _soft(limits.stack, in_bytes=True)
        yield NOFILE, _soft(limits.nofile)
        yield NPROC, _soft(limits.nproc)
    if isinstance(cgroup, Cgroup):
        if "memory" not in cgroup.unseen:
            yield CGROUP, size(cgroup.memory_limit_bytes)
        if "pids" not in cgroup.unseen:
            yield PIDS, str(cgroup.pids_limit or "unlimited")
    if isinstance(system, System):
        quota = cgroup.cpu_quota if isinstance(cgroup, Cgroup) else None
        usable = min(system.cpus_usable, quota or system.cpus_usable)
        yield CPUS, f"{usable:g}"
        yield MEMORY, size(system.memory_bytes) if system.memory_bytes else ""


def _shm(shm: Shm, system: System | None) -> str:
    half = (system.memory_bytes or 0) / 2 if system else 0
    if half and abs(shm.total_bytes - half) < CLOSE * half:
        return "half of the memory"  # what the kernel makes of it where nobody says anything
    return size(shm.total_bytes) if shm.exists else "not there"


def _soft(limit: Limit | None, *, in_bytes: bool = False) -> str:
    if limit is None:
        return ""
    return size(limit.soft) if in_bytes or limit.soft is None else str(limit.soft)


INTERFACE = Trait(
    fact="network", group="interface", label="interface", matters="said", of_model=True
)
MTU = Trait(fact="network", group="interface", label="MTU", owner="network", of_model=True)
SPEED = Trait(fact="network", group="interface", label="link speed", owner="network", of_model=True)


def _interface(node: Snapshot) -> Iterator[tuple[Trait, str]]:
    network, master = node.get(Network), node.get(Master)
    if not isinstance(network, Network):
        return
    found = leading(network, master if isinstance(master, Master) else None)
    if found is not None:
        card = device_of(network, found)
        yield INTERFACE, found.name
        yield MTU, str(found.mtu)
        yield SPEED, f"{card.speed_mbps / 1000:g} Gb/s" if card.speed_mbps else ""
