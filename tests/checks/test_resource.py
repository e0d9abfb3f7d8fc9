"""checks/resource.py: tables of facts -> status, and the resource tables of a practice document."""

import pytest

from gpudoctor import (
    Address,
    Allocation,
    AllReduce,
    Cgroup,
    Gpu,
    Gpus,
    Interface,
    Measured,
    Memory,
    Network,
    Rdma,
    RdmaDevice,
    RdmaPort,
    Route,
    Status,
    System,
    Workload,
)
from gpudoctor.registry import get
from gpudoctor.rules.model_memory import gpu_need, host_need

GIB, GB = 1 << 30, 10**9
A100 = "NVIDIA A100-SXM4-80GB"
H100 = "NVIDIA H100 80GB HBM3"


def job(params: float, method: str, **more: int | str) -> Workload:
    return Workload().told({"model_params": int(params), "method": method, **more}, "--told")


def gpus(count: int = 1, gib: int | None = 80, used: int = 0, **more) -> Gpus:
    return Gpus(
        devices=tuple(
            Gpu(
                **{"vendor": "nvidia", "name": A100, **more},
                index=index,
                memory_bytes=gib and gib * GIB,
                memory_used_bytes=used * GIB,
            )
            for index in range(count)
        )
    )


def host(gib: int, free: int | None = None) -> System:
    return System(
        hostname="node",
        kernel="6.8",
        architecture="x86_64",
        memory_bytes=gib * GIB,
        memory_available_bytes=(gib if free is None else free) * GIB,
    )


@pytest.mark.parametrize(
    ("told", "found", "status", "says"),
    [
        pytest.param(job(7e9, "pretrain"), gpus(), Status.FAIL, "at least 104 GiB", id="7B, 80 GB"),
        pytest.param(job(7e9, "full"), gpus(1, 24), Status.FAIL, "52.1 GiB", id="7B full, 24 GB"),
        pytest.param(
            job(7e9, "full"), gpus(), Status.WARN, "52.1 GiB to 121", id="only all in 16 bits"
        ),
        pytest.param(
            job(7e9, "pretrain", local_ranks=8),
            gpus(8),
            Status.WARN,
            "unless sharded",
            id="DDP or FSDP? nobody told",
        ),
        pytest.param(
            job(7e9, "pretrain", local_ranks=8, sharding="none"),
            gpus(8),
            Status.FAIL,
            "at least 104 GiB",
            id="DDP, told",
        ),
        pytest.param(
            job(7e9, "pretrain", local_ranks=8, sharding="zero3"),
            gpus(8),
            Status.PASS,
            "26.5 GiB of 80 GiB",
            id="healthy: FSDP on eight",
        ),
        pytest.param(
            job(7e9, "pretrain", local_ranks=8, sharding="zero3", micro_batch=16),
            gpus(8),
            Status.WARN,
            "a GPU has 80 GiB free",
            id="too many tokens at once",
        ),
        pytest.param(job(7e9, "lora"), gpus(), Status.PASS, "GiB of 80 GiB", id="healthy: LoRA"),
        pytest.param(
            job(7e9, "lora", recompute=1), gpus(1, 24), Status.PASS, "of 24 GiB", id="LoRA, 24 GB"
        ),
        pytest.param(
            job(65e9, "lora", weight_bits=4, recompute=1),
            gpus(1, 48),
            Status.PASS,
            "of 48 GiB",
            id="healthy: 65B on 48 GB, QLoRA's own claim",
        ),
        pytest.param(job(7e9, "inference"), gpus(1, 24), Status.PASS, "of 24 GiB", id="7B, 24 GB"),
        pytest.param(
            job(70e9, "inference", weight_bits=16), gpus(), Status.FAIL, "130 GiB", id="70B on one"
        ),
        pytest.param(
            job(70e9, "inference"),
            gpus(),
            Status.WARN,
            "130 GiB in 16 bits",
            id="perhaps quantized",
        ),
        pytest.param(
            job(405e9, "inference"), gpus(1, 141), Status.FAIL, "754 GiB", id="not even in 4 bits"
        ),
        pytest.param(
            job(70e9, "inference", local_ranks=8),
            gpus(8),
            Status.PASS,
            "of 80 GiB",
            id="healthy: 70B over eight, as everybody does",
        ),
        pytest.param(
            job(70e9, "inference", local_ranks=1),
            gpus(8),
            Status.PASS,
            "of 80 GiB",
            id="healthy: one process with eight GPUs",
        ),
        pytest.param(
            job(70e9, "inference", local_ranks=8, model_parallel=1, weight_bits=16),
            gpus(8),
            Status.FAIL,
            "130 GiB",
            id="a whole one on each, told",
        ),
        pytest.param(
            job(70e9, "inference", weight_bits=4), gpus(1, 48), Status.PASS, "48", id="quantized"
        ),
        pytest.param(
            job(7e9, "inference"),
            gpus(1, 24, used=12),
            Status.WARN,
            "only 12 GiB of 24 GiB is free",
            id="somebody else is there",
        ),
        pytest.param(
            job(10e9, "pretrain", offload=1), gpus(), Status.PASS, "80 GiB", id="ZeRO-Offload"
        ),
        pytest.param(
            job(124e6, "pretrain", micro_batch=4), gpus(1, 12), Status.PASS, "124M", id="laptop"
        ),
        pytest.param(Workload(), gpus(), Status.SKIP, "", id="healthy: nobody told of a model"),
        pytest.param(
            Workload().told({"model_params": 7 * GB}, "--model-params"),
            gpus(),
            Status.SKIP,
            "",
            id="not what is done with it",
        ),
        pytest.param(job(7e9, "full"), Gpus(), Status.SKIP, "", id="no GPU"),
        pytest.param(job(7e9, "full"), gpus(1, None), Status.SKIP, "", id="memory not known"),
        pytest.param(
            job(7e9, "full"), gpus(mig_enabled=True), Status.SKIP, "", id="a slice of one"
        ),
        pytest.param(
            job(7e9, "full"), gpus(1, 2, integrated=True), Status.SKIP, "", id="the host's memory"
        ),
    ],
)
def test_gpu_memory(told, found, status, says):
    finding = get("resource-gpu-memory")(told, found, None)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


