"""rules/model_memory.py and its neighbours: figures that others published, and our own table."""

import pytest

from gpudoctor import Workload
from gpudoctor.rules.gradient_exchange import Link, exchange, operations, traffic
from gpudoctor.rules.model_fits import command, ways
from gpudoctor.rules.model_memory import gpu_need, host_need, named, replicas, states_of
from gpudoctor.rules.model_shape import SHAPES, shape_of

GB = 10**9
MILLION, BILLION = 10**6, 10**9


def job(params: float, method: str = "pretrain", **more: int | str) -> Workload:
    return Workload().told({"model_params": int(params), "method": method, **more}, "a test")


@pytest.mark.parametrize(
    ("sharding", "gb"),
    [("none", 120), ("zero1", 31.4), ("zero2", 16.6), ("zero3", 1.9)],
)
def test_zero_paper_figure_1(sharding, gb):
    found = states_of(job(7.5e9, sharding=sharding, local_ranks=8, nodes=8))

    assert found.bytes / GB == pytest.approx(gb, abs=0.05)


@pytest.mark.parametrize(
    ("params", "method", "gb"),
    [
        pytest.param(7e9, "full", 112, id="16 bytes a parameter"),
        pytest.param(7e9, "pretrain", 112, id="the same to train anew"),
        pytest.param(1.5e9, "pretrain", 24, id="GPT-2, ZeRO section 3.1"),
        pytest.param(7e9, "inference", 14, id="bf16 weights"),
        pytest.param(70e9, "inference", 140, id="bf16 weights of a large one"),
        pytest.param(7e9, "lora", 14 + 0.07 * 16 - 0.07 * 2, id="weights and small adapters"),
    ],
)
def test_states(params, method, gb):
    found = states_of(job(params, method))

    assert found.bytes / GB == pytest.approx(gb, rel=0.02)


@pytest.mark.parametrize(
    ("method", "bits", "gb"),
    [("inference", 8, 70), ("inference", 4, 35), ("lora", 4, 35), ("full", 4, 1120)],
)
def test_only_what_is_not_trained_is_quantized(method, bits, gb):
    found = states_of(job(70e9, method, weight_bits=bits), least=method == "lora")

    assert found.bytes / GB == pytest.approx(gb)


def test_fine_tuning_all_in_16_bits_is_the_least():
    assert gpu_need(job(7e9, "full")).least == 8 * 7 * GB
    assert gpu_need(job(7e9, "pretrain")).least == 16 * 7 * GB


def test_a_split_model_leaves_fewer_replicas_to_shard_over():
    split = job(10e9, local_ranks=8, nodes=2, model_parallel=4, sharding="zero1")

    assert replicas(split) == 4
    assert states_of(split).optimizer == 12 * 10 * GB // 4 // 4
    assert states_of(split).weights == 2 * 10 * GB // 4


@pytest.mark.parametrize(
    ("params", "layers", "hidden"),
    [
        pytest.param(6.7e9, 32, 4096, id="GPT-3 6.7B"),
        pytest.param(13e9, 40, 5120, id="GPT-3 13B"),
        pytest.param(65.2e9, 80, 8192, id="LLaMA 65B"),
        pytest.param(175e9, 96, 12288, id="GPT-3 175B"),
        pytest.param(1e12, 128, 25600, id="Korthikanti's 1T"),
    ],
)
def test_usual_shapes(params, layers, hidden):
    found = shape_of(job(params))

    assert (found.layers, found.estimated) == (layers, True)
    assert found.hidden == pytest.approx(hidden, rel=0.04)


@pytest.mark.parametrize(
    ("told", "layers", "hidden"),
    [
        ({"layers": 32, "hidden": 4096}, 32, 4096),
        ({"hidden": 8192}, 8, 8192),
        ({"layers": 8}, 8, 8192),
    ],
)
def test_a_shape_that_is_told(told, layers, hidden):
    found = shape_of(job(12 * 8 * 8192**2, **told))

    assert (found.layers, found.hidden) == (layers, hidden)


