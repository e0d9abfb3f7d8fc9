"""Read the job's shape off its launcher's variables and the GPUs that are there."""

from gpudoctor.facts.job import Job
from gpudoctor.facts.workload import Workload
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.devices import devices
from gpudoctor.rules import job_variables

_VISIBLE = (
    "CUDA_VISIBLE_DEVICES",  # the only one that NVIDIA knows
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
)
_NONE = ("", "none", "void", "nodevfiles")  # the last is Slurm's word for no GPU


@probe()
def workload(machine: Machine) -> Workload:
    """Ranks on this node and nodes of the job; everything else stays assumed."""
    said = job_variables.read(machine.env, machine.told, machine.shape)
    job = Workload()
    if said.local_world_size:
        job = job.told({"local_ranks": said.local_world_size}, said.told_by["local_world_size"])
    nodes, by = _nodes(machine, said)
    if by:
        job = job.told({"nodes": nodes}, by)
    gpus = _visible_gpus(machine)
    # One Slurm task on a node with several GPUs is how torchrun is started.
    if gpus and (not job.knows("local_ranks") or _slurm_says_one(job)):
        job = job.told({"local_ranks": gpus}, "GPU device nodes")
    return job


def one_node(machine: Machine) -> str:
    """Why what lies between nodes need not be looked at; empty: the job spans nodes."""
    nodes, by = _nodes(machine, job_variables.read(machine.env, machine.told, machine.shape))
    return "" if nodes > 1 else f"the job is on one node ({by or 'unless --nnodes says more'})"


def _nodes(machine: Machine, said: Job) -> tuple[int, str]:
    """How many nodes there are at least, and who says so; empty: nobody."""
    if said.nodes:
        return said.nodes, said.told_by["nodes"]
    if said.world_size and said.local_world_size and said.world_size >= said.local_world_size:
        return -(-said.world_size // said.local_world_size), said.told_by["world_size"]
    if said.node_rank and said.master_addr:
        return said.node_rank + 1, said.told_by["node_rank"]
    if said.world_size == 1:
        return 1, said.told_by["world_size"]
    if said.master_addr and machine.live and not names_this_machine(machine, said.master_addr):
        return 2, said.told_by["master_addr"]
    return 1, ""


def names_this_machine(machine: Machine, host: str) -> bool:
    """Whether an address is this machine's own, as far as that is seen without a resolver."""
    from gpudoctor.probes.way import is_ip, way_to

    own = (machine.text("/proc/sys/kernel/hostname") or "").partition(".")[0]
    if host.partition(".")[0] in ("localhost", own):
        return True
    named = [words[0] for words in hosts_lines(machine, host)]
    ways = [way_to(ip) for ip in ([host] if is_ip(host) else named) if is_ip(ip)]
    return any(way is None or way.here for way in ways)


def hosts_lines(machine: Machine, name: str) -> list[list[str]]:
    """The lines of /etc/hosts that have a name, as words: the address, then its names."""
    text = machine.text("/etc/hosts") or ""
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return [words for words in lines if name in words[1:]]


def _slurm_says_one(job: Workload) -> bool:
    return job.local_ranks == 1 and job.told_by["local_ranks"].startswith("SLURM_")


def _visible_gpus(machine: Machine) -> int:
    """GPUs that the runtimes count: from the list they are given, up to the first invalid one."""
    found = devices(machine)
    count = found.gpus
    for name in _VISIBLE[:1] if found.nvidia else _VISIBLE:
        if name in machine.env:
            listed = [part.strip().lower() for part in machine.env[name].split(",")]
            invalid = [i for i, part in enumerate(listed) if part.startswith("-") or part in _NONE]
            count = min(count, invalid[0] if invalid else len(listed))
    return count
