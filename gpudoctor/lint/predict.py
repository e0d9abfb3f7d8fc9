"""What the facts will be when a launch runs: those that its file really settles, and no others."""

import re

from msgspec.structs import replace

from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.facts.container import Container
from gpudoctor.facts.demands import Demands
from gpudoctor.facts.devices import Devices
from gpudoctor.facts.environment import Environment
from gpudoctor.facts.job import Job
from gpudoctor.facts.launch import Launch
from gpudoctor.facts.limits import Limit, Limits
from gpudoctor.facts.shm import Shm
from gpudoctor.facts.workload import Workload
from gpudoctor.probes.demands import NONE
from gpudoctor.redact import CUT, cut_secrets, may_tell, value_of
from gpudoctor.rules import job_variables
from gpudoctor.rules.variables import is_of_a_library
from gpudoctor.snapshot import Absent, Fact, Snapshot, name_of
from gpudoctor.units import MIB

PREDICTED = (Launch, Workload, Shm, Limits, Cgroup, Container, Devices, Environment, Job)
# The image or the caller may add to these, so nothing being wrong in them proves nothing.
PARTIAL = (Environment, Job)

NOT_KNOWN = "not known before it runs"
NO_LIMIT = "the launch file does not say: the limit is the engine's own"
NO_JOB = "it asks for no GPU and starts no ranks"
SHM_DEFAULT = 64 * MIB  # docker, containerd, cri-o
PODMAN_SHM = 65_536_000  # "65536k" in containers/common, and there k is 1000
PODMAN_PIDS = 2048  # containers.conf(5), pids_limit
RUNTIMES = {
    "docker run": "docker",
    "podman run": "podman",
    "compose service": "docker",
    "Kubernetes container": "containerd",
}
# torchrun's own, Kubeflow's, and those that launch scripts take, as ms-swift's do.
RANKS = ("LOCAL_WORLD_SIZE", "PET_NPROC_PER_NODE", "NPROC_PER_NODE")
NODES = ("GROUP_WORLD_SIZE", "PET_NNODES", "NNODES")
# What looks after GPUs, or shows that they are there, or computes without torch and NCCL.
TOOL_IMAGES = (
    *("device-plugin", "dcgm", "exporter", "gpu-operator", "feature-discovery"),
    *("cuda-sample", "vectoradd", "/driver:", "container-toolkit", "k8s-mig-manager"),
    *("ollama/ollama", "llama.cpp"),
)
GPU_IMAGES = ("nvidia", "cuda", "rocm", "pytorch", "vllm", "nemo", "deepspeed", "megatron")


def predict(launch: Launch, name: str) -> Snapshot:
    """The facts of the launch, none of which leaves the machine with a secret in it."""
    launch = replace(launch, open_words=tuple(map(shareable, launch.open_words)))
    facts: dict[str, Fact | Absent] = {}
    if trains(launch):
        workload = _workload(launch)
        facts = {
            name_of(Workload): workload,
            name_of(Shm): _shm(launch),
            name_of(Limits): _limits(launch),
            name_of(Cgroup): _cgroup(launch),
            name_of(Container): _container(launch),
            name_of(Devices): _devices(launch),
            name_of(Environment): _environment(launch, workload),
            name_of(Demands): Absent(NONE),
            name_of(Job): _job(launch),
        }
    absent = Absent(NOT_KNOWN if facts else NO_JOB)
    for kind in PREDICTED:
        facts.setdefault(name_of(kind), absent)
    return Snapshot(name, {**facts, name_of(Launch): _without_secrets(launch)})


def trains(launch: Launch) -> bool:
    """Whether this may be a training job; a database beside it is none, nor is nvidia-smi."""
    image = launch.image.lower()
    if launch.only_looks or any(word in image for word in TOOL_IMAGES):
        return False
    return bool(
        launch.gpus
        or launch.gpu_vendor
        or launch.ranks
        or launch.starter
        or (launch.nodes or 1) > 1
        or launch.shm_bytes
        or launch.ipc == "host"
        or "render" in launch.groups
        or any(word in image for word in GPU_IMAGES)
        or any(is_of_a_library(variable) for variable in launch.environment)
    )


def _without_secrets(launch: Launch) -> Launch:
    # Together, for the word behind --api-key is a secret.
    words = "\n".join(word.replace("\n", " ") for word in launch.command)
    return replace(
        launch,
        command=tuple(shareable(words).split("\n")) if words else (),
        environment={n: value_of(v) for n, v in launch.environment.items() if may_tell(n)},
        image=value_of(launch.image),
    )


def shareable(text: str) -> str:
    """A piece of a launch file without the secrets that people write into them."""
    return _SECRET.sub(rf"\1{CUT}", cut_secrets(text, references=True))