def test_shapes_are_sorted_and_grow():
    assert list(SHAPES) == sorted(SHAPES)


def running(**more: int | str) -> float:
    """GB that tokens add on a model of GPT-3's shape: 96 layers, width 12288."""
    gpt3: dict[str, int | str] = {"layers": 96, "hidden": 12288, "sequence_length": 2048, **more}
    small = {**gpt3, "micro_batch": 1}
    double = {**gpt3, "micro_batch": 2}
    most, least = (gpu_need(job(175e9, "pretrain", **told)).usual for told in (double, small))
    return (most - least) / 1.05 / GB


def test_activations_are_those_of_korthikanti():
    logits = 6 * 2048 * (100_000 + 12288) / GB

    assert running() - logits == pytest.approx(34 * 2048 * 12288 * 96 / GB, rel=1e-6)
    assert running(recompute=1) - logits == pytest.approx(
        2048 * 12288 * (2 * 96 + 34) / GB, rel=1e-6
    )
    assert running(model_parallel=8) == pytest.approx(running() / 8, rel=1e-6)


def test_without_flash_attention_is_said_and_not_counted():
    found = gpu_need(job(175e9, layers=96, hidden=12288))

    # 5 a s / h is 80 for GPT-3 at 2048 tokens: Korthikanti et al. 2022, section 5
    scores = 80 * 2048 * 12288 * 96 / 2**30
    assert any(f"{scores:.0f} GiB more without flash attention" in s for s in found.arithmetic)


def test_the_cache_of_keys_and_values():
    llama = {"layers": 32, "hidden": 4096, "sequence_length": 4096}
    small, large = (gpu_need(job(7e9, "inference", micro_batch=n, **llama)) for n in (1, 9))
    layer = 34 * 4096 * 4096 * 8

    # 512 KiB a token: 2 GiB for LLaMA 7B at 4096
    assert (large.usual - small.usual) / 1.05 == pytest.approx(8 * 2 * 2**30 + layer, rel=1e-6)


LENGTHS = (256, 512, 1024, 2048, 4096, 8192)


@pytest.mark.parametrize(
    ("told", "measured", "within"),
    [
        pytest.param(
            job(1.84e9, "lora"), (6.7, 7.4, 8.4, 11.0, 16.2, 21.8), (0.5, 0.9), id="1.8B LoRA"
        ),
        pytest.param(
            job(1.84e9, "full"), (43.5, 43.5, 43.5, 43.5, 47.1, 48.3), (0.7, 0.9), id="1.8B full"
        ),
        pytest.param(
            job(7.72e9, "lora"), (20.1, 20.4, 21.5, 23.8, 29.7, 36.6), (0.7, 1.0), id="7B LoRA"
        ),
        pytest.param(
            job(7.72e9, "lora", weight_bits=4),
            (11.5, 11.5, 12.3, 13.9, 16.9, 23.5),
            (0.5, 0.7),
            id="7B in 4 bits: a third too low",
        ),
        pytest.param(
            job(7.72e9, "full", local_ranks=2, sharding="zero2"),
            (139.2, 148.0, 162.0),
            (0.9, 1.1),
            id="7B full on two GPUs",
        ),
        pytest.param(
            job(14.17e9, "lora"), (34.6, 35.1, 35.3, 37.4, 42.5, 55.2), (0.75, 1.0), id="14B LoRA"
        ),
        pytest.param(
            job(72.3e9, "lora", local_ranks=4, sharding="zero3"),
            (215.4, 217.7, 222.6, 228.8, 249.0, 289.2),
            (0.8, 1.0),
            id="72B LoRA on four",
        ),
        pytest.param(
            job(72.3e9, "lora", weight_bits=4),
            (61.4, 61.4, 62.9, 64.1, 68.0, 75.6),
            (0.8, 1.0),
            id="72B in 4 bits",
        ),
    ],
)
def test_what_qwen_measured(told, measured, within):
    """README of QwenLM/Qwen: GB of all GPUs by tokens, A100, flash attention, checkpointing."""
    for length, gb in zip(LENGTHS, measured, strict=False):
        each = gpu_need(told.told({"sequence_length": length, "recompute": 1}, "its README"))

        assert within[0] <= each.usual * told.local_ranks / GB / gb <= within[1], length
        assert each.least * told.local_ranks <= gb * GB, length


