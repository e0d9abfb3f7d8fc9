"""checks/gpu/log.py: lines as drivers really wrote them -> status."""

import pytest

from gpudoctor import KernelLog, Status
from gpudoctor.registry import get
from tests.gpu_machines import DESKTOP, HGX, INSTINCT, NONE, WSL2

# The fourth GPU of HGX and INSTINCT is 0000:33:00.0, the first 0000:1b:00.0.
FELL_OFF = (
    "[ 5012.1] NVRM: Xid (PCI:0000:33:00): 79, pid='<unknown>', name=<unknown>,"
    " GPU has fallen off the bus.",
    "[ 5012.1] NVRM: GPU 0000:33:00.0: GPU has fallen off the bus.",
    "[ 5012.2] NVRM: Xid (PCI:0000:33:00): 154, GPU recovery action changed from 0x0 (None)"
    " to 0x2 (Node Reboot Required)",
)
PAGE_FAULT = (
    "[  901.4] NVRM: Xid (PCI:0000:1b:00): 31, pid=4242, name=python3, Ch 00000008, intr 00000000."
    " MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f40_12000000."
    " Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ"
)
GSP = (
    "NVRM: Xid (PCI:0000:1b:00): 119, pid=1234, name=python, Timeout after 6s of waiting for RPC"
    " response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL)."
)
NVLINK5 = (
    "NVRM: Xid (PCI:0000:1b:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x00000001 0x00000000)"
)
RESET_ASKED = (
    "NVRM: Xid (PCI:0000:1b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset"
    " Required)"
)
RESET_DONE = (
    "NVRM: Xid (PCI:0000:1b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required)"
    " to 0x0 (None)"
)
SXID_FATAL = "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
SXID_HARMLESS = (
    "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV"
    " error (First)"
)
RING = (
    "[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring sdma0 timeout, signaled seq=5, emitted seq=6"
)
RECOVERED = "[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring gfx_0.0.0 timeout, but soft recovered"
RAS = (
    "amdgpu 0000:33:00.0: amdgpu: socket: 0, die: 1 2 uncorrectable hardware errors detected in"
    " total in umc block"
)
RAS_CLEAR = "amdgpu 0000:33:00.0: amdgpu: no uncorrectable hardware errors detected in umc block"
RAS_ZERO = "amdgpu 0000:33:00.0: amdgpu: 0 uncorrectable hardware errors detected in umc block"
ATOMICS = "kfd kfd: amdgpu: skipped device 1002:7341, PCI rejects atomics 123<145"
AER = "pcieport 0000:32:01.0: AER: Uncorrected (Fatal) error received: 0000:33:00.0"
AER_CORRECTED = "pcieport 0000:32:01.0: AER: Corrected error received: 0000:33:00.0"