def test_gpu_memory_boundary_is_the_need():
    told = job(7e9, "inference", weight_bits=16)
    need = gpu_need(told).usual

    def judged(count: int) -> Status:
        one = Gpus(devices=(Gpu(vendor="nvidia", index=0, memory_bytes=count),))
        return get("resource-gpu-memory")(told, one, None).status

    assert [judged(need), judged(need - 1), judged(14 * GB), judged(14 * GB - 1)] == [
        Status.PASS,
        Status.WARN,
        Status.WARN,
        Status.FAIL,
    ]


def test_gpu_memory_shows_its_arithmetic_and_what_was_assumed():
    finding = get("resource-gpu-memory")(job(7e9, "pretrain", local_ranks=8), gpus(8), None)
    said = "\n".join(finding.evidence)

    for words in ("Adam 78.2 GiB", "32 layers", "logits", "CUDA's context", "NCCL", "reserve"):
        assert words in said
    assert "assumed, not told: sharding none, micro batch 1, sequence length 2048" in said
    assert "since no sharding is told" in said


def test_gpu_memory_says_what_makes_it_fit():
    finding = get("resource-gpu-memory")(job(7e9, "pretrain", local_ranks=8), gpus(8), None)

    assert 'ZeRO-1 (DeepSpeed "stage": 1)' in finding.fix.text
    assert finding.fix.commands[0].endswith("--nproc-per-node 8 --sharding zero1")


def test_gpu_memory_is_that_of_the_gpus_that_are_visible():
    large, small = gpus(1, 80).devices[0], Gpu(vendor="nvidia", index=1, memory_bytes=11 * GIB)
    told, check = job(7e9, "lora"), get("resource-gpu-memory")
    allocation = Allocation(visible={"CUDA_VISIBLE_DEVICES": "0"})

    assert check(told, Gpus(devices=(large, small)), None).status is Status.WARN
    assert check(told, Gpus(devices=(large, small)), allocation).status is Status.PASS