def test_host_counts_a_copy_for_each_rank_that_reads_the_checkpoint():
    ddp, fsdp = (host_need(job(7e9, "full", local_ranks=8, sharding=s)) for s in ("none", "zero3"))

    assert ddp.usual - fsdp.usual == 7 * 14 * GB
    assert ddp.least == fsdp.least == 8 << 30


@pytest.mark.parametrize(
    ("told", "gb"),
    [
        pytest.param({}, 140, id="one GPU: 14 bytes, ZeRO-Offload"),
        pytest.param({"local_ranks": 8, "sharding": "zero2"}, 140, id="its 8 ranks share it"),
        pytest.param(
            {"local_ranks": 8, "nodes": 2, "sharding": "zero2"}, 70, id="half on each node"
        ),
    ],
)
def test_what_is_offloaded_is_in_the_hosts_memory(told, gb):
    found = host_need(job(10e9, offload=1, **told))
    ranks = told.get("local_ranks", 1)

    assert found.least - (ranks << 30) == pytest.approx(gb * GB)
    assert found.usual > 1.5 * gb * GB


def test_ways_fit_and_their_command_tells_them():
    wanted = ways(job(7e9, "pretrain", local_ranks=8), 80 << 30, 8)

    assert wanted
    assert all(gpu_need(way.job).usual <= 80 << 30 for way in wanted)
    assert command(wanted[0].job) == (
        "gpudoctor check resource --model-params 7000000000 --method pretrain"
        " --nproc-per-node 8 --sharding zero1"
    )


@pytest.mark.parametrize(
    ("told", "gpus", "says"),
    [
        pytest.param(job(7e9, "full"), 1, ["LoRA", "offload", "2 such GPUs"], id="one GPU"),
        pytest.param(job(70e9, "inference"), 1, ["8 bits", "2 such GPUs"], id="inference"),
        pytest.param(job(70e9, "inference"), 8, ["split it over 8"], id="8 GPUs are here"),
        pytest.param(job(70e9, "lora", local_ranks=8), 8, ["ZeRO-3"], id="adapters"),
        pytest.param(job(70e9, "lora", recompute=1), 1, ["4 bits"], id="adapters on one GPU"),
        pytest.param(
            job(3e9, "full", micro_batch=16), 1, ["recompute activations"], id="many tokens"
        ),
        pytest.param(
            job(7e9, "pretrain", local_ranks=8, sharding="zero3", micro_batch=16, recompute=1),
            8,
            [],
            id="nothing is left but to do less",
        ),
    ],
)
def test_ways(told, gpus, says):
    found = "; ".join(way.words for way in ways(told, 79 << 30, gpus))

    assert [word for word in says if word not in found] == []


@pytest.mark.parametrize(
    ("params", "name"), [(7e9, "7B"), (345e6, "345M"), (1.5e12, "1.5T"), (6.74e9, "6.74B")]
)
def test_named(params, name):
    assert named(int(params)) == name


@pytest.mark.parametrize(
    ("told", "each", "once"),
    [
        pytest.param({"nodes": 2}, 0, 2, id="two ranks: the gradients once"),
        pytest.param({"nodes": 2, "local_ranks": 8}, 0, 3.75, id="sixteen: nearly twice"),
        pytest.param({"nodes": 2, "local_ranks": 8, "sharding": "zero1"}, 0, 3.75, id="zero1"),
        pytest.param({"nodes": 2, "local_ranks": 8, "sharding": "zero2"}, 1.875, 1.875, id="zero2"),
        pytest.param({"nodes": 2, "local_ranks": 8, "sharding": "zero3"}, 5.625, 0, id="half more"),
        pytest.param(
            {"nodes": 2, "local_ranks": 8, "model_parallel": 8}, 0, 2, id="a replica on each node"
        ),
    ],
)
def test_traffic_of_a_billion(told, each, once):
    found = traffic(job(1e9, **told))

    assert [round(count / GB, 4) for count in found] == [each, once]


