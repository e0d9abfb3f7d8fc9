"""checks/gpu/mode.py and busy.py: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import Container, Expectations, GpuProcess, Gpus, Status
from tests.gpu_machines import H100, HGX, INSTINCT, MI300X, NONE, SLICED, but, machine
from tests.gpu_way import (
    AMD_SERVER,
    DOCKER,
    GEFORCE,
    GIB,
    HEALTHY,
    SERVER,
    T4,
    amd,
    environment,
    full,
    judged,
    nvidia,
    ranks,
)

CHECKS = ["gpu-mig", "gpu-partition", "gpu-compute-mode", "gpu-persistence", "gpu-busy"]
EIGHT = full(HGX)
SLICE = full(SLICED)
CPX = "CPX", "NPS1"


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


@pytest.mark.parametrize(
    ("check", "field"),
    [
        ("gpu-mig", "mig_enabled"),
        ("gpu-compute-mode", "compute_mode"),
        ("gpu-persistence", "persistence"),
        ("gpu-busy", "memory_used_bytes"),
    ],
)
def test_what_could_not_be_read_is_not_well(check, field):
    gap = {"unread": {field: "NVML_ERROR_UNKNOWN"}, field: None}
    way = nvidia(but(full(machine(H100)), 0, **gap))

    assert judged(check, way).status is Status.ERROR


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "off on 8", id="off"),
        pytest.param(nvidia(SLICE, ranks(1)), Status.PASS, "7 slices", id="one rank in a slice"),
        pytest.param(
            nvidia(but(SLICE, mig_devices=0), ranks(1)), Status.FAIL, "no slice", id="no slice"
        ),
        pytest.param(nvidia(SLICE, ranks(2)), Status.FAIL, "2 ranks", id="two ranks in slices"),
        pytest.param(
            nvidia(but(EIGHT, 2, mig_enabled=True, mig_devices=7)),
            Status.WARN,
            "GPU 2: split by MIG",
            id="one of eight, nobody told of ranks",
        ),
        pytest.param(
            nvidia(but(EIGHT, 2, mig_pending=True)), Status.WARN, "GPU 2: MIG will be on", id="soon"
        ),
        pytest.param(
            nvidia(but(EIGHT, 2, mig_pending=False)), Status.PASS, "off on 8", id="nothing pending"
        ),
        pytest.param(
            nvidia(
                but(EIGHT, 2, mig_enabled=True, mig_devices=7),
                environment({"CUDA_VISIBLE_DEVICES": "MIG-1"}),
                ranks(1),
            ),
            Status.PASS,
            "7 slices",
            id="a slice of one of eight",
        ),
        pytest.param(nvidia(GEFORCE), Status.SKIP, "no MIG", id="GeForce"),
        pytest.param(AMD_SERVER, Status.SKIP, "no MIG", id="AMD"),
    ],
)
def test_mig(way, status, says):
    finding = judged("gpu-mig", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


def split(count: int, compute: str, memory: str, giga: int) -> Gpus:
    model = replace(MI300X, partition_compute=compute, partition_memory=memory)
    parts = full(machine(model, count))
    devices = tuple(replace(gpu, memory_bytes=giga * GIB) for gpu in parts.devices)
    return replace(parts, devices=devices)


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(AMD_SERVER, Status.PASS, "SPX/NPS1 on 8 GPUs", id="whole"),
        pytest.param(
            amd(split(64, *CPX, 24)), Status.WARN, "64 partitions of 24 GiB each", id="CPX"
        ),
        pytest.param(
            amd(split(64, *CPX, 24), Expectations(gpus=64)), Status.PASS, "as expected", id="meant"
        ),
        pytest.param(
            amd(but(full(INSTINCT), 3, partition_compute="DPX")),
            Status.WARN,
            "different modes",
            id="one of eight",
        ),
        pytest.param(
            amd(split(8, "SPX", "NPS4", 192)), Status.PASS, "SPX/NPS4", id="memory in quarters"
        ),
        pytest.param(SERVER, Status.SKIP, "cannot be partitioned", id="NVIDIA"),
    ],
)
def test_partition(way, status, says):
    finding = judged("gpu-partition", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


EXCLUSIVE = but(EIGHT, 1, compute_mode="exclusive process")


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "default on 8", id="default"),
        pytest.param(
            nvidia(but(EIGHT, 1, compute_mode="prohibited")), Status.FAIL, "prohib", id="prohibited"
        ),
        pytest.param(nvidia(EXCLUSIVE), Status.WARN, "a second process", id="exclusive"),
        pytest.param(
            nvidia(but(EXCLUSIVE, 1, processes=(GpuProcess(pid=77),))),
            Status.FAIL,
            "pid 77 has it",
            id="exclusive and taken",
        ),
        pytest.param(
            nvidia(EXCLUSIVE, ranks(16)), Status.FAIL, "exclusive", id="exclusive, two ranks each"
        ),
        pytest.param(
            SERVER.replace(EXCLUSIVE, environment({"CUDA_VISIBLE_DEVICES": "2,3"})),
            Status.PASS,
            "default on 2",
            id="another GPU is",
        ),
        pytest.param(AMD_SERVER, Status.SKIP, "no compute mode", id="AMD"),
    ],
)
def test_compute_mode(way, status, says):
    finding = judged("gpu-compute-mode", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


def lax(found: Gpus) -> Gpus:
    return replace(found, devices=tuple(replace(gpu, persistence=False) for gpu in found.devices))


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "on for 8", id="on"),
        pytest.param(nvidia(lax(EIGHT)), Status.WARN, "off on 8 of 8", id="off"),
        pytest.param(
            nvidia(but(EIGHT, 5, persistence=False)), Status.WARN, "off on 1 of 8", id="off on one"
        ),
        pytest.param(nvidia(lax(T4)), Status.WARN, "off on 1", id="one of a server"),
        pytest.param(nvidia(GEFORCE), Status.PASS, "desktops", id="desktop"),
        pytest.param(
            nvidia(lax(EIGHT), container=Container(wsl2=True)), Status.SKIP, "Windows", id="WSL2"
        ),
        pytest.param(AMD_SERVER, Status.SKIP, "no persistence", id="AMD"),
    ],
)
def test_persistence(way, status, says):
    finding = judged("gpu-persistence", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


def held(giga: float, *processes: GpuProcess, found: Gpus = EIGHT) -> Gpus:
    return but(
        found, 1 if found is EIGHT else 0, memory_used_bytes=int(giga * GIB), processes=processes
    )


SOMEBODY = GpuProcess(pid=4711, memory_bytes=40 * GIB, name="python3")
OUTSIDE = GpuProcess(pid=4711, memory_bytes=40 * GIB, visible=False)
EXPORTER = GpuProcess(pid=12, memory_bytes=100 << 20, name="dcgm-exporter")


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "0 B of 80 GiB", id="empty"),
        pytest.param(
            nvidia(held(40, SOMEBODY)), Status.FAIL, "held by pid 4711 python3", id="a job"
        ),
        pytest.param(nvidia(held(40)), Status.WARN, "no process that can be seen", id="nobody"),
        pytest.param(
            nvidia(held(40, OUTSIDE), container=DOCKER), Status.WARN, "pid 4711", id="from outside"
        ),
        pytest.param(
            nvidia(held(40, SOMEBODY), container=DOCKER),
            Status.WARN,
            "pid 4711",
            id="a pid of another namespace",
        ),
        pytest.param(nvidia(held(1.25)), Status.PASS, "1.2 GiB", id="the driver's own"),
        pytest.param(nvidia(held(0.6, EXPORTER)), Status.PASS, "", id="a monitor"),
        pytest.param(nvidia(held(7.9)), Status.PASS, "", id="a tenth"),
        pytest.param(
            SERVER.replace(held(40, SOMEBODY), environment({"CUDA_VISIBLE_DEVICES": "2,3"})),
            Status.PASS,
            "",
            id="not on this job's GPUs",
        ),
        pytest.param(
            SERVER.replace(held(40, SOMEBODY), environment(local_rank=1)),
            Status.SKIP,
            "other ranks",
            id="within torchrun",
        ),
        pytest.param(nvidia(held(9, found=GEFORCE)), Status.PASS, "9 GiB", id="a desktop's"),
        pytest.param(
            nvidia(held(20, found=GEFORCE)), Status.WARN, "20 GiB", id="too much for a desktop"
        ),
        pytest.param(
            nvidia(held(9, GpuProcess(pid=9, name="Xorg"), found=GEFORCE)),
            Status.PASS,
            "",
            id="the display",
        ),
        pytest.param(
            nvidia(held(9, SOMEBODY, found=GEFORCE)), Status.FAIL, "python3", id="a notebook"
        ),
        pytest.param(
            amd(but(full(INSTINCT), 1, memory_used_bytes=60 * GIB, processes=(SOMEBODY,))),
            Status.FAIL,
            "pid 4711",
            id="AMD",
        ),
        pytest.param(
            nvidia(but(full(machine(H100)), memory_used_bytes=None)),
            Status.SKIP,
            "do not say",
            id="not told",
        ),
    ],
)
def test_busy(way, status, says):
    finding = judged("gpu-busy", way)

    assert finding.status is status, finding
    assert says in f"{finding.summary}{finding.reason}"


def test_busy_shows_how_to_find_the_holder():
    assert judged("gpu-busy", nvidia(held(40, SOMEBODY))).fix.commands == (
        "ps -o user,pid,etime,args -p 4711",
    )
    assert judged("gpu-busy", nvidia(held(40, OUTSIDE))).fix.commands == (
        "sudo fuser -v /dev/nvidia*",
    )
