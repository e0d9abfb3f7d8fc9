"""checks/gpu/choice.py and the choice itself: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import (
    CudaInit,
    DeviceNodes,
    EnvSet,
    EnvUnset,
    Expectations,
    GpuDevices,
    Gpus,
    HipInit,
    PciBus,
    Snapshot,
    Status,
)
from tests.gpu_machines import DESKTOP, H100, HGX, INSTINCT, NONE, SLICED, but, machine
from tests.gpu_way import (
    AMD_SERVER,
    DOCKER,
    GIB,
    HEALTHY,
    SERVER,
    SLURM,
    amd,
    environment,
    full,
    judged,
    nodes,
    nvidia,
    nvidia_nodes,
    on_bus,
    ranks,
)

CHECKS = ["gpu-count", "gpu-selection", "gpu-same-model"]
EIGHT = full(HGX)
INSTINCTS = full(INSTINCT)
SEVEN_OPEN = (*nvidia_nodes(range(7)), *nodes("/dev/nvidia7", error="EPERM: not permitted"))
OLD_CARD = on_bus(machine(H100, 2), driver="", device_id="0x128b").gpus[1:]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("way", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(check, way):
    finding = judged(check, way)

    assert finding.status in (Status.PASS, Status.SKIP), finding


@pytest.mark.parametrize("check", CHECKS)
def test_without_gpus_there_is_nothing_to_say(check):
    finding = judged(check, SERVER.replace(NONE))

    assert finding.status is Status.SKIP
    assert "gpu-visible" in finding.reason


def seven(found: Gpus) -> Gpus:
    return replace(found, devices=found.devices[:7])


def promised(way: Snapshot, count: int, told_by: str) -> Snapshot:
    return way.replace(environment(expected=count, told_by=told_by))


@pytest.mark.parametrize(
    ("way", "status", "owner", "says"),
    [
        pytest.param(SERVER, Status.PASS, None, "8 GPUs", id="nothing promised"),
        pytest.param(
            promised(SERVER, 8, "SLURM_GPUS_ON_NODE"), Status.PASS, None, "8 by SLURM", id="as told"
        ),
        pytest.param(
            promised(SERVER, 4, "SLURM_GPUS_ON_NODE"), Status.PASS, None, "8 GPUs", id="more"
        ),
        pytest.param(
            SERVER.replace(but(EIGHT, 3, lost="NVML_ERROR_GPU_IS_LOST")),
            Status.FAIL,
            "node",
            "no answer from 1 of 8",
            id="lost",
        ),
        pytest.param(
            SERVER.replace(
                but(EIGHT, 3, lost="NVML_ERROR_GPU_IS_LOST"),
                environment({"CUDA_VISIBLE_DEVICES": "0,1"}),
            ),
            Status.WARN,
            None,
            "uses others",
            id="lost, but not this job's",
        ),
        pytest.param(
            SERVER.replace(seven(EIGHT)), Status.FAIL, "node", "7 of 8 GPUs on the bus", id="7 of 8"
        ),
        pytest.param(
            SERVER.replace(seven(EIGHT), DeviceNodes(nodes=SEVEN_OPEN)),
            Status.PASS,
            None,
            "7 GPUs",
            id="another scheduler's device cgroup",
        ),
        pytest.param(
            SERVER.replace(
                but(EIGHT, 7, lost="NVML_ERROR_OPERATING_SYSTEM"), DeviceNodes(nodes=SEVEN_OPEN)
            ),
            Status.PASS,
            None,
            "7 GPUs",
            id="listed, but closed by a device cgroup",
        ),
        pytest.param(
            SERVER.replace(
                but(EIGHT, 7, lost="NVML_ERROR_OPERATING_SYSTEM"),
                DeviceNodes(nodes=SEVEN_OPEN),
                Expectations(gpus=8),
            ),
            Status.FAIL,
            "launch",
            "7 GPUs, 8 by --expect",
            id="closed by a device cgroup, and promised",
        ),
        pytest.param(
            nvidia(seven(EIGHT), on_bus(HGX), container=DOCKER),
            Status.PASS,
            None,
            "7 GPUs",
            id="a container with 7 of 8",
        ),
        pytest.param(
            nvidia(full(DESKTOP), PciBus(gpus=(*on_bus(DESKTOP).gpus, *OLD_CARD))),
            Status.PASS,
            None,
            "1 GPU",
            id="an old card that the driver leaves alone",
        ),
        pytest.param(
            promised(SERVER.replace(seven(EIGHT), on_bus(seven(HGX))), 8, "--expect gpus=8"),
            Status.FAIL,
            "node",
            "7 GPUs, 8 by --expect",
            id="gone from the bus",
        ),
        pytest.param(
            promised(nvidia(full(machine(H100, 2)), container=SLURM), 4, "SLURM_GPUS_ON_NODE"),
            Status.FAIL,
            "launch",
            "2 GPUs, 4 by SLURM_GPUS_ON_NODE",
            id="Slurm gave fewer",
        ),
        pytest.param(
            SERVER.replace(Expectations(gpus=16, told_by="gpudoctor.toml")),
            Status.FAIL,
            "node",
            "16 by gpudoctor.toml",
            id="the configuration expects more",
        ),
        pytest.param(
            nvidia(full(SLICED), environment(expected=7, told_by="SLURM_GPUS_ON_NODE")),
            Status.PASS,
            None,
            "7 GPUs",
            id="slices count",
        ),
        pytest.param(
            SERVER.replace(CudaInit(code=0, devices=7)),
            Status.FAIL,
            "node",
            "CUDA counts 7",
            id="CUDA leaves one out",
        ),
        pytest.param(SERVER.replace(ranks(8)), Status.PASS, None, "8", id="8 ranks, 8 GPUs"),
        pytest.param(
            nvidia(full(machine(H100, 4)), ranks(8)),
            Status.FAIL,
            "launch",
            "8 ranks on this node (--nproc-per-node), 4 GPUs",
            id="8 ranks, 4 GPUs",
        ),
        pytest.param(
            nvidia(full(machine(H100)), ranks(8, "SLURM_NTASKS_PER_NODE"), container=SLURM),
            Status.PASS,
            None,
            "1 GPU",
            id="each task has its own",
        ),
        pytest.param(
            AMD_SERVER.replace(seven(INSTINCTS)), Status.FAIL, "node", "7 of 8", id="AMD: 7 of 8"
        ),
    ],
)
def test_count(way, status, owner, says):
    finding = judged("gpu-count", way)

    assert finding.status is status, finding
    assert finding.owner == (None if owner == "node" else owner)
    assert says in finding.summary
    assert len(finding.summary) < 80


def test_count_names_what_is_missing():
    lost = judged("gpu-count", SERVER.replace(but(EIGHT, 3, lost="NVML_ERROR_GPU_IS_LOST")))
    missing = judged("gpu-count", SERVER.replace(seven(EIGHT)))

    assert lost.evidence == ("GPU 3 (0000:33:00.0): NVML_ERROR_GPU_IS_LOST",)
    assert "0000:53:00.0" in missing.evidence[0]


CLOSED = "1 of 8 GPUs are closed to us: NVML_ERROR_NO_PERMISSION"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        pytest.param(EIGHT, Status.PASS, id="all there"),
        pytest.param(seven(EIGHT), Status.FAIL, id="one missing"),
        pytest.param(but(EIGHT, lost="NVML_ERROR_GPU_IS_LOST"), Status.FAIL, id="one lost"),
    ],
)
def test_count_shows_what_the_probe_remarked(found, status):
    finding = judged("gpu-count", SERVER.replace(replace(found, remarks=(CLOSED,))))

    assert finding.status is status
    assert CLOSED in finding.evidence


def test_count_asks_the_launcher_for_as_many_as_promised():
    way = promised(nvidia(full(machine(H100, 2)), container=SLURM), 4, "SLURM_GPUS_ON_NODE")

    assert judged("gpu-count", way).fix.settings == (GpuDevices("nvidia", 4),)


def cuda_env(value: str, devices: int, *other) -> Snapshot:
    code = 0 if devices else 100
    started = CudaInit(code=code, devices=devices)
    return SERVER.replace(environment({"CUDA_VISIBLE_DEVICES": value}), started, *other)


def amd_env(**env: str) -> Snapshot:
    return AMD_SERVER.replace(environment(env))


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "no variable chooses", id="not set"),
        pytest.param(cuda_env("0,1", 2), Status.PASS, "2 of 8 GPUs", id="two of eight"),
        pytest.param(cuda_env("", 0), Status.FAIL, "is empty: it hides all", id="empty"),
        pytest.param(cuda_env("-1", 0), Status.FAIL, "hides all", id="-1"),
        pytest.param(cuda_env("0,0", 0), Status.FAIL, "names GPU 0 twice", id="twice"),
        pytest.param(cuda_env("8,9", 0), Status.FAIL, "names no GPU: 8", id="not here"),
        pytest.param(cuda_env("0,9,1", 1), Status.FAIL, "ends at '9'", id="ends early"),
        pytest.param(cuda_env("0,9,1", 3), Status.PASS, "3 of 8", id="CUDA knows better"),
        pytest.param(cuda_env("NoDevFiles", 0), Status.FAIL, "no GPU", id="Slurm gave none"),
        pytest.param(cuda_env("0", 1, ranks(4)), Status.FAIL, "4 ranks", id="4 ranks share one"),
        pytest.param(
            cuda_env("0", 1, ranks(4, "SLURM_NTASKS_PER_NODE")),
            Status.PASS,
            "1 of 8",
            id="one for each task",
        ),
        pytest.param(
            cuda_env("0,1", 2, environment({"CUDA_VISIBLE_DEVICES": "0,1"}, local_rank=3)),
            Status.FAIL,
            "local rank 3, but 2 GPUs",
            id="a rank too many",
        ),
        pytest.param(
            cuda_env(
                "3",
                1,
                environment({"CUDA_VISIBLE_DEVICES": "3"}, local_rank=3),
                ranks(4, "LOCAL_WORLD_SIZE"),
            ),
            Status.WARN,
            "local rank 3, but 1 GPU",
            id="one for each rank of torchrun",
        ),
        pytest.param(
            nvidia(full(SLICED), environment({"CUDA_VISIBLE_DEVICES": "MIG-1"})),
            Status.PASS,
            "1 of 1 GPU",
            id="a slice",
        ),
        pytest.param(
            nvidia(
                full(SLICED),
                environment({"CUDA_VISIBLE_DEVICES": "MIG-1"}),
                CudaInit(code=100, name="x"),
            ),
            Status.SKIP,
            "MIG-1",
            id="a slice that CUDA does not start with",
        ),
        pytest.param(
            amd_env(ROCR_VISIBLE_DEVICES="4,5,6,7", HIP_VISIBLE_DEVICES="4,5"),
            Status.FAIL,
            "HIP_VISIBLE_DEVICES names no GPU: 4",
            id="HIP beyond ROCr",
        ),
        pytest.param(
            amd_env(ROCR_VISIBLE_DEVICES="4,5,6,7", HIP_VISIBLE_DEVICES="2,3,4"),
            Status.FAIL,
            "ends at '4'",
            id="HIP partly beyond ROCr",
        ),
        pytest.param(
            amd_env(HIP_VISIBLE_DEVICES="0,1", CUDA_VISIBLE_DEVICES="2,3"),
            Status.WARN,
            "HIP_VISIBLE_DEVICES=0,1",
            id="two that differ",
        ),
        pytest.param(
            amd_env(HIP_VISIBLE_DEVICES="0", CUDA_VISIBLE_DEVICES="0"),
            Status.PASS,
            "1 of 8",
            id="two alike",
        ),
        pytest.param(
            amd_env(ROCR_VISIBLE_DEVICES="6,7").replace(HipInit(code=0, devices=2)),
            Status.PASS,
            "2 of 8",
            id="ROCr",
        ),
    ],
)
def test_selection(way, status, says):
    finding = judged("gpu-selection", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("way", "setting"),
    [
        (cuda_env("8", 0), EnvUnset("CUDA_VISIBLE_DEVICES")),
        (cuda_env("NoDevFiles", 0), GpuDevices("nvidia", 1)),
        (
            amd_env(ROCR_VISIBLE_DEVICES="4,5", HIP_VISIBLE_DEVICES="4"),
            EnvUnset("HIP_VISIBLE_DEVICES"),
        ),
    ],
    ids=["CUDA", "Slurm", "HIP"],
)
def test_selection_says_what_to_unset(way, setting):
    assert judged("gpu-selection", way).fix.settings == (setting,)


OTHER = but(EIGHT, 7, name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * GIB)
INTEGRATED = but(
    full(machine(INSTINCT.devices[0], 2)),
    1,
    name="AMD gfx1036",
    integrated=True,
    memory_bytes=GIB // 2,
)


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "8 x NVIDIA H100", id="alike"),
        pytest.param(nvidia(OTHER), Status.WARN, "2 models", id="one A100 among them"),
        pytest.param(nvidia(OTHER, ranks(8)), Status.FAIL, "2 models", id="and all are used"),
        pytest.param(
            nvidia(OTHER, environment({"CUDA_VISIBLE_DEVICES": "0,1"})),
            Status.PASS,
            "2 x",
            id="but not by this job",
        ),
        pytest.param(
            nvidia(but(EIGHT, 1, memory_bytes=40 * GIB)),
            Status.WARN,
            "with 40 GiB and with 80 GiB",
            id="one model, two sizes",
        ),
        pytest.param(
            nvidia(but(EIGHT, 1, memory_bytes=79 * GIB)), Status.PASS, "8 x", id="nearly alike"
        ),
        pytest.param(amd(INTEGRATED), Status.WARN, "2 models", id="the processor's own"),
        pytest.param(nvidia(full(DESKTOP)), Status.SKIP, "one GPU", id="one"),
    ],
)
def test_same_model(way, status, says):
    finding = judged("gpu-same-model", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


def test_same_model_names_those_of_the_larger_group():
    cuda = judged("gpu-same-model", nvidia(OTHER)).fix.settings[0]
    hip = judged("gpu-same-model", amd(INTEGRATED)).fix.settings

    assert cuda.name == "CUDA_VISIBLE_DEVICES"
    assert len(cuda.value.split(",")) == 7
    assert hip == (EnvSet("HIP_VISIBLE_DEVICES", "0"),)