def test_adapters_exchange_little():
    assert traffic(job(7e9, "lora", nodes=2))[1] == traffic(job(7e9, nodes=2))[1] / 100


@pytest.mark.parametrize(
    ("told", "count"),
    [
        (job(1e9), 6),
        (job(1e9, recompute=1), 8),
        (job(1e9, "lora"), 4),
    ],
)
def test_operations(told, count):
    assert operations(told) == count


def test_exchange_by_hand():
    told = job(1e9, nodes=2, micro_batch=1, sequence_length=1000, accumulation=4)

    # 2 GB at 1 GB/s are 2 s; a pass is 6e12 operations at 12e12 a second: 0.5 s
    found = exchange(told, Link(1e9, "a link"), (12e12, "a GPU"))

    waits = 2 - 2 / 3 * 0.5
    assert found.seconds == pytest.approx(2.0)
    assert found.computing == pytest.approx(2.0)
    assert found.waiting == pytest.approx(waits / (waits + 2))
    assert found.accumulation == 8


def test_the_accumulation_that_is_named_suffices():
    told = job(1e9, nodes=2, micro_batch=4)
    link, speed = Link(1.1e8, "a link"), (136e12, "a GPU")
    enough = exchange(told, link, speed).accumulation

    after, before = (
        exchange(job(1e9, nodes=2, micro_batch=4, accumulation=n), link, speed).waiting or 0.0
        for n in (enough or 0, (enough or 0) - 1)
    )
    assert 0.0 < after <= 0.3 < before


def test_no_accumulation_helps_where_every_pass_waits():
    told = job(7e9, nodes=2, local_ranks=8, sharding="zero3")

    assert exchange(told, Link(1.1e8, "a link"), (136e12, "a GPU")).accumulation is None


DDP_GUIDE = [  # "Docker 跨节点 DDP 训练完整指南": parameters, batch, accumulation; two nodes
    pytest.param(50e6, 16, 8, id="tiny"),
    pytest.param(117e6, 8, 16, id="small"),
    pytest.param(345e6, 4, 32, id="medium"),
]


@pytest.mark.parametrize(("params", "batch", "accumulation"), DDP_GUIDE)
def test_effective_batch_of_the_ddp_guide(params, batch, accumulation):
    assert batch * 2 * accumulation == 256


@pytest.mark.parametrize(("params", "batch", "accumulation"), DDP_GUIDE)
@pytest.mark.parametrize(
    ("gbit", "tflops", "least", "most"),
    [
        pytest.param(1, 16, 0.20, 0.30, id="1 Gbit/s as its table has it, on a slow GPU"),
        pytest.param(1, 136, 0.70, 0.80, id="1 Gbit/s, but an A100 waits three quarters"),
        pytest.param(10, 16, 0.0, 0.05, id="10 Gbit/s: less than the 10 to 15 % of its table"),
        pytest.param(10, 136, 0.15, 0.25, id="10 Gbit/s, an A100: more"),
        pytest.param(40, 136, 0.0, 0.06, id="40 Gbit/s: about 5 %, as its table has it"),
    ],
)
def test_share_of_communication_in_the_ddp_guide(
    params, batch, accumulation, gbit, tflops, least, most
):
    told = job(params, nodes=2, micro_batch=batch, sequence_length=1024, accumulation=accumulation)

    share = exchange(told, Link(0.88 * gbit / 8 * 1e9, ""), (tflops * 1e12, "")).waiting

    assert least <= (share or 0.0) <= most
