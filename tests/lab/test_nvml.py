"""NVIDIA's GPUs and their faults through the real pynvml, over a library that plays them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gpudoctor import (
    Absent,
    Container,
    CudaInit,
    DeviceNodes,
    Gpu,
    GpuProcess,
    Gpus,
    KernelDriver,
    Link,
    Nvml,
    Pair,
    Status,
)
from gpudoctor.snapshot import load

from .conftest import DRIVER
from .nvml import DESKTOP, FAKE, H100, Seen
from .nvml_states import STATES

GONE = 4194000  # a pid that no small machine has
FAIL, ERROR = Status.FAIL, Status.ERROR
NO_DEVICE = CudaInit(code=100, name="CUDA_ERROR_NO_DEVICE")
LOST = {"gpu-count": FAIL, "gpu-recovery": FAIL}

See = Callable[..., Seen]


@pytest.fixture
def see(libnvidia_ml: Path, gpudoctor: str, tmp_path: Path) -> See:
    """`see(*lines)`: `gpudoctor check gpu` where these lines change two healthy H100."""

    def run(*lines: str, base: str = "h100x2", options: tuple[str, ...] = ()) -> Seen:
        config = tmp_path / "gpus.conf"
        config.write_text("\n".join([(FAKE / f"{base}.conf").read_text(), *lines, ""]))
        command = [gpudoctor, "check", "gpu", "-f", "json", *options]
        env = {"LD_LIBRARY_PATH": str(libnvidia_ml), "FAKE_NVML_CONFIG": str(config)}
        ended = subprocess.run(command, capture_output=True, env={**os.environ, **env}, timeout=60)
        assert ended.stdout, ended.stderr
        return Seen(load(ended.stdout)[0])

    return run


def test_healthy_h100(see):
    seen = see()

    assert seen.gpus.devices[0] == H100
    assert seen.gpus.devices[1].bus_id == "0000:43:00.0"
    assert seen.gpus.pairs == (Pair(one=0, other=1, p2p="ok", path="NVLink"),)
    assert (seen.gpus.driver, seen.gpus.cuda) == (DRIVER, (13, 0))
    assert (seen.gpus.sources, seen.gpus.remarks) == (("nvml",), ())
    assert not seen.gpus.devices[0].unread


def test_library_is_told_by_its_file(see, libnvidia_ml):
    found = see().get(Nvml)

    file = f"{libnvidia_ml}/libnvidia-ml.so.{DRIVER}"
    assert found == Nvml(library=file, version=DRIVER, code=0)


def test_healthy_h100_alarms_nobody(see):
    assert see().alarms() == {}


def test_desktop_lacks_much_and_alarms_nobody(see):
    seen = see(base="geforce")
    (gpu,) = seen.gpus.devices

    assert not gpu.unread
    assert (gpu.ecc_enabled, gpu.links, gpu.fabric_state, gpu.mig_enabled) == (None,) * 4
    assert (gpu.pcie_gen, gpu.pcie_gen_max) == (1, 4)  # idle
    assert gpu.temperature_slowdown_c == 92  # 38 + 52 away from the highest, and 2 more
    assert seen.alarms(*DESKTOP) == {}


@pytest.mark.parametrize(
    ("settings", "expected", "alarms"),
    [pytest.param(*row, id=name) for name, *row in STATES],
)
def test_state_of_a_gpu(see, settings, expected, alarms):
    seen = see(*(f"gpu1.{setting}" for setting in settings.split()))
    well, ill = seen.gpus.devices

    assert {name: getattr(ill, name) for name in expected} == expected
    assert not ill.unread
    assert well == H100
    assert seen.alarms() == alarms


def test_links_are_read_one_by_one(see):
    lines = ["gpu.nvlinks=3", "gpu1.nvlink0=0", "gpu1.nvlink1_peer=0", "gpu1.nvlink2_err1=17"]

    links = see(*lines).gpus.devices[1].links

    assert links == (
        Link(number=0, active=False, peer="switch", errors=0),
        Link(number=1, active=True, peer="0000:1b:00.0", errors=0),
        Link(number=2, active=True, peer="switch", errors=17),
    )


def test_a_link_that_is_down_is_found(see):
    assert see("gpu1.nvlink3=0").alarms() == {"gpu-nvlink": FAIL}


@pytest.mark.parametrize(
    ("lines", "pair"),
    [
        pytest.param(
            ["gpu.nvlinks=0", "gpu0.topo1=20"],
            Pair(one=0, other=1, p2p="ok", path="PCIe switch"),
            id="behind one switch",
        ),
        pytest.param(
            ["gpu.nvlinks=0", "gpu0.p2p1=1"],
            Pair(one=0, other=1, p2p="chipset not supported", path="system"),
            id="two sockets",
        ),
        pytest.param(
            ["err.nvmlDeviceGetP2PStatus=3"],
            Pair(one=0, other=1, p2p="unknown", path="system"),
            id="nobody knows",
        ),
    ],
)
def test_pairs(see, lines, pair):
    assert see(*lines).gpus.pairs == (pair,)


def test_pairs_are_read_of_16_gpus_at_most(see):
    gpus = see("count=20").gpus

    assert (len(gpus.devices), len(gpus.pairs)) == (20, 16 * 15 // 2)
    assert gpus.remarks == ("pairs are read of 16 of 20 GPUs only",)


def test_processes_of_others(see):
    own = os.getpid()
    seen = see(f"gpu1.proc={own}:1073741824,{GONE}:20401094656", "gpu1.mem_used=21474836480")

    name = Path(f"/proc/{own}/comm").read_text().strip()
    assert seen.gpus.devices[1].processes == (
        GpuProcess(pid=own, memory_bytes=1 << 30, name=name),
        GpuProcess(pid=GONE, memory_bytes=19 << 30, name="", visible=False),
    )
    assert seen.alarms() == {"gpu-busy": FAIL}


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["err.nvmlDeviceGetTemperatureV=13"], id="temperature"),
        pytest.param(["err.nvmlDeviceGetCurrentClocksEventReasons=13"], id="reasons"),
        pytest.param(["err.nvmlDeviceGetComputeRunningProcesses_v3=13"], id="processes"),
        pytest.param(["gpu.fabric_version=2"], id="fabric, version 2"),
        pytest.param(["err.nvmlDeviceGetGpuFabricInfoV=13"], id="fabric, version 1"),
        pytest.param(["err.nvmlDeviceGetSramEccErrorStatus=25"], id="SRAM"),
        pytest.param(["err.nvmlDeviceGetEnforcedPowerLimit=3", "gpu.power_limit=1"], id="power"),
    ],
)
def test_older_driver_has_older_calls(see, lines):
    gpu = see(*lines).gpus.devices[0]

    lost = {"power_limit_w": gpu.power_limit_w} if "power_limit" in lines[-1] else {}
    assert gpu == msgspec.structs.replace(H100, **lost)


def test_oldest_memory_call_counts_what_the_driver_keeps(see):
    gpu = see("err.nvmlDeviceGetMemoryInfo_v2=13").gpus.devices[0]

    assert gpu.memory_used_bytes == 4194304 + 641728512


def test_one_failing_call_costs_one_field(see):
    lines = ["gpu1.err.nvmlDeviceGetName=4", "gpu1.err.nvmlDeviceGetRemappedRows=999"]

    seen = see(*lines)
    well, ill = seen.gpus.devices

    rows = ("rows_remapped", "remap_pending", "remap_failed")
    unknown = dict.fromkeys(rows, "NVML_ERROR_UNKNOWN")
    assert ill.unread == {"name": "NVML_ERROR_NO_PERMISSION", **unknown}
    assert (ill.name, ill.rows_remapped, ill.temperature_c) == ("", None, 34)
    assert well == H100
    assert seen.alarms() == {"gpu-remap": ERROR}


@pytest.mark.parametrize(
    ("lines", "lost", "alarms"),
    [
        pytest.param(["gpu1.err.*=15"], "NVML_ERROR_GPU_IS_LOST", LOST, id="before"),
        pytest.param(
            ["gpu1.err.nvmlDeviceGetPowerUsage=15"],
            "NVML_ERROR_GPU_IS_LOST",
            LOST,
            id="on the way",
        ),
        pytest.param(
            ["gpu1.err.nvmlDeviceGetHandleByIndex_v2=16"],
            "NVML_ERROR_RESET_REQUIRED",
            LOST,
            id="waits for a reset",
        ),
        pytest.param(
            ["gpu1.err.nvmlDeviceGetHandleByIndex_v2=8"],
            "NVML_ERROR_INSUFFICIENT_POWER",
            LOST,
            id="without its power cable",
        ),
    ],
)
def test_lost_gpu_leaves_the_others(see, lines, lost, alarms):
    seen = see(*lines)

    assert seen.gpus.devices[0] == H100
    assert (seen.gpus.devices[1].index, seen.gpus.devices[1].lost) == (1, lost)
    assert seen.gpus.pairs == ()
    assert seen.alarms() == alarms


def test_gpus_of_others_are_not_ours(see):
    gpus = see("gpu1.err.nvmlDeviceGetHandleByIndex_v2=4").gpus

    assert gpus.devices == (H100,)
    assert gpus.remarks == ("1 of 2 GPUs are closed to us: NVML_ERROR_NO_PERMISSION",)


def test_no_gpu_is_ours(see):
    found = see("err.nvmlDeviceGetHandleByIndex_v2=4").get(Gpus)

    assert found == Absent("none of 2 GPUs may be read: NVML_ERROR_NO_PERMISSION")


def test_a_call_that_hangs_costs_only_itself(see):
    seen = see("gpu1.hang.nvmlDeviceGetEccMode=600")
    well, ill = seen.gpus.devices

    assert well == H100
    assert ill.unread == dict.fromkeys(("ecc_enabled", "ecc_pending"), "no answer in 4 s")
    assert (ill.lost, ill.ecc_uncorrected, ill.links) == ("", 0, H100.links)
    assert seen.alarms() == {"gpu-ecc": ERROR, "gpu-recovery": ERROR}


def test_a_gpu_that_hangs_again_is_asked_no_more(see):
    lines = [f"gpu1.hang.nvmlDeviceGet{call}=600" for call in ("ClockInfo", "ComputeMode")]

    ill = see(*lines).gpus.devices[1]

    assert ill.unread["compute_mode"] == ill.unread["clock_mhz"] == "no answer in 4 s"
    assert ill.unread["links"] == "not asked, as others had no answer"
    assert ill.persistence is True


def test_a_gpu_that_never_answers_leaves_the_others(see):
    seen = see("gpu1.hang.nvmlDeviceGetHandleByIndex_v2=600")

    lost = Gpu(vendor="nvidia", index=1, lost="no answer in 4 s")
    assert seen.gpus.devices == (H100, lost)
    assert seen.alarms()["gpu-count"] is FAIL


def test_pairs_that_hang_cost_only_themselves(see):
    gpus = see("gpu0.hang.nvmlDeviceGetP2PStatus=600").gpus

    assert gpus.devices[0] == H100
    assert (gpus.pairs, gpus.remarks) == ((), ("pairs of GPUs: no answer in 2 s",))


def test_library_that_hangs(see):
    seen = see("hang.nvmlInit=600", options=("--deadline=2",))

    for kind in (Gpus, Nvml):
        found = seen.get(kind)
        assert found.broken
        assert found.absent.startswith("no answer in")
    assert isinstance(seen.get(Container), Container)
    assert seen.alarms()["gpu-ecc"] is ERROR


def test_library_that_crashes(see):
    seen = see("gpu1.crash.nvmlDeviceGetName=1")

    assert seen.get(Gpus) == Absent("looking crashed: SIGABRT", broken=True)
    assert seen.get(Nvml).code == 0
    assert seen.alarms()["gpu-ecc"] is ERROR


@pytest.mark.parametrize(
    ("code", "error", "around", "alarm"),
    [
        pytest.param(
            18,
            "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
            (KernelDriver(nvidia="575.57.08", nvidia_uvm=True), NO_DEVICE),
            "gpu-driver",
            id="mismatch",
        ),
        pytest.param(
            9,
            "NVML_ERROR_DRIVER_NOT_LOADED",
            (KernelDriver(), DeviceNodes(), NO_DEVICE),
            "gpu-visible",
            id="driver not loaded",
        ),
        pytest.param(
            4, "NVML_ERROR_NO_PERMISSION", (NO_DEVICE,), "gpu-visible", id="no permission"
        ),
        pytest.param(999, "NVML_ERROR_UNKNOWN", (NO_DEVICE,), "gpu-visible", id="unknown"),
        pytest.param(77, "NVML error 77", (NO_DEVICE,), "gpu-visible", id="a code of the future"),
    ],
)
def test_library_that_does_not_start(see, code, error, around, alarm):
    seen = see(f"err.nvmlInit={code}")

    assert (seen.get(Nvml).code, seen.get(Nvml).error) == (code, error)
    assert seen.get(Nvml).version == DRIVER
    assert seen.get(Gpus) == Absent(f"NVML does not start: {error}")
    assert seen.alarms(*around)[alarm] is FAIL


def test_library_that_is_empty(gpudoctor, tmp_path):
    # As one finds it where a container runtime has mounted a file that was not there.
    (tmp_path / "libnvidia-ml.so.1").touch()
    command = [gpudoctor, "check", "gpu", "-f", "json"]
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, env=env, timeout=60)
    found = load(ended.stdout)[0].get(Nvml)

    assert isinstance(found, Nvml)
    assert (found.library, found.code) == ("", 12)
    assert "libnvidia-ml.so.1: file too short" in found.error