@pytest.mark.parametrize(
    ("lines", "found", "status", "says"),
    [
        pytest.param((), HGX, Status.PASS, "no fault in /dev/kmsg", id="nothing"),
        pytest.param((PAGE_FAULT,), HGX, Status.PASS, "1 harmless line", id="Xid 31"),
        pytest.param(FELL_OFF, HGX, Status.FAIL, "GPU 3: Xid 79; and 1 more", id="Xid 79"),
        pytest.param(FELL_OFF[1:2], HGX, Status.FAIL, "GPU 3: Xid 79", id="without its number"),
        pytest.param(FELL_OFF, NONE, Status.FAIL, "GPU 0000:33:00: Xid 79", id="none is left"),
        pytest.param(FELL_OFF, None, Status.FAIL, "GPU 0000:33:00: Xid 79", id="driver hangs"),
        pytest.param(FELL_OFF, DESKTOP, Status.FAIL, "0000:33:00", id="no longer listed"),
        pytest.param((GSP,), HGX, Status.FAIL, "GPU 0: Xid 119", id="GSP"),
        pytest.param((GSP, GSP, GSP), HGX, Status.FAIL, "Xid 119, 3 times", id="again and again"),
        pytest.param((PAGE_FAULT, GSP), HGX, Status.FAIL, "Xid 119", id="worst first"),
        pytest.param((NVLINK5,), HGX, Status.FAIL, "GPU 0: Xid 149", id="NVLink 5"),
        pytest.param(
            (NVLINK5.replace("Fatal", "Nonfatal"),),
            HGX,
            Status.WARN,
            "GPU 0: Xid 149",
            id="NVLink 5, not fatal",
        ),
        pytest.param((RESET_ASKED,), HGX, Status.FAIL, "Xid 154", id="reset asked for"),
        pytest.param(
            (GSP, RESET_ASKED, RESET_DONE), HGX, Status.PASS, "no fault", id="reset since"
        ),
        pytest.param((GSP, RESET_DONE, GSP), HGX, Status.FAIL, "Xid 119", id="reset, and again"),
        pytest.param(
            (GSP.replace("1b:00", "c3:00"),), HGX, Status.WARN, "0000:c3:00", id="not our GPU"
        ),
        pytest.param(
            ("NVRM: Xid (PCI:0000:1b:00): 777, new",), HGX, Status.PASS, "harmless", id="unknown"
        ),
        pytest.param(
            ("NVRM: Xid (0000:1b:00): 48, DBE (double bit error) occurred",),
            HGX,
            Status.FAIL,
            "Xid 48",
            id="as old drivers write it",
        ),
        pytest.param(
            ("NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05",),
            HGX,
            Status.PASS,
            "no fault",
            id="start of the driver",
        ),
        pytest.param(
            ("NVRM: GPU 0000:1b:00.0: RmInitAdapter failed! (0x24:0x65:1423)",),
            HGX,
            Status.WARN,
            "could not start",
            id="adapter",
        ),
        pytest.param((SXID_FATAL,), HGX, Status.FAIL, "NVSwitch 0000:05:00: SXid 20034", id="SXid"),
        pytest.param((SXID_HARMLESS,), HGX, Status.PASS, "harmless", id="SXid, not fatal"),
        pytest.param((RING,), INSTINCT, Status.WARN, "a GPU: a queue hung", id="AMD ring"),
        pytest.param((RECOVERED,), INSTINCT, Status.PASS, "", id="AMD ring, recovered"),
        pytest.param((RAS,), INSTINCT, Status.FAIL, "GPU 3: uncorrected errors", id="AMD RAS"),
        pytest.param((RAS_CLEAR, RAS_ZERO), INSTINCT, Status.PASS, "", id="AMD RAS, all clear"),
        pytest.param(
            ("amdgpu 0000:33:00.0: amdgpu: GPU reset begin!",),
            INSTINCT,
            Status.WARN,
            "GPU 3: the driver reset",
            id="AMD reset",
        ),
        pytest.param(
            ("amdgpu 0000:33:00.0: amdgpu: GPU reset end with ret = -62",),
            INSTINCT,
            Status.FAIL,
            "reset failed",
            id="AMD reset failed",
        ),
        pytest.param((ATOMICS,), INSTINCT, Status.WARN, "left a GPU out", id="AMD atomics"),
        pytest.param((AER,), HGX, Status.FAIL, "GPU 3: fatal PCIe error", id="AER"),
        pytest.param((AER_CORRECTED,), HGX, Status.PASS, "", id="AER, corrected"),
        pytest.param((), NONE, Status.SKIP, "gpu-visible", id="no GPU"),
        pytest.param((), None, Status.SKIP, "gpu-visible", id="GPUs are not known"),
        pytest.param((), WSL2, Status.PASS, "", id="WSL2"),
    ],
)
def test_kernel_log(lines, found, status, says):
    finding = get("gpu-kernel-log")(KernelLog(source="/dev/kmsg", lines=lines), found)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        pytest.param(FELL_OFF, "sudo reboot", id="off the bus"),
        pytest.param((GSP,), "sudo nvidia-smi --gpu-reset -i 0000:1b:00.0", id="reset helps"),
    ],
)
def test_fix_follows_the_xid(lines, command):
    finding = get("gpu-kernel-log")(KernelLog(source="/dev/kmsg", lines=lines), HGX)

    assert command in finding.fix.commands
    assert finding.fix.needs_root
    assert finding.fix.text
    assert "INDEX" not in finding.fix.text


def test_evidence_tells_what_a_number_means():
    lines = (PAGE_FAULT, *FELL_OFF)

    finding = get("gpu-kernel-log")(KernelLog(source="/dev/kmsg", lines=lines), HGX)

    assert finding.evidence[0].startswith("GPU 3 (0000:33:00): Xid 79, the GPU has fallen off")
    assert finding.evidence[1].endswith("the driver asks for: Node Reboot Required")
    assert finding.evidence[-1].startswith("GPU 0 (0000:1b:00): Xid 31")
