"""checks/gpu/health.py: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import Gpu, Status
from gpudoctor.registry import get
from tests.gpu_machines import DESKTOP, HEALTHY, HGX, INSTINCT, NONE, NOTEBOOK, WSL2, but, machine

L40S = Gpu(vendor="nvidia", index=0, name="NVIDIA L40S", arch="sm_89")
T4 = Gpu(vendor="nvidia", index=0, name="Tesla T4", pages_retired=3, pages_pending=False)


@pytest.mark.parametrize("check", ["gpu-ecc", "gpu-remap", "gpu-recovery"])
@pytest.mark.parametrize("found", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(check, found):
    assert get(check)(found).status in (Status.PASS, Status.SKIP)


@pytest.mark.parametrize("check", ["gpu-ecc", "gpu-remap", "gpu-recovery"])
def test_without_gpus_there_is_nothing_to_say(check):
    finding = get(check)(NONE)

    assert finding.status is Status.SKIP
    assert "gpu-visible" in finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "on 8 GPUs", id="clean"),
        pytest.param(INSTINCT, Status.PASS, "on 8 GPUs", id="clean, AMD"),
        pytest.param(DESKTOP, Status.SKIP, "no ECC", id="GeForce"),
        pytest.param(
            but(HGX, 3, ecc_uncorrected=1),
            Status.FAIL,
            "GPU 3: 1 uncorrected memory error since",
            id="uncorrected",
        ),
        pytest.param(
            but(INSTINCT, 1, ecc_uncorrected=3), Status.FAIL, "GPU 1: 3 uncorr", id="umc ue"
        ),
        pytest.param(but(HGX, ecc_uncorrected_total=9), Status.PASS, "", id="long ago, mended"),
        pytest.param(but(HGX, ecc_sram_uncorrected_total=4), Status.PASS, "", id="SRAM, four"),
        pytest.param(but(HGX, ecc_sram_uncorrected_total=5), Status.FAIL, "5 unc", id="SRAM, five"),
        pytest.param(but(HGX, ecc_corrected_total=9_000_000), Status.PASS, "", id="corrected ones"),
        pytest.param(
            but(machine(L40S), ecc_enabled=False, ecc_pending=False),
            Status.WARN,
            "ECC is off",
            id="off on a server part",
        ),
        pytest.param(
            but(DESKTOP, ecc_enabled=False, ecc_pending=False), Status.SKIP, "off", id="off on 4090"
        ),
        pytest.param(
            but(HGX, ecc_pending=False), Status.WARN, "will be off after", id="off after reset"
        ),
        pytest.param(
            but(machine(L40S), ecc_enabled=False, ecc_pending=True),
            Status.WARN,
            "will be on after",
            id="on after reset",
        ),
        pytest.param(
            but(HGX, ecc_uncorrected=None, unread={"ecc_uncorrected": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "GPU 0 (0000:1b:00.0): ecc_uncorrected could not be read",
            id="unread",
        ),
        pytest.param(
            but(HGX, ecc_uncorrected=None, unread={"ecc_uncorrected": "NVML_ERROR_NO_PERMISSION"}),
            Status.SKIP,
            "root may read it",
            id="not for this user",
        ),
        pytest.param(
            but(but(HGX, 2, ecc_uncorrected=2), 1, unread={"ecc_enabled": "NVML_ERROR_UNKNOWN"}),
            Status.FAIL,
            "GPU 2",
            id="unread does not hide a fault",
        ),
    ],
)
def test_ecc(found, status, says):
    finding = get("gpu-ecc")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "nothing pending; 0 rows", id="clean"),
        pytest.param(but(HGX, rows_remapped=2), Status.PASS, "2 rows", id="remapped long ago"),
        pytest.param(INSTINCT, Status.PASS, "nothing pending", id="AMD, no bad page"),
        pytest.param(machine(T4), Status.PASS, "3 rows or pages", id="Turing, retired pages"),
        pytest.param(DESKTOP, Status.SKIP, "do not tell", id="GeForce"),
        pytest.param(but(HGX, 5, remap_pending=True), Status.WARN, "GPU 5: a bad", id="pending"),
        pytest.param(but(HGX, remap_failed=True), Status.FAIL, "row failed", id="failed"),
        pytest.param(but(HGX, banks_exhausted=2), Status.FAIL, "2 memory banks", id="no spares"),
        pytest.param(but(machine(T4), pages_pending=True), Status.WARN, "page waits", id="page"),
        pytest.param(
            but(HGX, remap_pending=None, unread={"remap_pending": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "remap_pending",
            id="unread",
        ),
    ],
)
def test_remap(found, status, says):
    finding = get("gpu-remap")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "no action", id="none"),
        pytest.param(DESKTOP, Status.SKIP, "R570", id="GeForce, older driver"),
        pytest.param(INSTINCT, Status.SKIP, "no recovery action", id="AMD"),
        pytest.param(but(HGX, 6, recovery_action="reset"), Status.FAIL, "GPU 6", id="reset"),
        pytest.param(but(HGX, recovery_action="reboot"), Status.FAIL, "reboot", id="reboot"),
        pytest.param(
            but(HGX, recovery_action="drain and reset"), Status.FAIL, "drain", id="drain and reset"
        ),
        pytest.param(but(HGX, recovery_action="drain p2p"), Status.WARN, "drain", id="drain p2p"),
        pytest.param(
            but(HGX, 1, lost="NVML_ERROR_GPU_IS_LOST"), Status.FAIL, "GPU 1: does not", id="lost"
        ),
        pytest.param(
            but(DESKTOP, lost="NVML_ERROR_GPU_IS_LOST"), Status.FAIL, "GPU 0", id="the only one"
        ),
        pytest.param(
            but(INSTINCT, lost="fell off the PCI bus: its registers read as all ones"),
            Status.FAIL,
            "fell off",
            id="AMD, off the bus",
        ),
        pytest.param(
            but(INSTINCT, lost="not in KFD's topology: ROCm cannot use it"),
            Status.SKIP,
            "",
            id="AMD, only for display",
        ),
        pytest.param(
            but(HGX, 2, lost="NVML_ERROR_IRQ_ISSUE"), Status.FAIL, "IRQ_ISSUE", id="interrupts"
        ),
        pytest.param(
            but(HGX, 2, lost="NVML_ERROR_INSUFFICIENT_POWER"),
            Status.FAIL,
            "INSUFFICIENT_POWER",
            id="power cable",
        ),
        pytest.param(
            but(HGX, 2, lost="NVML_ERROR_OPERATING_SYSTEM"), Status.PASS, "", id="closed to us"
        ),
        pytest.param(but(HGX, lost="no answer in 5 s"), Status.ERROR, "no answer", id="hangs"),
        pytest.param(
            but(HGX, 4, unread={"links": "no answer in 4 s"}),
            Status.ERROR,
            "GPU 4 (0000:3b:00.0): no answer in 4 s: links",
            id="a question of others hangs",
        ),
        pytest.param(
            but(DESKTOP, unread={"numa_node": "no answer in 4 s"}),
            Status.ERROR,
            "numa_node",
            id="hangs, and tells no action",
        ),
        pytest.param(but(HGX, inforom_corrupt=True), Status.WARN, "infoROM", id="infoROM"),
        pytest.param(
            but(HGX, recovery_action=None, unread={"recovery_action": "NVML_ERROR_TIMEOUT"}),
            Status.ERROR,
            "TIMEOUT",
            id="unread",
        ),
    ],
)
def test_recovery(found, status, says):
    finding = get("gpu-recovery")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("check", "found", "command"),
    [
        pytest.param(
            "gpu-ecc",
            but(HGX, 1, ecc_uncorrected=1),
            "sudo nvidia-smi --gpu-reset -i 0000:23:00.0",
            id="NVIDIA",
        ),
        pytest.param(
            "gpu-ecc",
            but(INSTINCT, 1, ecc_uncorrected=1),
            "sudo amd-smi reset --gpureset --gpu 0000:23:00.0",
            id="AMD",
        ),
        pytest.param(
            "gpu-ecc",
            but(machine(L40S), ecc_enabled=False),
            "sudo nvidia-smi -i 0000:1b:00.0 -e 1",
            id="ECC off",
        ),
        pytest.param("gpu-recovery", but(HGX, lost="GPU is lost"), "sudo reboot", id="lost"),
    ],
)
def test_fix_is_a_command_for_root(check, found, command):
    finding = get(check)(found)

    assert command in finding.fix.commands
    assert finding.fix.needs_root


def test_the_worst_comes_first_and_all_are_evidence():
    found = but(but(but(HGX, 1, remap_pending=True), 4, remap_failed=True), 6, remap_pending=True)

    finding = get("gpu-remap")(found)

    assert finding.status is Status.FAIL
    assert (
        finding.summary == "GPU 4: replacing a bad memory row failed; trouble on 2 other GPUs too"
    )
    assert [line.split()[1] for line in finding.evidence] == ["4", "1", "6"]
    assert len(finding.summary) < 80


def test_the_same_on_all_is_said_once():
    finding = get("gpu-ecc")(machine(replace(L40S, ecc_enabled=False), 8))

    assert finding.summary.startswith("GPUs 0, 1, 2, 3, 4, 5, 6, 7: ECC is off")
    assert len(finding.summary) < 80


def test_unknown_models_are_not_judged_by_their_model():
    unknown = Gpu(vendor="nvidia", index=0, name="NVIDIA Z9000", ecc_enabled=False)

    assert get("gpu-ecc")(machine(unknown)).status is Status.SKIP
    assert get("gpu-ecc")(WSL2).status is Status.SKIP
    assert get("gpu-ecc")(NOTEBOOK).status is Status.SKIP
