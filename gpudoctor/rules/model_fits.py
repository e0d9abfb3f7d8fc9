"""What makes a model fit into the memory of a GPU: sharding, recomputing, LoRA, more GPUs."""

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.workload import FLAGS, SHARDINGS, Workload
from gpudoctor.rules.model_memory import gpu_need, replicas, trains
from gpudoctor.units import power_of_two

MOST_GPUS = 4096
WAYS = 3  # that are named
IN_WORDS = {
    "zero1": 'ZeRO-1 (DeepSpeed "stage": 1)',
    "zero2": 'ZeRO-2 (DeepSpeed "stage": 2, FSDP SHARD_GRAD_OP)',
    "zero3": 'ZeRO-3 (DeepSpeed "stage": 3, FSDP FULL_SHARD)',
}
RECOMPUTE = "recompute activations (gradient_checkpointing=True)"
OFFLOAD = 'keep the optimizer on the host (DeepSpeed "offload_optimizer"), and recompute'
OPTIONS = (
    *("model_params", "method", "local_ranks", "nodes", "micro_batch", "sequence_length"),
    *("sharding", "model_parallel", "weight_bits", *FLAGS),
)
SPELLED = {"local_ranks": "nproc-per-node", "nodes": "nnodes"}


class Way(Struct, frozen=True):
    """A change after which the whole estimate fits."""

    words: str
    job: Workload


def ways(job: Workload, room: int, gpus: int = 1) -> list[Way]:
    """The changes that make a job fit into `room` bytes of each GPU, the cheapest first.

    Args:
        gpus: that this node has.
    """
    found: list[Way] = []
    for kind in _kinds(job, gpus):
        fitting = (way for way in kind if gpu_need(way.job).usual <= room)
        found += islice(fitting, 1)
    spread = any(not way.job.offload and _parts(way.job) != _parts(job) for way in found)
    return [*found, *([] if spread else _more(job, room))][:WAYS]


def command(job: Workload) -> str:
    """The command that judges this job."""
    words = []
    for field in OPTIONS:
        value = getattr(job, field)
        if value and (job.knows(field) or value != getattr(Workload(), field)):
            name = SPELLED.get(field, field).replace("_", "-")
            words.append(f"--{name}" if field in FLAGS else f"--{name} {value}")
    return f"gpudoctor check resource {' '.join(words)}"


def _kinds(job: Workload, gpus: int) -> Iterator[list[Way]]:
    """Changes by kind; of each kind the first one that fits is meant."""
    quantized = [
        Way(f"quantize the weights to {bits} bits", replace(job, weight_bits=bits))
        for bits in (8, 4)
        if bits < job.weight_bits
    ]
    if not trains(job):
        spread = max(gpus, job.local_ranks)
        if spread > job.model_parallel:
            yield [Way(f"split it over {spread} GPUs", replace(job, model_parallel=spread))]
        yield quantized
        return
    less = replace(job, recompute=1)
    if not job.recompute:
        yield [Way(RECOMPUTE, less)]
    told = SHARDINGS.index(job.sharding or "none")
    stronger = SHARDINGS[told + 1 :] if replicas(job) > 1 else ()
    yield [
        *(Way(IN_WORDS[word], replace(job, sharding=word)) for word in stronger),
        *(
            Way(f"{IN_WORDS[word]}, and {RECOMPUTE}", replace(less, sharding=word))
            for word in stronger
        ),
    ]
    if job.method == "lora":
        yield quantized
        return
    if job.method == "full":
        yield [Way("train adapters only (LoRA)", replace(job, method="lora", offload=0))]
    if not job.offload:
        sharded = stronger[-1] if stronger else job.sharding
        yield [Way(OFFLOAD, replace(less, offload=1, sharding=sharded))]


def _parts(job: Workload) -> tuple[str, int]:
    return job.sharding, job.model_parallel


def _more(job: Workload, room: int) -> Iterator[Way]:
    """The same on more GPUs like these."""
    gpus = power_of_two(max(2, job.local_ranks * job.nodes + 1))
    while gpus <= MOST_GPUS:
        if trains(job):
            spread = {"sharding": "zero3", "recompute": 1, "model_parallel": job.model_parallel}
        else:
            spread = {"model_parallel": gpus}
        each = min(8, gpus)
        more = replace(job, local_ranks=each, nodes=gpus // each, **spread)
        if gpu_need(more).usual <= room:
            how = f" with {IN_WORDS['zero3']} and recomputing" if trains(job) else ""
            yield Way(f"use {gpus} such GPUs{how}", more)
            return
        gpus *= 2
