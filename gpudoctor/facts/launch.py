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


OTHER_FORM = "of other forms of launch"  # why a check of one form skips the rest


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
    starter: str = ""  # what starts the ranks: "torchrun"
    only_looks: bool = False  # it runs nothing that could be training: nvidia-smi, make, pytest
    unstepped: bool = False  # a job of several nodes, whose command no srun takes to all of them
    unknown: tuple[str, ...] = ()  # flags or keys that the launcher does not know
    refused: Mapping[str, str] = {}  # what it will not take, "--gpus device=0,1", and why
    late: tuple[str, ...] = ()  # flags behind the image, so that its command gets them
    torn: bool = False  # a backslash is followed by blanks or a comment: the command ends there
    open_words: tuple[str, ...] = ()  # what is not known before it runs: "$SHM", "{{ .Values.n }}"
    open_fields: tuple[str, ...] = ()  # those that such words are in; "*": it may be any
    lines: Mapping[str, int] = {}  # field, or "environment.NAME", "ulimits.memlock" -> line

    def knows(self, *fields: str) -> bool:
        """Whether the file settles these fields, be it by leaving them to the default."""
        unsettled = {"*", *fields, *(field.partition(".")[0] for field in fields)}
        return not unsettled & set(self.open_fields)

    @property
    def why_open(self) -> str:
        """What to say of a field that the file does not settle."""
        words = f": {', '.join(self.open_words)}" if self.open_words else ""
        return f"not known before it runs{words}"