def test_gpu_memory_of_other_ranks_that_started_is_not_held_against_the_job():
    allocation = Allocation(local_rank=3)

    finding = get("resource-gpu-memory")(job(7e9, "inference"), gpus(1, 24, used=16), allocation)

    assert finding.status is Status.PASS


@pytest.mark.parametrize(
    ("told", "system", "cgroup", "status", "says"),
    [
        pytest.param(
            job(7e9, "full", local_ranks=8), host(512), None, Status.PASS, "of 512", id="healthy"
        ),
        pytest.param(job(7e9, "lora"), host(32), None, Status.PASS, "of 32", id="a workstation"),
        pytest.param(
            job(7e9, "inference"), host(64, 60), Cgroup(version=2), Status.PASS, "60", id="no limit"
        ),
        pytest.param(
            job(13e9, "full", local_ranks=8),
            host(128),
            None,
            Status.WARN,
            "about 226 GiB needed, 128 GiB free",
            id="each rank reads the checkpoint",
        ),
        pytest.param(
            job(70e9, "inference", local_ranks=8), host(512), None, Status.PASS, "163", id="split"
        ),
        pytest.param(
            job(13e9, "full", local_ranks=8, sharding="zero3"),
            host(128),
            None,
            Status.PASS,
            "of 128",
            id="one rank reads it",
        ),
        pytest.param(
            job(10e9, "pretrain", offload=1),
            host(128),
            None,
            Status.FAIL,
            "at least 131 GiB, the machine has 128",
            id="an optimizer that is offloaded",
        ),
        pytest.param(
            job(10e9, "pretrain", offload=1), host(256), None, Status.PASS, "199 GiB", id="it fits"
        ),
        pytest.param(
            job(10e9, "pretrain", offload=1),
            host(512),
            Cgroup(version=2, memory_limit_bytes=64 * GIB),
            Status.FAIL,
            "the memory limit is 64 GiB",
            id="a container's limit",
        ),
        pytest.param(
            job(7e9, "full", local_ranks=8),
            host(512),
            Cgroup(version=2, memory_limit_bytes=64 * GIB, memory_used_bytes=8 * GIB),
            Status.WARN,
            "56 GiB of 64 GiB free",
            id="a limit that loading exceeds",
        ),
        pytest.param(
            job(7e9, "lora"),
            host(512),
            Cgroup(version=2, unseen=("memory",)),
            Status.SKIP,
            "",
            id="a limit that nobody sees",
        ),
        pytest.param(job(7e9, "lora"), None, None, Status.SKIP, "", id="nothing is known"),
        pytest.param(Workload(), host(8), None, Status.SKIP, "", id="healthy: no model told"),
    ],
)
def test_memory(told, system, cgroup, status, says):
    finding = get("resource-memory")(told, system, cgroup, None)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("told", "system", "limit", "fix"),
    [
        pytest.param(job(7e9, "full", local_ranks=8), host(512), 64, Memory(144 * GIB), id="limit"),
        pytest.param(job(7e9, "full", local_ranks=8), host(96), 64, "safetensors", id="machine"),
        pytest.param(job(30e9, "full", offload=1), host(256), None, "more nodes", id="offloaded"),
    ],
)
def test_memory_fix(told, system, limit, fix):
    cgroup = Cgroup(version=2, memory_limit_bytes=limit and limit * GIB)

    found = get("resource-memory")(told, system, cgroup, None).fix

    if isinstance(fix, str):
        assert fix in found.text
    else:
        assert found.settings == (fix,)


def network(mbps: int | None) -> Network:
    eth0 = Interface(
        index=2,
        name="eth0",
        kind="physical",
        up=True,
        running=True,
        speed_mbps=mbps,
        addresses=(Address(ip="10.0.0.1", prefix=24),),
    )
    way = Route(destination="0.0.0.0/0", interface="eth0", gateway="10.0.0.254")
    return Network(interfaces=(eth0,), routes=(way,))


RAILS = Rdma(
    devices=tuple(
        RdmaDevice(
            name=f"mlx5_{n}",
            driver="mlx5_core",
            uverbs=f"uverbs{n}",
            ports=(RdmaPort(number=1, state="ACTIVE", rate_gbps=400, link_layer="InfiniBand"),),
        )
        for n in range(8)
    )
)
PODS: dict[str, int | str] = {
    "nodes": 8,
    "local_ranks": 8,
    "micro_batch": 2,
    "sequence_length": 4096,
}