# Beside what looks like one: a variable that is called so.
_SECRET = re.compile(
    r"(\b(?:\w*_)?(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|KEY|CREDENTIALS?|AUTH)(?:_\w+)?"
    r"\s*[=:]\s*)(?:\"[^\"$]*\"|'[^']*'|[^\s\"'$][^\s\"']*)"
)


def _absent(launch: Launch, *fields: str) -> Absent | None:
    """Why a fact that hangs on these fields is not known; None: it is."""
    return None if launch.knows(*fields) else Absent(launch.why_open)


def _workload(launch: Launch) -> Workload:
    job = Workload()
    env = launch.environment
    ranks, by = launch.ranks, launch.starter or ("Slurm's tasks" if launch.tasks else launch.form)
    if ranks is None:
        by = next((n for n in RANKS if env.get(n, "").isdigit()), "")
        ranks = int(env[by]) if by else None
    if ranks is None and (launch.gpus or 0) > 1:
        ranks, by = launch.gpus, "GPUs asked for"
    if ranks:
        job = job.told({"local_ranks": ranks}, by)
    nodes, by = launch.nodes, launch.starter or launch.form
    if nodes is None:
        by = next((n for n in NODES if env.get(n, "").isdigit()), "")
        nodes = int(env[by]) if by else None
    return job.told({"nodes": nodes}, by) if nodes else job


def _job(launch: Launch) -> Job | Absent:
    job = job_variables.read(launch.environment)
    return job if job.claims else Absent(f"{NOT_KNOWN}: no RANK, WORLD_SIZE or MASTER_ADDR is set")


def _shm(launch: Launch) -> Shm | Absent:
    if launch.form not in RUNTIMES:
        return Absent(f"{NOT_KNOWN}: it has the host's /dev/shm")
    if absent := _absent(launch, "shm_bytes", "ipc", "mounts"):
        return absent
    if launch.ipc == "none":
        return Shm(exists=False)
    if launch.ipc not in ("", "private", "shareable"):
        return Absent(f"{NOT_KNOWN}: ipc {launch.ipc} shares another /dev/shm")
    usual = PODMAN_SHM if launch.form == "podman run" else SHM_DEFAULT
    size: int | None = launch.shm_bytes or usual
    for mount in launch.mounts:
        if mount.target.rstrip("/") in ("/dev/shm", "/dev"):
            size = mount.tmpfs_bytes if mount.tmpfs and mount.target != "/dev" else None
    if size is None:
        return Absent(f"{NOT_KNOWN}: what is mounted there has no size of its own")
    return Shm(total_bytes=size, free_bytes=size, filesystem="tmpfs")


def _limits(launch: Launch) -> Limits | Absent:
    found = {
        name: Limit(limit.soft, limit.hard)
        for name, limit in launch.ulimits.items()
        if name in ("memlock", "stack", "nofile", "nproc")
    }
    return Limits(**found) if found else Absent(NO_LIMIT)


def _cgroup(launch: Launch) -> Cgroup | Absent:
    if launch.form not in RUNTIMES:
        return Absent(NOT_KNOWN)
    if absent := _absent(launch, "memory_bytes", "cpus", "pids"):
        return absent
    pids = launch.pids
    if pids is None and launch.form == "podman run":
        pids = PODMAN_PIDS
    return Cgroup(
        version=2,
        memory_limit_bytes=launch.memory_bytes,
        cpu_quota=launch.cpus,
        pids_limit=pids if pids and pids > 0 else None,
        unseen=("pids",) if launch.form == "Kubernetes container" else (),  # the kubelet's
    )


def _container(launch: Launch) -> Container | Absent:
    runtime = RUNTIMES.get(launch.form)
    if runtime is None:
        return Absent(NOT_KNOWN)
    return Container(
        runtime=runtime,
        launcher=launch.launcher,
        kubernetes=launch.launcher == "kubernetes",
        ipc_private=launch.ipc != "host" if launch.knows("ipc") else None,
        net_private=launch.network != "host" if launch.knows("network") else None,
    )


def _devices(launch: Launch) -> Devices | Absent:
    if launch.form not in RUNTIMES or launch.privileged:
        return Absent(f"{NOT_KNOWN}: it gets those of the host")
    if absent := _absent(launch, "devices"):
        return absent
    rdma = [path for path in launch.devices if "infiniband" in path]
    return Devices(nvidia=tuple(range(max(0, launch.gpus or 0))), rdma=tuple(rdma))


def _environment(launch: Launch, workload: Workload) -> Environment:
    values = {n: value_of(v) for n, v in launch.environment.items() if may_tell(n)}
    if launch.starter == "torchrun" and workload.local_ranks > 1:
        values.setdefault("OMP_NUM_THREADS", "1")  # torch/distributed/run.py
    others = [n for n in launch.environment if n not in values and is_of_a_library(n)]
    return Environment(values=values, names=(*values, *others))
