"""checks/gpu/driver.py, nodes.py and runtime.py: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Container,
    CudaInit,
    DeviceNodes,
    EnvSet,
    Expectations,
    GpuDevices,
    GpuLibraries,
    Gpus,
    Group,
    HipInit,
    KernelDriver,
    KernelLog,
    Nvml,
    PciBus,
    Snapshot,
    Status,
)
from tests.gpu_machines import HGX, INSTINCT, MI300X, machine
from tests.gpu_way import (
    ALICE,
    AMD_SERVER,
    DOCKER,
    EACCES,
    EPERM,
    NO_NODES,
    NOTHING,
    NVIDIA_LIBRARIES,
    SERVER,
    VERSION,
    amd,
    amd_nodes,
    cuda,
    environment,
    full,
    judged,
    nodes,
    nvidia_nodes,
    on_bus,
    unreached,
    without,
)


def mismatched(**libraries: str) -> GpuLibraries:
    return replace(NVIDIA_LIBRARIES, **libraries)


@pytest.mark.parametrize(
    ("way", "status", "owner"),
    [
        pytest.param(SERVER, Status.PASS, None, id="all of one version"),
        pytest.param(AMD_SERVER, Status.PASS, None, id="amdgpu"),
        pytest.param(
            unreached(SERVER).replace(mismatched(libnvidia_ml_version="575.57.08")),
            Status.FAIL,
            "node",
            id="updated, not rebooted",
        ),
        pytest.param(
            SERVER.replace(Nvml(code=18, error="NVML_ERROR_LIB_RM_VERSION_MISMATCH")),
            Status.FAIL,
            "node",
            id="NVML says so",
        ),
        pytest.param(
            cuda(803, "x").replace(DOCKER, mismatched(libcuda_version="550.90.07")),
            Status.FAIL,
            "launch",
            id="the image's own libcuda",
        ),
        pytest.param(
            SERVER.replace(mismatched(libcuda_version="550.90.07")),
            Status.PASS,
            None,
            id="another name, but it works",
        ),
        pytest.param(
            cuda(804, "x").replace(replace(mismatched(libcuda_version="580.65.06"), compat=True)),
            Status.PASS,
            None,
            id="forward compatibility is gpu-init's",
        ),
        pytest.param(
            unreached(SERVER).replace(KernelDriver(), on_bus(HGX, driver="nouveau")),
            Status.FAIL,
            "node",
            id="nouveau",
        ),
        pytest.param(
            unreached(SERVER).replace(
                KernelDriver(nvidia=VERSION, nvidia_open=False), on_bus(HGX, device_id="0x2901")
            ),
            Status.FAIL,
            "node",
            id="Blackwell with the proprietary module",
        ),
        pytest.param(
            SERVER.replace(
                KernelDriver(nvidia=VERSION, nvidia_open=False), on_bus(HGX, device_id="0x2901")
            ),
            Status.PASS,
            None,
            id="Blackwell that answers",
        ),
        pytest.param(
            unreached(SERVER).replace(on_bus(HGX, device_id="0x1db5", driver="")),
            Status.FAIL,
            "node",
            id="Volta with the open module",
        ),
        pytest.param(
            unreached(SERVER).replace(KernelDriver(nvidia=VERSION, nvidia_open=False)),
            Status.PASS,
            None,
            id="Hopper runs with either",
        ),
        pytest.param(unreached(SERVER).replace(KernelDriver()), Status.SKIP, None, id="none"),
    ],
)
def test_driver(way, status, owner):
    finding = judged("gpu-driver", way)

    assert finding.status is status, finding
    assert finding.owner == owner
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("way", "owner", "says"),
    [
        pytest.param(DOCKER, "launch", "libnvidia-ml.so.1", id="a container without utility"),
        pytest.param(Container(), "node", "libnvidia-ml.so.1", id="the node"),
    ],
)
def test_driver_misses_the_library_that_nccl_needs(way, owner, says):
    silent = Nvml(code=12, error="libnvidia-ml.so.1: cannot open shared object file")

    finding = judged("gpu-driver", without(SERVER, "gpus").replace(silent, way))

    assert finding.status is Status.WARN
    assert finding.owner == owner
    assert says in finding.summary
    if owner == "launch":
        assert EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility") in finding.fix.settings


def test_driver_whose_nvml_does_not_start():
    silent = Nvml(library="x", version=VERSION, code=999, error="NVML_ERROR_UNKNOWN")

    finding = judged("gpu-driver", without(SERVER, "gpus").replace(silent))

    assert finding.status is Status.WARN
    assert "NVML_ERROR_UNKNOWN" in finding.summary


def test_driver_of_a_jetson_needs_no_nvml():
    way = without(SERVER, "gpus").replace(PciBus(), Nvml(code=12, error="none"))

    assert judged("gpu-driver", way).status is Status.PASS


def test_driver_quotes_the_kernel():
    said = "NVRM: installed in this system requires use of the NVIDIA open kernel modules."
    way = unreached(SERVER).replace(
        KernelDriver(nvidia=VERSION, nvidia_open=False),
        on_bus(HGX, device_id="0x2901"),
        KernelLog(source="/dev/kmsg", lines=("NVRM: loading", said)),
    )

    assert said in judged("gpu-driver", way).evidence


def opened(*found, user=ALICE, container=None) -> Snapshot:
    facts = [DeviceNodes(nodes=found, group_names={"render": 104}), container or Container()]
    return NOTHING.replace(*facts, user)


@pytest.mark.parametrize(
    ("way", "status", "setting"),
    [
        pytest.param(opened(*nvidia_nodes(range(8))), Status.PASS, None, id="all open"),
        pytest.param(
            opened(*nvidia_nodes([0]), *nodes("/dev/nvidia1", error=EPERM)),
            Status.PASS,
            None,
            id="one of two is another job's",
        ),
        pytest.param(
            opened(*nvidia_nodes([0], error=EPERM), container=DOCKER),
            Status.FAIL,
            GpuDevices("nvidia"),
            id="device cgroup",
        ),
        pytest.param(
            opened(*nvidia_nodes([0], error=EACCES, mode="0660", gid=44)),
            Status.FAIL,
            Group(44),
            id="group video",
        ),
        pytest.param(
            opened(*nvidia_nodes([0], error=EACCES, mode="0600")),
            Status.FAIL,
            None,
            id="for root alone",
        ),
        pytest.param(
            opened(*nvidia_nodes([0], error=EACCES), container=DOCKER),
            Status.FAIL,
            None,
            id="SELinux",
        ),
        pytest.param(
            opened(*amd_nodes(2, error=EACCES)), Status.FAIL, Group(109), id="not in render"
        ),
        pytest.param(
            opened(*amd_nodes(2, error=EACCES), container=DOCKER),
            Status.FAIL,
            GpuDevices("amd", groups=(109,)),
            id="the host's number of render",
        ),
        pytest.param(
            opened(*amd_nodes(2, error=EACCES, gid=65534), container=DOCKER),
            Status.FAIL,
            None,
            id="rootless",
        ),
        pytest.param(
            opened(*nvidia_nodes([0]), *amd_nodes(1, error=EACCES)),
            Status.PASS,
            None,
            id="the processor's GPU is closed",
        ),
        pytest.param(
            opened(*nodes("/dev/dri/renderD128", error=EACCES)),
            Status.SKIP,
            None,
            id="a display's node",
        ),
        pytest.param(
            opened(*nodes("/dev/nvidiactl", "/dev/nvidia0", error="EIO: Input/output error")),
            Status.PASS,
            None,
            id="another trouble",
        ),
        pytest.param(opened(), Status.SKIP, None, id="none"),
        pytest.param(
            opened(*nodes("/dev/kfd")), Status.SKIP, None, id="no node of any GPU is gpu-visible's"
        ),
    ],
)
def test_permission(way, status, setting):
    finding = judged("gpu-permission", way)

    assert finding.status is status, finding
    assert len(finding.summary) < 80
    if setting:
        assert setting in finding.fix.settings
    elif status is Status.FAIL:
        assert finding.fix.commands


def rendered(count: int) -> Gpus:
    """Instincts, each with its render node."""
    found = full(machine(MI300X, count))
    devices = (replace(gpu, render_node=f"renderD{128 + gpu.index}") for gpu in found.devices)
    return replace(found, devices=tuple(devices))


@pytest.mark.parametrize(
    ("way", "status", "owner"),
    [
        pytest.param(amd(rendered(4)), Status.PASS, None, id="all here"),
        pytest.param(
            amd(rendered(4), DeviceNodes(nodes=amd_nodes(2)), container=DOCKER),
            Status.WARN,
            "launch",
            id="two of four, and nobody said how many",
        ),
        pytest.param(
            amd(
                rendered(4),
                DeviceNodes(nodes=amd_nodes(2)),
                environment(expected=2, told_by="SLURM_GPUS_ON_NODE"),
                container=DOCKER,
            ),
            Status.PASS,
            None,
            id="two of four, as promised",
        ),
        pytest.param(
            amd(
                rendered(4),
                DeviceNodes(nodes=amd_nodes(2)),
                Expectations(gpus=4),
                container=DOCKER,
            ),
            Status.FAIL,
            "launch",
            id="two of four that were promised",
        ),
        pytest.param(
            amd(rendered(4), DeviceNodes(nodes=amd_nodes(3))),
            Status.WARN,
            "node",
            id="on the host",
        ),
        pytest.param(
            amd(
                replace(rendered(1), devices=(replace(rendered(1).devices[0], integrated=True),)),
                DeviceNodes(nodes=nodes("/dev/kfd", "/dev/dri/renderD129")),
            ),
            Status.PASS,
            None,
            id="the processor's own GPU",
        ),
    ],
)
def test_permission_knows_a_render_node_that_is_not_here(way, status, owner):
    finding = judged("gpu-permission", way)

    assert finding.status is status, finding
    assert len(finding.summary) < 80
    if status in (Status.WARN, Status.FAIL):
        assert finding.owner == owner
        assert owner == "node" or GpuDevices("amd") in finding.fix.settings


def test_permission_shows_the_number_in_this_image():
    way = opened(*amd_nodes(1, error=EACCES), container=DOCKER)

    assert "render is 104 in this image" in judged("gpu-permission", way).evidence


@pytest.mark.parametrize(
    ("way", "status", "says"),
    [
        pytest.param(SERVER, Status.PASS, "CUDA 12.8, 8 GPUs", id="CUDA starts"),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=0, devices=8)), Status.PASS, "8 GPUs", id="HIP starts"
        ),
        pytest.param(cuda(802, "x"), Status.FAIL, VERSION, id="fabric manager"),
        pytest.param(cuda(803, "x"), Status.FAIL, "libcuda of the loaded", id="foreign libcuda"),
        pytest.param(cuda(804, "x"), Status.FAIL, "cuda-compat", id="compat on GeForce"),
        pytest.param(cuda(34, "x"), Status.FAIL, "stub", id="stub"),
        pytest.param(cuda(46, "x"), Status.FAIL, "nvidia-smi -c DEFAULT", id="exclusive"),
        pytest.param(cuda(999, "x"), Status.FAIL, "kernel's log", id="unknown"),
        pytest.param(cuda(35, "x"), Status.FAIL, "kernel's log", id="old driver"),
        pytest.param(
            cuda(999, "x").replace(DeviceNodes(nodes=nodes("/dev/nvidiactl", "/dev/nvidia0"))),
            Status.FAIL,
            "nvidia-modprobe",
            id="no nvidia-uvm",
        ),
        pytest.param(
            unreached(SERVER),
            Status.SKIP,
            "NVML_ERROR_DRIVER_NOT_LOADED: see gpu-visible",
            id="NVML neither",
        ),
        pytest.param(cuda(100, "x"), Status.FAIL, "kernel's log", id="no device"),
        pytest.param(cuda(100, "x").replace(NO_NODES), Status.SKIP, "gpu-visible", id="no nodes"),
        pytest.param(
            cuda(100, "x").replace(DeviceNodes(nodes=nvidia_nodes([0], error=EPERM))),
            Status.SKIP,
            "gpu-permission",
            id="no permission",
        ),
        pytest.param(
            cuda(100, "x").replace(environment({"CUDA_VISIBLE_DEVICES": ""})),
            Status.SKIP,
            "gpu-selection",
            id="hidden",
        ),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=100, name="hipErrorNoDevice")),
            Status.FAIL,
            "hipErrorNoDevice",
            id="HIP does not",
        ),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=0, devices=0)),
            Status.FAIL,
            "counts no GPU",
            id="HIP counts none",
        ),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=100), DeviceNodes(nodes=nodes("/dev/kfd"))),
            Status.SKIP,
            "gpu-visible",
            id="HIP, no render nodes",
        ),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=100), DeviceNodes(nodes=amd_nodes(8, error=EACCES))),
            Status.SKIP,
            "gpu-permission",
            id="HIP, no permission",
        ),
        pytest.param(
            AMD_SERVER.replace(HipInit(code=0), environment({"ROCR_VISIBLE_DEVICES": ""})),
            Status.SKIP,
            "gpu-selection",
            id="HIP, hidden",
        ),
        pytest.param(AMD_SERVER, Status.SKIP, "torch brings its own", id="no HIP library"),
        pytest.param(
            without(SERVER, "cuda_init", why="no answer in 20 s", broken=True),
            Status.ERROR,
            "no answer",
            id="hangs",
        ),
    ],
)
def test_init(way, status, says):
    finding = judged("gpu-init", way)

    fix = f"{finding.fix.text} {finding.fix.commands}" if finding.fix else ""
    assert finding.status is status, finding
    assert says in f"{finding.summary} {finding.reason} {fix}"


def test_init_without_nvidia_uvm_in_a_container_asks_the_launcher():
    some = DeviceNodes(nodes=nodes("/dev/nvidiactl", "/dev/nvidia0"))

    finding = judged("gpu-init", cuda(999, "x").replace(some, DOCKER))

    assert finding.fix.settings == (GpuDevices("nvidia"),)
    assert finding.owner == "launch"


def test_init_of_amd_is_not_judged_by_a_stray_libcuda():
    way = amd(full(INSTINCT), CudaInit(code=100), HipInit(code=0, devices=8))

    assert judged("gpu-init", way).status is Status.PASS
    assert judged("gpu-visible", way).status is Status.PASS