@pytest.mark.parametrize(
    ("told", "mbps", "rdma", "status", "says"),
    [
        pytest.param(
            job(345e6, "pretrain", nodes=2, micro_batch=4),
            1000,
            None,
            Status.WARN,
            "an exchange takes 6.27 s",
            id="1 Gbit/s",
        ),
        pytest.param(
            job(345e6, "pretrain", nodes=2, micro_batch=4, accumulation=256),
            1000,
            None,
            Status.PASS,
            "of a step waits",
            id="1 Gbit/s, but seldom",
        ),
        pytest.param(
            job(7e9, "full", sharding="zero3", **PODS),
            25000,
            None,
            Status.WARN,
            "an exchange takes",
            id="FSDP over Ethernet",
        ),
        pytest.param(
            job(7e9, "full", sharding="zero3", **PODS),
            1000,
            RAILS,
            Status.PASS,
            "0% of a step waits",
            id="healthy: FSDP over InfiniBand",
        ),
        pytest.param(
            job(70e9, "pretrain", sharding="zero1", model_parallel=8, accumulation=8, **PODS),
            1000,
            RAILS,
            Status.PASS,
            "of a step waits",
            id="healthy: tensor parallel in the node",
        ),
        pytest.param(
            job(7e9, "lora", nodes=2, local_ranks=8, micro_batch=4),
            10000,
            None,
            Status.PASS,
            "0% of a step waits",
            id="healthy: adapters over 10 Gbit/s",
        ),
        pytest.param(job(7e9, "full"), 1000, None, Status.SKIP, "", id="healthy: one node"),
        pytest.param(job(7e9, "inference", nodes=2), 1000, None, Status.SKIP, "", id="inference"),
        pytest.param(
            Workload().told({"nodes": 2}, "--nnodes"), 1000, None, Status.SKIP, "", id="not told"
        ),
        pytest.param(
            job(7e9, "full", nodes=2, micro_batch=1), None, None, Status.SKIP, "", id="no speed"
        ),
        pytest.param(
            job(7e9, "full", nodes=2), 1000, None, Status.SKIP, "", id="how many tokens is not told"
        ),
        pytest.param(
            job(7e9, "full", nodes=2, micro_batch=1, model_parallel=2),
            1000,
            None,
            Status.SKIP,
            "",
            id="one replica",
        ),
    ],
)
def test_exchange(told, mbps, rdma, status, says):
    finding = get("resource-exchange")(told, network(mbps), gpus(8), None, rdma, None, None)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


def test_exchange_says_how_often():
    told = job(345e6, "pretrain", nodes=2, micro_batch=4, sequence_length=1024)

    finding = get("resource-exchange")(told, network(1000), gpus(), None, None, None, None)

    assert "--gradient_accumulation_steps 233" in finding.fix.text
    assert any("TCP over eth0, 1000 Mbit/s" in line for line in finding.evidence)


def test_exchange_says_where_no_accumulation_helps():
    told = job(7e9, "full", sharding="zero3", **PODS)

    finding = get("resource-exchange")(told, network(25000), gpus(8), None, None, None, None)

    assert "HYBRID_SHARD" in finding.fix.text


def test_exchange_without_a_known_gpu_tells_the_seconds():
    told = job(7e9, "full", nodes=2, micro_batch=1)
    unknown = gpus(name="AMD Radeon RX 9070 XT", vendor="amd")

    finding = get("resource-exchange")(told, network(1000), unknown, None, None, None, None)

    assert finding.status is Status.SKIP
    assert "an exchange takes 127 s" in finding.reason


def test_exchange_believes_what_was_measured():
    point = Measured(
        bytes=GIB,
        iterations=5,
        seconds=1,
        low_seconds=1,
        high_seconds=1,
        algbw=4 * GB,
        busbw=4 * GB,
    )
    measured = AllReduce(scope="global", ranks=16, nodes=2, points=(point,))
    told = job(1e9, "full", nodes=2, micro_batch=1)

    finding = get("resource-exchange")(told, network(1000), gpus(), None, None, measured, None)

    assert "an exchange takes 500 ms" in finding.summary
    assert any("measured with 1 GiB" in line for line in finding.evidence)


