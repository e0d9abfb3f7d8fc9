"""What a model needs, against what is here: memory of GPUs and host, and the link's speed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpudoctor import (
    GIB,
    Allocation,
    AllReduce,
    Cgroup,
    Environment,
    Finding,
    Fix,
    Gpu,
    Gpus,
    JobPython,
    Master,
    Memory,
    Network,
    Rdma,
    System,
    Workload,
    check,
    fail,
    ok,
    size,
    skip,
    warn,
)
from gpudoctor.rules.per_gpu import NO_GPU, unread, which
from gpudoctor.rules.selection import select

# What the model needs is worked out by rules that only those load who tell of one.
if TYPE_CHECKING:
    from gpudoctor.rules.gradient_exchange import Exchange

ONE_NODE = "one node: nothing goes over the network; --nnodes 2 makes it count"
UNTOLD = "{} not told: --model-params 7B --method full (or pretrain, lora, inference)"
UNSEEN = "the limits of this process's memory cgroup cannot be seen from here"
MACHINE, LIMIT = "the machine has", "the memory limit is"
HOLDERS = {"nvidia": "sudo fuser -v /dev/nvidia*", "amd": "sudo fuser -v /dev/kfd"}


@check(
    owner="job",
    symptoms=[
        r"(CUDA|HIP) out of memory",
        r"torch(\.cuda)?\.OutOfMemoryError",
        r"CUDA error: out of memory",
        r"CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def resource_gpu_memory(workload: Workload, gpus: Gpus, allocation: Allocation | None) -> Finding:
    """The model fits into the memory of each GPU.

    Training with Adam in mixed precision holds 16 bytes for each parameter, and the activations
    on top: a 7B model does not train on one GPU of 80 GB. The job loads for minutes and ends in
    "torch.OutOfMemoryError: CUDA out of memory" in its first steps, or when the first long
    sample comes.
    """
    if reason := _untold(workload):
        return skip(reason)
    job = select(gpus.alive, allocation.visible if allocation else {}).gpus
    if not job:
        return skip(NO_GPU)
    known = [gpu for gpu in job if gpu.memory_bytes and not gpu.integrated and not gpu.mig_enabled]
    if not known:
        nothing = skip("these GPUs do not say how much memory one rank has")
        return unread(job, "memory_bytes") or nothing
    # Once ranks run they hold memory themselves.
    started = allocation is not None and bool(allocation.local_rank)
    smallest = min(known, key=lambda gpu: _free(gpu, started))
    return _fits(workload, smallest, _free(smallest, started), len(job))


def _untold(job: Workload) -> str:
    missing = [name for name in ("model_params", "method") if not getattr(job, name)]
    return UNTOLD.format(" and ".join(missing).replace("_", " ")) if missing else ""


def _free(gpu: Gpu, started: bool) -> int:
    return (gpu.memory_bytes or 0) - (0 if started else gpu.memory_used_bytes or 0)


def _fits(job: Workload, gpu: Gpu, free: int, gpus: int) -> Finding:
    from gpudoctor.rules.model_fits import command, ways
    from gpudoctor.rules.model_memory import (
        gpu_need,
        least_quantized,
        most_economical,
        named,
        trains,
    )

    total, best = gpu.memory_bytes or 0, most_economical(job, gpus)
    least, most = gpu_need(best), gpu_need(best if not trains(job) else job)
    model = f"{named(job.model_params)}, {job.method}"
    has = f"{which(gpu)} has {size(total)}" + (f", {size(free)} free" if free < total else "")
    evidence = [*most.arithmetic, _floor(job, least.least), has, *_economy(job, best)]
    if most.usual <= free:
        return ok(f"{model}: {size(most.usual)} of {size(free)} free on each GPU", evidence)
    found = ways(job, total, gpus)
    text = "; or ".join(way.words for way in found) or "use a smaller model"
    fix = Fix(text=text[0].upper() + text[1:], commands=[command(way.job) for way in found[:1]])
    if least.least > total:
        summary = f"{model}: at least {size(least.least)}, a GPU has {size(total)}"
        quantized = least_quantized(best)
        if quantized is not None and quantized <= total:
            summary = f"{model}: {size(least.least)} in 16 bits, a GPU has {size(total)}"
            evidence.append(f"weights of 4 bits would be {size(quantized)}; --weight-bits tells")
            return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
        return fail(summary, fix, evidence=evidence, basis="measured")
    if most.usual <= total:
        text, commands = "End what else holds memory of the GPU", [HOLDERS[gpu.vendor]]
        by = Fix(text=text, commands=commands, needs_root=True)
        summary = f"{model}: {size(most.usual)}, only {size(free)} of {size(total)} is free"
        return warn(summary, by, evidence=evidence, basis="rule-of-thumb")
    if best is not job and trains(job) and gpu_need(best).usual <= free:
        summary = f"{model}: {size(most.usual)} unless sharded, a GPU has {size(free)} free"
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    range_ = f"{size(least.least)} to {size(most.usual)}"
    summary = f"{model}: {range_}, a GPU has {size(free)} free"
    return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")


def _floor(job: Workload, least: int) -> str:
    kinds = {
        "full": "weights, gradients and Adam's states alone, all in 16 bits",
        "pretrain": "weights, gradients and Adam's states alone",
    }
    return f"at least {size(least)}: {kinds.get(job.method, 'the weights alone')}"


def _economy(job: Workload, best: Workload) -> Sequence[str]:
    if best.model_parallel != job.model_parallel:
        return [f"assumed, not told: the model is split over {best.model_parallel} GPUs"]
    if best.sharding != job.sharding:
        return [f"the least is that of {best.sharding}, since no sharding is told"]
    return []


@check(
    owner="launch",
    symptoms=[
        r"OOMKilled",
        r"Memory cgroup out of memory",
        r"Out of memory: Killed process",
        r"Signal 9 \(SIGKILL\) received by PID",
        r"exitcode\s*: -9",
        r"DefaultCPUAllocator: can't allocate memory",
    ],
)
def resource_memory(
    workload: Workload, system: System | None, cgroup: Cgroup | None, job_python: JobPython | None
) -> Finding:
    """The host's memory holds what the ranks of this node load and keep.

    Each rank that reads a checkpoint holds it once more, and an optimizer that is offloaded lives
    in the host's memory. Where they do not fit the kernel kills a rank while the model loads or
    the first checkpoint is written: exit code 137 or -9, "OOMKilled", "Out of memory: Killed
    process", and the other ranks wait for it until NCCL times out.
    """
    if reason := _untold(workload):
        return skip(reason)
    rooms = _rooms(system, cgroup)
    if not rooms:
        return skip("neither the machine's memory nor a limit of it is known")
    from gpudoctor.rules.model_memory import host_need, most_economical, named, trains

    # Where the GPUs are thought to hold one model together, so are the ranks that load it.
    job = workload if trains(workload) else most_economical(workload)
    need = host_need(job, job_python.nccl if job_python else None)
    total, _, where = min(rooms)
    free = min(free for _, free, _ in rooms)
    model = f"{named(workload.model_params)}, {workload.method}"
    evidence = [f"at least {size(need.least)}, however it is loaded", *need.arithmetic]
    evidence += _economy(workload, job)
    fix = _more_memory(workload, need.usual, where, system)
    if need.least > total:
        summary = f"{model}: at least {size(need.least)}, {where} {size(total)}"
        return fail(summary, fix, evidence=evidence, basis="rule-of-thumb")
    if need.usual > free:
        room = size(free) if free == total else f"{size(free)} of {size(total)}"
        summary = f"{model}: about {size(need.usual)} needed, {room} free"
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    if cgroup and "memory" in cgroup.unseen:
        return skip(f"{UNSEEN}; the machine itself has enough")
    return ok(f"{model}: {size(need.usual)} of {size(free)} free", evidence)


def _rooms(system: System | None, cgroup: Cgroup | None) -> list[tuple[int, int, str]]:
    """Bytes in all and free, and whose they are."""
    rooms = []
    if system and system.memory_bytes:
        free = system.memory_available_bytes
        rooms.append((system.memory_bytes, system.memory_bytes if free is None else free, MACHINE))
    if cgroup and cgroup.memory_limit_bytes is not None:
        rooms.append((cgroup.memory_limit_bytes, cgroup.memory_free_bytes or 0, LIMIT))
    return rooms


def _more_memory(job: Workload, wanted: int, where: str, system: System | None) -> Fix:
    asked = -(-wanted // (8 * GIB)) * 8 * GIB
    if where == LIMIT and (system is None or (system.memory_bytes or asked) >= asked):
        return Fix(Memory(asked))
    if job.offload:
        text = "Spread the optimizer over more nodes (--nnodes), or offload it to NVMe"
        return Fix(text=text)
    text = "Map the checkpoint instead of reading it into every rank (safetensors,"
    return Fix(text=f"{text} torch.load(mmap=True)), or start fewer ranks on this node")


@check(
    owner="job",
    symptoms=[
        r"Watchdog caught collective operation timeout.*ALLREDUCE",
        r"ran for \d+ milliseconds before timing out",
    ],
)
def resource_exchange(
    workload: Workload,
    network: Network,
    gpus: Gpus | None,
    master: Master | None,
    rdma: Rdma | None,
    all_reduce: AllReduce | None,
    environment: Environment | None,
) -> Finding:
    """The link carries the gradients in the time that steps take.

    Ranks of several nodes exchange all gradients in every step: 14 GB of a 7B model in 16 bits.
    Over 1 Gbit/s that is two minutes, in which every GPU waits: tokens per second drop to a few
    percent of those on one node, or "Watchdog caught collective operation timeout" ends the job.
    Adding up the gradients of several passes divides the waiting by their number.
    """
    if reason := _no_exchange(workload):
        return skip(reason)
    from gpudoctor.rules.gradient_exchange import exchange, link_of, speed_of
    from gpudoctor.rules.leading import NO_WAY, device_of, leading
    from gpudoctor.rules.nccl_ports import carries

    values = environment.values if environment else {}
    way = leading(network, master)
    by_rdma = rdma if rdma is not None and carries(rdma, values) else None
    link = link_of(device_of(network, way) if way else None, by_rdma, all_reduce, values)
    if link is None:
        return skip(f"the speed of {way.name} is not known" if way else NO_WAY)
    speed = speed_of(gpus.alive if gpus else ())
    return _waits(workload, exchange(workload, link, speed))


def _no_exchange(job: Workload) -> str:
    if job.nodes == 1:
        return ONE_NODE
    if job.method == "inference":
        return "inference exchanges no gradients"
    if reason := _untold(job):
        return reason
    if job.local_ranks * job.nodes <= job.model_parallel:
        return "one replica of the model: no gradients are exchanged"
    return ""


def _waits(job: Workload, found: "Exchange") -> Finding:
    from gpudoctor.rules.all_reduce import duration
    from gpudoctor.rules.gradient_exchange import MOST_SHARE

    seconds = f"an exchange takes {duration(found.seconds)}"
    if found.waiting is None or found.computing is None:
        return skip(f"{seconds}; how fast these GPUs compute is not known")
    if not job.knows("micro_batch"):
        return skip(f"{seconds}; --micro-batch and --accumulation tell how often")
    share = f"{found.waiting:.0%} of a step waits"
    summary = f"{share}: {seconds}, {duration(found.computing)} of computing"
    if found.waiting <= MOST_SHARE:
        return ok(summary, found.arithmetic)
    if found.accumulation is None:
        text = "Shard inside each node only (FSDP HYBRID_SHARD), or use a faster link"
    else:
        often = f"--gradient_accumulation_steps {found.accumulation}"
        text = f"Exchange gradients less often ({often}), or use a faster link"
    fix = Fix(text=text)
    return warn(summary, fix, evidence=found.arithmetic, basis="rule-of-thumb")
