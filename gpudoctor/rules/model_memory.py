"""What a model needs: of each GPU's memory, and of the host's on one node.

`least` is what it needs whatever else is done: it cannot start with less. `usual` is the
whole estimate, with rules of thumb in it. The sources are in docs/resources.md.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.workload import SHARDINGS, Workload
from gpudoctor.rules.model_shape import Shape, shape_of
from gpudoctor.rules.sizing import shm_need
from gpudoctor.units import GIB, MIB, count_of, size

# Bytes for each parameter that is trained, in mixed precision with Adam: ZeRO, Rajbhandari
# et al. 2020, section 3.1. In fp32 with autocast it is 4 + 4 + 8: as many.
WEIGHT, GRADIENT, OPTIMIZER = 2, 2, 12
OPTIMIZER_16_BIT = 4  # both moments of a model that is bf16 throughout; measured, torch 2.13
LORA_SHARE = 0.01  # of the parameters that adapters add; rule of thumb, 0.1 to 2 % are usual

ACTIVATION = 34  # bytes per token, layer and unit of width: Korthikanti et al. 2022, equation 1
SCORES = 5  # likewise, and head and token: what flash attention does not keep; same equation
LAYER_INPUT = 2  # what recomputing keeps of a layer; same paper, section 5
LOGIT = 2 + 4  # bytes per token and word: in 16 bits, and in fp32 for the loss; same, section 4.3
VOCABULARY = 100_000  # words; rule of thumb: 32,000 to 256,000 are usual
KEY_AND_VALUE = 2 * 2  # a 16-bit number each, per token, layer and unit of width
GATHERED_LAYERS = 2  # that zero3 holds whole: the one in use, and the next

CONTEXT = 1 * GIB  # CUDA's or HIP's own, with the kernels that torch loads; rule of thumb
NCCL = 512 * MIB  # of a rank's communicators; rule of thumb, 0.3 to 1 GiB
RESERVE = 0.05  # of the rest, lost between blocks of the allocator; rule of thumb

RANK_LEAST = 1 * GIB  # of host memory: Python, torch, a CUDA context; as in cgroup-memory
RANK_USUAL = 4 * GIB  # with its loaders; as in cgroup-memory
BUFFERS = 1.5  # of what is offloaded: pinned copies; DeepSpeed docs, Memory Requirements


class Need(Struct, frozen=True):
    """Bytes, and how they come about."""

    least: int
    usual: int
    arithmetic: tuple[str, ...]


class States(Struct, frozen=True):
    """Bytes that one rank holds of the model itself, wherever they are."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def bytes(self) -> int:
        return self.weights + self.gradients + self.optimizer


