"""The system at a glance: what a reader asks for first, out of hundreds of facts."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.facts.container import Container
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.gpu_path import CudaInit, KernelDriver
from gpudoctor.facts.gpus import Gpus
from gpudoctor.facts.image import Image
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.limits import Limit, Limits
from gpudoctor.facts.pytorch import TorchBuild, TorchRun
from gpudoctor.facts.shm import Shm
from gpudoctor.facts.system import System
from gpudoctor.facts.workload import Workload
from gpudoctor.report import Node
from gpudoctor.units import count_of, size

from .reading import read

DAY = 86400


class Card(Struct, frozen=True):
    """Some names with their values, under a headline."""

    title: str
    rows: tuple[tuple[str, str], ...]


class Variables(Struct, frozen=True):
    """What the environment says, and the names whose values were not collected."""

    told: tuple[tuple[str, str], ...]
    withheld: tuple[str, ...]


def cards(node: Node) -> list[Card]:
    """What is known of the machine, the software, the limits and the job; nothing empty."""
    titles = {"Machine": _machine, "Software": _software, "Limits": _limits, "Job": _job}
    rows = [(title, tuple(_said(rows_of(node.facts)))) for title, rows_of in titles.items()]
    return [Card(title, some) for title, some in rows if some]


def variables(node: Node) -> Variables | None:
    """The environment as far as its names are on the allow-list."""
    environment = read(node.facts, Environment)
    if environment is None:
        return None
    told = tuple(sorted(environment.values.items()))
    return Variables(told, tuple(sorted({*environment.names} - {*environment.values})))


def packages(node: Node) -> list[tuple[str, str]]:
    """What is installed beside the job's Python, of that which matters to training."""
    python = read(node.facts, JobPython)
    return sorted(python.packages.items()) if python else []


def _said(rows: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in rows if value]


Said = Iterable[tuple[str, Any]]
Facts = Mapping[str, Any]


def _machine(facts: Facts) -> Said:
    container = read(facts, Container)
    if system := read(facts, System):
        yield "System", system.distribution
        yield "Kernel", f"{system.kernel} {system.architecture}"
        yield "CPUs", f"{system.cpus_usable} usable of {system.cpus}"
        yield "Memory", _of(system.memory_available_bytes, system.memory_bytes, "available")
        yield "Swap used", system.swap_used_bytes and size(system.swap_used_bytes)
        yield "Up for", system.uptime_seconds and _long(system.uptime_seconds)
    if container and container.runtime != "none":
        around = "Kubernetes" if container.kubernetes else ""
        around = "Slurm" if container.slurm and not around else around
        yield "Container", ", ".join(filter(None, (container.runtime, around)))
    if image := read(facts, Image):
        yield "Image", image.name or image.id


def _software(facts: Facts) -> Said:
    gpus, kernel = read(facts, Gpus), read(facts, KernelDriver)
    driver = (gpus and gpus.driver) or (kernel and (kernel.nvidia or kernel.amdgpu_version)) or ""
    if driver and kernel and kernel.nvidia and kernel.nvidia_open:
        driver += ", open kernel module"
    yield "GPU driver", driver
    yield "CUDA of the driver", gpus and gpus.cuda and ".".join(map(str, gpus.cuda))
    if (init := read(facts, CudaInit)) and init.code:
        yield "CUDA says", init.name or f"error {init.code}"
    if python := read(facts, JobPython):
        yield "Python", f"{python.version} at {python.path}, chosen by {python.chosen_by}"
    build, run = read(facts, TorchBuild), read(facts, TorchRun)
    yield "PyTorch", (build and build.version) or (run and run.version)
    if run:
        yield "PyTorch sees", count_of(len(run.devices), "GPU")
        yield "torch cannot be imported", run.import_error
    wheels = ", ".join(build.nccl_wheels) if build else ""
    yield "NCCL", (run and run.nccl) or wheels


def _limits(facts: Facts) -> Said:
    if shm := read(facts, Shm):
        yield (
            "/dev/shm",
            _of(shm.free_bytes, shm.total_bytes, "free") if shm.exists else "not there",
        )
    if limits := read(facts, Limits):
        yield "Locked memory", _limit(limits.memlock, is_bytes=True)
        yield "Open files", _limit(limits.nofile)
        yield "Processes", _limit(limits.nproc)
        yield "Stack", _limit(limits.stack, is_bytes=True)
    if cgroup := read(facts, Cgroup):
        limit = cgroup.memory_limit_bytes
        used = cgroup.memory_used_bytes
        memory = size(limit) if limit is not None else "no limit"
        yield "Memory of the cgroup", memory + (f", {size(used)} used" if limit and used else "")
        yield "CPUs of the cgroup", f"{cgroup.cpu_quota:g}" if cgroup.cpu_quota else "no limit"
        yield "Processes of the cgroup", cgroup.pids_limit or "no limit"


def _job(facts: Facts) -> Said:
    if work := read(facts, Workload):
        told = work.told_by

        def by(field: str) -> str:
            return f" ({told[field]})" if field in told else " (assumed)"

        yield "Ranks on this node", f"{work.local_ranks}{by('local_ranks')}"
        yield "Nodes", f"{work.nodes}{by('nodes')}"
        yield "Loader workers", f"{work.workers} for each rank{by('workers')}"
        yield "Checkpoints", work.checkpoint_dir


def _of(some: int | None, whole: int | None, word: str) -> str:
    if whole is None:
        return ""
    return size(whole) + (f", {size(some)} {word}" if some is not None else "")


def _limit(limit: Limit | None, *, is_bytes: bool = False) -> str:
    if limit is None:
        return ""
    soft, hard = (_number(value, is_bytes=is_bytes) for value in (limit.soft, limit.hard))
    return soft if soft == hard else f"{soft}, at most {hard}"


def _number(value: int | None, *, is_bytes: bool) -> str:
    return "unlimited" if value is None else size(value) if is_bytes else f"{value:,}"


def _long(seconds: int) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds // DAY} days"
    return f"{seconds // 3600} h" if seconds >= 7200 else f"{seconds // 60} min"