# 百亿 and 千亿 of "Docker使用", 算力资源: what is recommended, per GPU and node, in decimal units.
B10, B100 = 10e9, 100e9
SHARDED: dict[str, int | str] = {"local_ranks": 8, "sharding": "zero3", "recompute": 1}


@pytest.mark.parametrize(
    ("told", "gpu_gb", "host_gb"),
    [
        pytest.param(job(B100, "pretrain", nodes=8, **SHARDED), 80, 512, id="100B pretrain, 64"),
        pytest.param(job(B100, "full", nodes=8, **SHARDED), 80, 512, id="100B full, 64"),
        pytest.param(job(B100, "lora", **SHARDED), 80, 512, id="100B LoRA, 8"),
        pytest.param(
            job(B100, "inference", local_ranks=8, model_parallel=8), 80, 512, id="100B inference, 8"
        ),
        pytest.param(job(B10, "pretrain", nodes=2, **SHARDED), 80, 512, id="10B pretrain, 16"),
        pytest.param(job(B10, "full", nodes=2, **SHARDED), 80, 512, id="10B full, 16"),
        pytest.param(job(B10, "lora", local_ranks=2), 80, 128, id="10B LoRA, 2"),
        pytest.param(job(B10, "inference", local_ranks=2), 80, 128, id="10B inference, 2"),
    ],
)
def test_what_is_recommended_suffices(told, gpu_gb, host_gb):
    assert gpu_need(told).usual <= gpu_gb * GB
    assert host_need(told).usual <= host_gb * GB


@pytest.mark.parametrize(
    ("told", "table", "formula", "agrees"),
    [
        pytest.param(
            host_need(job(B10, "pretrain", offload=1)).least - GIB, 140, 140, True, id="10B host"
        ),
        pytest.param(
            gpu_need(job(B10, "pretrain", offload=1)).usual, 49, 35.5, True, id="10B GPU, offloaded"
        ),
        pytest.param(gpu_need(job(B10, "inference")).least, 20, 20, True, id="10B, weights alone"),
        pytest.param(gpu_need(job(B10, "inference")).usual, 20, 24, False, id="10B, with a cache"),
        pytest.param(
            host_need(job(B10, "inference")).least, 1, 1.07, True, id="10B inference host, mapped"
        ),
        pytest.param(
            host_need(job(B100, "pretrain", offload=1, **SHARDED)).least - 8 * GIB,
            200,
            1400,
            False,
            id="100B host: 14 bytes are seven times as much",
        ),
        pytest.param(
            gpu_need(job(B100, "pretrain", **SHARDED)).least,
            80,
            200,
            False,
            id="100B on 8 x 80: out of memory, as it says itself",
        ),
        pytest.param(
            gpu_need(job(B100, "pretrain", nodes=2, **SHARDED)).usual,
            80,
            118,
            False,
            id="100B on 16 x 80: nor the two machines that it advises",
        ),
        pytest.param(
            gpu_need(job(B100, "pretrain", nodes=4, **SHARDED)).usual,
            80,
            65,
            True,
            id="100B on 32 x 80",
        ),
        pytest.param(
            gpu_need(job(B100, "inference", local_ranks=4, model_parallel=4)).least,
            50,
            50,
            True,
            id="100B inference, weights alone",
        ),
        pytest.param(
            gpu_need(job(B100, "inference", local_ranks=4, model_parallel=4)).usual,
            50,
            55.5,
            False,
            id="100B inference, with a cache",
        ),
        pytest.param(
            host_need(job(B100, "inference", local_ranks=4, model_parallel=4)).least,
            2,
            4.3,
            False,
            id="100B inference host: four processes",
        ),
    ],
)
def test_where_formula_and_extremes_agree(told, table, formula, agrees):
    assert told / GB == pytest.approx(formula, rel=0.05)
    assert (told <= 1.1 * table * GB) is agrees