def named(params: int) -> str:
    """ "7B", "345M", "1.5T": parameters as models are named."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if params >= unit:
            return f"{params / unit:.3g}{name}"
    return str(params)


def trains(job: Workload) -> bool:
    """Whether gradients are made."""
    return job.method != "inference"


def replicas(job: Workload) -> int:
    """Ranks that hold the same part of the model: those that exchange gradients."""
    return max(1, job.local_ranks * job.nodes // job.model_parallel)


def trained(job: Workload) -> int:
    """Parameters that are trained."""
    if job.method == "lora":
        return round(job.model_params * LORA_SHARE)
    return job.model_params if trains(job) else 0


def states_of(job: Workload, *, least: bool = False) -> States:
    """Weights, gradients and optimiser states that one rank holds.

    Args:
        least: fine-tuning all in 16 bits, and adapters of no size at all.
    """
    stage = SHARDINGS.index(job.sharding) if job.sharding else 0
    parts = replicas(job)
    own = 0 if least and job.method == "lora" else trained(job)
    moments = OPTIMIZER_16_BIT if least and job.method == "full" else OPTIMIZER

    def share(count: float, from_stage: int) -> int:
        return round(count / job.model_parallel / (parts if stage >= from_stage else 1))

    return States(
        weights=share(job.model_params * _bits(job) / 8, 3),
        gradients=share(own * GRADIENT, 2),
        optimizer=share(own * moments, 1),
    )


def most_economical(job: Workload, gpus: int = 0) -> Workload:
    """The job, with what nobody told of it done so that a GPU needs the least.

    Args:
        gpus: of this node: one rank may spread a model over all of them.
    """
    if not job.knows("model_parallel") and not job.knows("sharding"):
        if trains(job) and job.local_ranks * job.nodes > 1:
            return replace(job, sharding="zero3")
        return replace(job, model_parallel=max(job.local_ranks, gpus) * job.nodes)
    if trains(job) and not job.knows("sharding"):
        return replace(job, sharding="zero3")
    return job


def gpu_need(job: Workload) -> Need:
    """What each GPU needs for the job as it is told; sharding that is not told is none."""
    shape, held, least = shape_of(job), states_of(job), states_of(job, least=True)
    on_gpu = held.weights if job.offload else held.bytes
    lines = [_states(job, held)]
    parts = [on_gpu]
    for count, line in (*_running(job, shape), *_copies(job, shape, held), *_library(job)):
        parts.append(count)
        lines.append(f"{line} = {size(count)}")
    reserve = round(RESERVE * sum(parts))
    lines.append(f"reserve for fragmentation: {RESERVE:.0%} = {size(reserve)}")
    if shape.estimated:
        lines.append(f"shape estimated: {shape.layers} layers, width {shape.hidden}")
    lines += _assumed(job, ("micro_batch", "sequence_length"))
    bare = least.weights if job.offload else least.bytes
    return Need(bare, sum(parts) + reserve, tuple(lines))


def least_quantized(job: Workload) -> int | None:
    """The least with weights of 4 bits; None: how many they have is told, or they are trained."""
    if job.knows("weight_bits") or job.method not in ("lora", "inference"):
        return None
    return gpu_need(replace(job, weight_bits=4)).least


def _states(job: Workload, held: States) -> str:
    stage = f", {job.sharding} over {replicas(job)} ranks" if job.sharding else ""
    split = f", split over {job.model_parallel}" if job.model_parallel > 1 else ""
    words = [f"{named(job.model_params)} parameters{split}{stage}: weights {size(held.weights)}"]
    if trains(job):
        where = "on the host: " if job.offload else ""
        words += [f"{where}gradients {size(held.gradients)}", f"Adam {size(held.optimizer)}"]
    return ", ".join(words)


def _running(job: Workload, shape: Shape) -> Iterable[tuple[int, str]]:
    """Activations, logits and the cache of keys and values, on one GPU."""
    tokens = job.micro_batch * job.sequence_length
    said = f"{job.micro_batch} x {job.sequence_length} tokens"
    wide = tokens * shape.hidden // job.model_parallel
    layer = ACTIVATION * wide
    if job.method == "inference":
        cache = KEY_AND_VALUE * wide * shape.layers
        yield cache, f"keys and values: {said} x {shape.layers} layers, all heads kept"
        yield layer, f"activations: {said}, one layer at a time"
        return
    scores = SCORES * shape.heads * tokens * job.sequence_length // job.model_parallel
    if job.recompute:
        kept = LAYER_INPUT * wide * shape.layers + layer
        yield kept, f"activations: {said}, recomputed; {size(scores)} more without flash attention"
    else:
        scores *= shape.layers
        yield (
            layer * shape.layers,
            f"activations: {said} x {shape.layers} layers; {size(scores)} more without"
            f" flash attention",
        )
    logits = LOGIT * tokens * (VOCABULARY + shape.hidden) // job.model_parallel
    yield logits, f"logits: {said} x {VOCABULARY} words"


def _copies(job: Workload, shape: Shape, held: States) -> Iterable[tuple[int, str]]:
    """Of weights and gradients, that sharding or exchanging them makes."""
    if not trains(job) or replicas(job) == 1:
        return
    if job.sharding == "zero3":
        layer = job.model_params * _bits(job) / 8 / shape.layers / job.model_parallel
        yield round(GATHERED_LAYERS * layer), f"{GATHERED_LAYERS} layers gathered by zero3"
    elif job.sharding in ("", "none") and not job.offload:
        yield held.gradients, "buckets of DDP: gradients once more"


def _library(job: Workload) -> Iterable[tuple[int, str]]:
    yield CONTEXT, "CUDA's context"
    if job.local_ranks * job.nodes > 1:
        yield NCCL, "NCCL's buffers"


def host_need(job: Workload, nccl: tuple[int, int] | None = None) -> Need:
    """What the ranks of one node need of its memory, /dev/shm included.

    Args:
        nccl: its version, for its part of /dev/shm.
    """
    ranks, held, least = job.local_ranks, states_of(job), states_of(job, least=True)
    whole = round(job.model_params * _bits(job) / 8)
    if job.sharding == "zero3":
        load, words = whole, f"loading: one rank reads the weights, {size(whole)}"
    else:
        own = whole // job.model_parallel
        load = ranks * own
        words = f"loading: {count_of(ranks, 'rank')} x {size(own)} = {size(load)}, unless mapped"
    shm = shm_need(job, nccl).bytes
    lines = [
        f"processes: {ranks} x {size(RANK_USUAL)} = {size(ranks * RANK_USUAL)}",
        words,
        f"/dev/shm: {size(shm)}",
    ]
    kept = usual = 0
    if job.offload:
        kept = ranks * (least.gradients + least.optimizer)
        usual = round(BUFFERS * ranks * (held.gradients + held.optimizer))
        of = count_of(ranks, "rank")
        lines.append(f"offloaded: gradients and Adam of {of} x {BUFFERS} = {size(usual)}")
    if trains(job) and job.sharding == "zero3":
        state = round(trained(job) * OPTIMIZER)
        lines.append(f"not counted: {size(state)} where rank 0 saves the whole state, unsharded")
    lines += _assumed(job, ("local_ranks",))
    # The optimiser's states are not there yet while the weights are loaded.
    return Need(
        ranks * RANK_LEAST + kept, ranks * RANK_USUAL + shm + max(load, usual), tuple(lines)
    )


def _bits(job: Workload) -> int:
    """Of a weight; what is trained is not quantized."""
    return job.weight_bits if job.method in ("lora", "inference") else 8 * WEIGHT


def _assumed(job: Workload, fields: tuple[str, ...]) -> list[str]:
    if trains(job) and job.local_ranks * job.nodes > 1:
        fields = ("sharding", *fields)
    if job.method in ("lora", "inference"):
        fields = (*fields, "weight_bits")
    said = [
        f"{field.replace('_', ' ')} {getattr(job, field) or 'none'}"
        for field in fields
        if not job.knows(field)
    ]
    return [f"assumed, not told: {', '.join(said)}"] if said else []
