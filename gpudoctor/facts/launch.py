"""A launch as its file describes it, before anything runs: what `gpudoctor lint` reads."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from gpudoctor.snapshot import Fact

Form = Literal[
    "docker run",
    "podman run",
    "compose service",
    "Dockerfile",
    "Kubernetes container",
    "sbatch script",
    "srun step",
    "apptainer run",
    "torchrun",
]


class Ulimit(Struct, frozen=True):
    """A resource limit; None is unlimited."""

    soft: int | None
    hard: int | None


class LaunchMount(Struct, frozen=True, kw_only=True):
    """Something mounted into the container. A tmpfs has no source."""

    target: str
    source: str = ""
    tmpfs: bool = False
    tmpfs_bytes: int | None = None
    read_only: bool = False


class Launch(Fact, frozen=True, kw_only=True):
    """One container, pod's container, job script or command line.

    None or empty: the file does not say, so the launcher's default holds. Values that only the
    moment of launch knows ($VARIABLES, templates) count as not said; `open_words` has them.
    """

    form: Form
    launcher: str  # the word of gpudoctor.launch that spells fixes for it
    name: str = ""  # of the service, the container, or the script
    image: str = ""
    command: tuple[str, ...] = ()  # entrypoint and arguments
    environment: Mapping[str, str] = {}
    shm_bytes: int | None = None
    ipc: str = ""  # "host", "private", "shareable", "container:x"
    network: str = ""  # "host", "bridge", "none", or a network's name
    dns_policy: str = ""  # Kubernetes
    ports: tuple[str, ...] = ()  # published, as written: "29500:29500"
    gpus: int | None = None  # asked for; -1: all of them
    gpu_vendor: str = ""  # "nvidia", "amd"
    devices: tuple[str, ...] = ()  # "/dev/kfd", "/dev/infiniband", "nvidia.com/gpu=all"
    groups: tuple[str, ...] = ()  # names or numbers, as written
    capabilities: tuple[str, ...] = ()  # added, without CAP_
    security: tuple[str, ...] = ()  # "seccomp=unconfined", "label=disable"
    privileged: bool = False
    user: str = ""
    ulimits: Mapping[str, Ulimit] = {}  # by docker's names: memlock, stack, nofile, nproc
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None  # -1: no limit
    mounts: tuple[LaunchMount, ...] = ()
    nodes: int | None = None
    ranks: int | None = None  # processes on one node
    tasks: int | None = None  # of Slurm, on one node
    unknown: tuple[str, ...] = ()  # flags or keys that the launcher does not know
    open_words: tuple[str, ...] = ()  # what is not known before it runs: "$SHM", "{{ .Values.n }}"
    lines: Mapping[str, int] = {}  # field, or "environment.NAME", "ulimits.memlock" -> line
