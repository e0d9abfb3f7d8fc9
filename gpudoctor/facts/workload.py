"""What is going to run: ranks, nodes, data loaders. Told, read off the launcher, or assumed."""

from collections.abc import Mapping

from msgspec.structs import replace

from gpudoctor.snapshot import Fact

METHODS = ("pretrain", "full", "lora", "inference")
SHARDINGS = ("none", "zero1", "zero2", "zero3")  # zero3 is also FSDP's full sharding
FLAGS = ("recompute", "offload")
AT_LEAST_ONE = (
    *("local_ranks", "nodes", "prefetch", "micro_batch", "sequence_length"),
    *("model_parallel", "weight_bits", "accumulation"),
)
"""Fields of which none is no job."""


class Workload(Fact, frozen=True, kw_only=True):
    """The job on this node.

    `told_by` says for each field that is known where it comes from ("--nproc-per-node",
    "LOCAL_WORLD_SIZE", "profile ddp"); what it does not name is an assumption.
    """

    local_ranks: int = 1
    nodes: int = 1
    workers: int = 4  # DataLoader workers of one rank
    prefetch: int = 2  # PyTorch's default per worker
    batch_bytes: int = 1 << 20  # one collated batch; token batches are small
    loaders: int = 1  # alive at the same time, such as train and validation
    checkpoint_dir: str = ""
    checkpoint_bytes: int = 0
    model_params: int = 0  # 0: not told
    method: str = ""  # METHODS; empty: not told
    micro_batch: int = 1  # samples of one forward pass of one rank
    sequence_length: int = 2048
    sharding: str = ""  # SHARDINGS; empty: not told
    model_parallel: int = 1  # ranks that hold one model together: tensor x pipeline
    layers: int = 0  # 0: not told, estimated from the parameters
    hidden: int = 0  # likewise
    recompute: int = 0  # 1: activations are computed again (gradient checkpointing)
    offload: int = 0  # 1: gradients and optimiser states are kept on the host (ZeRO-Offload)
    weight_bits: int = 16  # of weights that are not trained: 8 or 4 where they are quantized
    accumulation: int = 1  # passes whose gradients are added up before ranks exchange them
    told_by: Mapping[str, str] = {}

    def knows(self, field: str) -> bool:
        """Whether a field was told or seen, not assumed."""
        return field in self.told_by

    def told(self, demands: Mapping[str, int | str], by: str) -> "Workload":
        """This workload with fields that somebody states.

        Raises:
            TypeError: there is no such field.
        """
        if not demands:
            return self
        sources = {**self.told_by, **dict.fromkeys(demands, by)}
        return replace(self, told_by=sources, **demands)
