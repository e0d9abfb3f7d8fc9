"""What amdsmi's answers mean, and what they add to KFD and sysfs."""

import pytest

from gpudoctor import Gpu, GpuProcess, Link
from gpudoctor.probes.amd_smi import SmiGpu, parse_process, parse_violations, with_smi

SECOND = "0000:15:00.0"


@pytest.mark.parametrize(
    ("status", "throttle"),
    [
        pytest.param({"active_ppt_pwr": False, "active_hbm_thrm": False}, (), id="none"),
        pytest.param(
            {"active_ppt_pwr": True, "active_hbm_thrm": True},
            ("sw power cap", "memory thermal"),
            id="two",
        ),
        pytest.param({"active_ppt_pwr": "N/A", "active_hbm_thrm": "N/A"}, None, id="not measured"),
        pytest.param({}, None, id="nothing said"),
    ],
)
def test_violations(status, throttle):
    assert parse_violations(status) == throttle


def test_process():
    listed = {"name": "N/A", "pid": 2**31 - 1, "memory_usage": {"vram_mem": 7}}

    assert parse_process(listed) == GpuProcess(pid=2**31 - 1, memory_bytes=7, visible=False)


GPU = Gpu(
    vendor="amd", index=0, name="AMD gfx942", links=(Link(number=0, active=True, peer=SECOND),)
)


@pytest.mark.parametrize(
    ("smi", "fields"),
    [
        pytest.param(None, {"name": "AMD gfx942", "throttle": None}, id="not listed there"),
        pytest.param(SmiGpu(name="MI300X"), {"name": "MI300X", "processes": None}, id="name"),
        pytest.param(
            SmiGpu(throttle=("hw thermal",)), {"throttle": ("hw thermal",)}, id="throttle"
        ),
        pytest.param(
            SmiGpu(links_down=(4,)),
            {"links": (*(GPU.links or ()), Link(number=4, active=False))},
            id="a link is down",
        ),
        pytest.param(
            SmiGpu(xgmi_errors=2),
            {"links": (Link(number=0, active=True, peer=SECOND, errors=2),)},
            id="XGMI errors",
        ),
        pytest.param(SmiGpu(unread={"name": "x"}), {"unread": {"name": "x"}}, id="unread"),
        pytest.param(
            SmiGpu(processes=(GpuProcess(pid=9, name="python"),)),
            {"processes": (GpuProcess(pid=9, name="python"),)},
            id="processes, where KFD lists none",
        ),
    ],
)
def test_what_the_library_adds(smi, fields):
    added = with_smi(GPU, smi)

    assert {name: getattr(added, name) for name in fields} == fields


def test_kfd_knows_processes_better_than_the_library():
    """In another pid namespace the library looks for names of the host's pids among ours."""
    gpu = Gpu(vendor="amd", index=0, processes=(GpuProcess(pid=1, memory_bytes=5, visible=False),))
    smi = SmiGpu(processes=(GpuProcess(pid=1, memory_bytes=4, name="sh"),))

    assert with_smi(gpu, smi).processes == gpu.processes
