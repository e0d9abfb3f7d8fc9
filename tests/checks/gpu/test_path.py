"""checks/gpu/path.py: a table of ways and the layer that each ends at."""

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Container,
    CudaInit,
    DeviceNodes,
    EnvSet,
    Expectations,
    GpuDevices,
    Gpus,
    HipInit,
    KernelDriver,
    Nvml,
    Status,
)
from tests.gpu_machines import HGX, NONE
from tests.gpu_way import (
    ALICE,
    AMD_SERVER,
    DOCKER,
    EACCES,
    EPERM,
    HEALTHY,
    NO_LIBRARY,
    NO_NODES,
    NOTHING,
    POD,
    SERVER,
    SLURM,
    VERSION,
    amd_nodes,
    cuda,
    environment,
    judged,
    nodes,
    nvidia_nodes,
    on_bus,
    unreached,
    without,
)

CHECKS = ["gpu-visible", "gpu-driver", "gpu-permission", "gpu-init"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("way", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(check, way):
    finding = judged(check, way)

    assert finding.status in (Status.PASS, Status.SKIP), finding
    assert finding.status is Status.PASS or check != "gpu-visible"


@pytest.mark.parametrize("check", CHECKS[1:])
def test_without_a_gpu_only_gpu_visible_speaks(check):
    assert judged(check, NOTHING).status is Status.SKIP


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "way", [NOTHING, cuda(802, "CUDA_ERROR_SYSTEM_NOT_READY")], ids=["no GPU", "broken GPU"]
)
def test_no_gpu_expected(check, way):
    finding = judged(check, way.replace(Expectations(gpus=0, told_by="--expect")))

    assert finding.status is (Status.PASS if check == "gpu-visible" else Status.SKIP)


LADDER = [
    pytest.param(NOTHING, "PCI bus", "launch", "--expect gpus=0", id="a machine without GPUs"),
    pytest.param(
        NOTHING.replace(replace(environment(), scheduler="slurm")),
        "PCI bus",
        "launch",
        "srun --gres=gpu:1 gpudoctor check",
        id="login node",
    ),
    pytest.param(NOTHING.replace(SLURM), "PCI bus", "launch", GpuDevices, id="CPU node of Slurm"),
    pytest.param(NOTHING.replace(POD), "PCI bus", "launch", GpuDevices, id="pod on a CPU node"),
    pytest.param(
        unreached(SERVER).replace(KernelDriver(), NO_NODES),
        "kernel driver",
        "node",
        "modprobe nvidia",
        id="driver not loaded",
    ),
    pytest.param(
        unreached(SERVER).replace(KernelDriver(secure_boot=True), NO_NODES),
        "kernel driver",
        "node",
        "modprobe nvidia",
        id="refused by Secure Boot",
    ),
    pytest.param(
        unreached(SERVER).replace(
            KernelDriver(nouveau=True), on_bus(HGX, driver="nouveau"), NO_NODES
        ),
        "kernel driver",
        "node",
        "blacklist nouveau",
        id="nouveau",
    ),
    pytest.param(
        unreached(SERVER).replace(KernelDriver(), on_bus(HGX, driver="vfio-pci"), NO_NODES),
        "kernel driver",
        "node",
        "driverctl unset-override",
        id="kept for virtual machines",
    ),
    pytest.param(
        unreached(SERVER).replace(DOCKER, NO_NODES, NO_LIBRARY),
        "device nodes",
        "launch",
        GpuDevices("nvidia"),
        id="docker run without --gpus",
    ),
    pytest.param(
        unreached(SERVER).replace(POD, NO_NODES, NO_LIBRARY, environment(None, 4, "--expect")),
        "device nodes",
        "launch",
        GpuDevices("nvidia", 4),
        id="pod without nvidia.com/gpu",
    ),
    pytest.param(
        NOTHING.replace(Container(runtime="gvisor", launcher="kubernetes")),
        "device nodes",
        "launch",
        GpuDevices("nvidia"),
        id="gVisor without a GPU",
    ),
    pytest.param(
        NOTHING.replace(replace(DOCKER, wsl2=True)),
        "device nodes",
        "launch",
        GpuDevices("nvidia"),
        id="container in WSL2 without --gpus",
    ),
    pytest.param(
        NOTHING.replace(Container(wsl2=True)),
        "device nodes",
        "node",
        "wsl.exe --update",
        id="WSL2 without a GPU",
    ),
    pytest.param(
        unreached(SERVER).replace(NO_NODES),
        "device nodes",
        "node",
        "nvidia-modprobe -u -c 0",
        id="host without device nodes",
    ),
    pytest.param(
        unreached(SERVER).replace(DOCKER, DeviceNodes(nodes=nvidia_nodes(range(8), error=EPERM))),
        "permission",
        "launch",
        GpuDevices("nvidia"),
        id="after systemctl daemon-reload",
    ),
    pytest.param(
        unreached(SERVER).replace(
            SLURM,
            DeviceNodes(nodes=(*nvidia_nodes([]), *nodes("/dev/nvidia0", error=EPERM))),
        ),
        "permission",
        "launch",
        GpuDevices("nvidia", 1),
        id="Slurm job without --gres",
    ),
    pytest.param(
        unreached(SERVER).replace(DOCKER, NO_LIBRARY),
        "user library",
        "launch",
        EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
        id="capability compute is missing",
    ),
    pytest.param(
        unreached(SERVER).replace(NO_LIBRARY),
        "user library",
        "node",
        "libnvidia-compute-570",
        id="host without libcuda",
    ),
    pytest.param(
        unreached(SERVER).replace(
            Nvml(code=18, error="NVML_ERROR_LIB_RM_VERSION_MISMATCH", version="575.57.08")
        ),
        "NVML",
        "node",
        "modprobe nvidia",
        id="libraries of another version",
    ),
    pytest.param(
        unreached(SERVER).replace(Nvml(code=999, error="NVML_ERROR_UNKNOWN")),
        "NVML",
        "node",
        "NVRM|Xid",
        id="wedged",
    ),
    pytest.param(
        cuda(100, "CUDA_ERROR_NO_DEVICE").replace(environment({"CUDA_VISIBLE_DEVICES": "-1"})),
        "variables",
        "launch",
        "",
        id="hidden by a variable",
    ),
    pytest.param(
        cuda(802, "CUDA_ERROR_SYSTEM_NOT_READY"),
        "CUDA",
        "node",
        "nvidia-fabricmanager",
        id="no fabric manager",
    ),
    pytest.param(
        without(AMD_SERVER, "gpus").replace(DOCKER, NO_NODES),
        "device nodes",
        "launch",
        GpuDevices("amd"),
        id="AMD container without devices",
    ),
    pytest.param(
        without(AMD_SERVER, "gpus").replace(
            KernelDriver(amdgpu=True), DOCKER, DeviceNodes(nodes=nodes("/dev/kfd"))
        ),
        "device nodes",
        "launch",
        GpuDevices("amd"),
        id="AMD container with /dev/kfd alone",
    ),
    pytest.param(
        AMD_SERVER.replace(DOCKER, ALICE, DeviceNodes(nodes=amd_nodes(8, error=EACCES))),
        "permission",
        "launch",
        GpuDevices("amd", groups=(109,)),
        id="AMD container without the groups",
    ),
    pytest.param(
        without(AMD_SERVER, "gpus").replace(KernelDriver(), NO_NODES),
        "kernel driver",
        "node",
        "modprobe amdgpu",
        id="amdgpu not loaded",
    ),
    pytest.param(
        without(AMD_SERVER, "gpus").replace(KernelDriver(amdgpu=True)),
        "KFD",
        "node",
        "amdgpu|kfd",
        id="not in KFD's topology",
    ),
    pytest.param(
        AMD_SERVER.replace(HipInit(code=100, name="hipErrorNoDevice")),
        "HIP",
        "node",
        "amdgpu|kfd",
        id="HIP finds nothing",
    ),
]


@pytest.mark.parametrize(("way", "layer", "owner", "fix"), LADDER)
def test_ladder_stops_at_the_first_broken_layer(way, layer, owner, fix):
    finding = judged("gpu-visible", way)

    assert finding.status is Status.FAIL, finding
    assert [rung.name for rung in finding.ladder if rung.status is Status.FAIL] == [layer]
    assert finding.owner == owner
    assert 0 < len(finding.summary) < 80
    after = [rung.name for rung in finding.ladder].index(layer) + 1
    assert {rung.detail for rung in finding.ladder[after:]} <= {"not reached"}
    if isinstance(fix, str):
        assert fix in " ".join(finding.fix.commands)
    elif isinstance(fix, type):
        assert any(isinstance(setting, fix) for setting in finding.fix.settings)
    else:
        assert fix in finding.fix.settings


def test_ladder_shows_what_is_well_below():
    way = unreached(SERVER).replace(DOCKER, NO_NODES, NO_LIBRARY)

    rungs = judged("gpu-visible", way).ladder

    assert [(rung.name, rung.status) for rung in rungs[:3]] == [
        ("PCI bus", Status.PASS),
        ("kernel driver", Status.PASS),
        ("device nodes", Status.FAIL),
    ]
    assert rungs[1].detail == f"nvidia {VERSION}"


def test_a_gpu_of_the_processor_hides_no_broken_one():
    way = HEALTHY["desktop with a GPU in the processor"]
    amd_only = Gpus(devices=way.facts["gpus"].devices[1:])
    broken = way.replace(amd_only, CudaInit(code=999), Nvml(code=9), HipInit(code=0, devices=1))

    finding = judged("gpu-visible", broken)

    assert finding.status is Status.FAIL
    assert finding.ladder[0].detail == "1 NVIDIA GPU"


@pytest.mark.parametrize(
    ("way", "status"),
    [
        pytest.param(
            without(SERVER, "gpus", "cuda_init", "nvml", why="no answer in 20 s", broken=True),
            Status.ERROR,
            id="the driver hangs",
        ),
        pytest.param(
            without(
                SERVER,
                *("gpus", "cuda_init", "nvml", "device_nodes", "gpu_libraries"),
                why="not known from --root",
            ),
            Status.SKIP,
            id="a tree mounted elsewhere",
        ),
        pytest.param(without(SERVER, "pci_bus", broken=True), Status.ERROR, id="no look at it"),
    ],
)
def test_visible_does_not_guess(way, status):
    finding = judged("gpu-visible", way)

    assert finding.status is status
    assert finding.reason


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(NO_NODES, "no /dev/kfd and /dev/dri/renderD* in", id="none"),
        pytest.param(DeviceNodes(nodes=nodes("/dev/kfd")), "no /dev/dri/renderD* in", id="kfd"),
        pytest.param(DeviceNodes(nodes=amd_nodes(1)[1:]), "no /dev/kfd in", id="no kfd"),
    ],
)
def test_visible_names_the_nodes_that_are_not_there(found, words):
    finding = judged("gpu-visible", without(AMD_SERVER, "gpus").replace(DOCKER, found))

    assert finding.status is Status.FAIL
    assert words in finding.summary


def test_visible_shows_what_the_probe_remarked():
    remark = "8 on this machine, which this container may not use"
    found = Gpus(remarks=(remark,))
    for way in (
        AMD_SERVER.replace(found, DOCKER, DeviceNodes(nodes=nodes("/dev/kfd"))),
        SERVER.replace(found),
    ):
        assert remark in judged("gpu-visible", way).evidence


def test_an_empty_list_of_gpus_is_no_gpu():
    assert judged("gpu-visible", NOTHING.replace(NONE)).status is Status.FAIL
