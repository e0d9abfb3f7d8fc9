"""checks/gpu/bus.py: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import Gpu, Gpus, Status
from gpudoctor.registry import get
from tests.gpu_machines import (
    DESKTOP,
    HEALTHY,
    HGX,
    INSTINCT,
    NONE,
    NOTEBOOK,
    RTX_4090,
    SLICED,
    VGPU,
    WSL2,
    bus,
    but,
    machine,
)

L40S = Gpu(vendor="nvidia", index=0, name="NVIDIA L40S", arch="sm_89")
UNKNOWN = Gpu(vendor="nvidia", index=0, name="NVIDIA Z9000")


@pytest.mark.parametrize("check", ["gpu-pcie-width", "gpu-pcie-replay", "gpu-numa"])
@pytest.mark.parametrize("found", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(check, found):
    assert get(check)(found, bus(found)).status in (Status.PASS, Status.SKIP)


@pytest.mark.parametrize("check", ["gpu-pcie-width", "gpu-pcie-replay", "gpu-numa"])
def test_without_gpus_there_is_nothing_to_say(check):
    finding = get(check)(NONE, bus(NONE))

    assert finding.status is Status.SKIP
    assert "gpu-visible" in finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "x16 on 8 GPUs", id="whole"),
        pytest.param(NOTEBOOK, Status.PASS, "x8 on 1 GPU", id="x8 is all that is wired"),
        pytest.param(
            but(HGX, pcie_gen=1, throttle=("idle",)), Status.PASS, "x16", id="gen1 when idle"
        ),
        pytest.param(but(HGX, 1, pcie_width=8), Status.WARN, "GPU 1: PCIe x8 of x16", id="half"),
        pytest.param(but(HGX, 1, pcie_width=4), Status.FAIL, "GPU 1: PCIe x4 of x16", id="x4"),
        pytest.param(but(NOTEBOOK, pcie_width=1), Status.FAIL, "x1 of x8", id="x1 of x8"),
        pytest.param(but(INSTINCT, 7, pcie_width=8), Status.WARN, "GPU 7", id="AMD"),
        pytest.param(
            but(HGX, pcie_gen=3, busy_percent=90), Status.WARN, "gen3 of gen5", id="slow when busy"
        ),
        pytest.param(
            but(HGX, pcie_gen=3, busy_percent=None), Status.PASS, "x16", id="busy is not known"
        ),
        pytest.param(
            but(HGX, pcie_width=None, unread={"pcie_width": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "pcie_width",
            id="unread",
        ),
    ],
)
def test_pcie_width(found, status, says):
    finding = get("gpu-pcie-width")(found, None)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("width", "status"),
    [(16, Status.PASS), (8, Status.WARN), (4, Status.FAIL), (None, Status.SKIP)],
)
def test_pcie_width_is_read_off_the_bus_where_the_driver_is_silent(width, status):
    assert get("gpu-pcie-width")(WSL2, bus(WSL2, link_width=width, link_width_max=16)).status is (
        status
    )


def test_pcie_width_skips_where_nothing_is_seen():
    assert "virtual machine" in get("gpu-pcie-width")(VGPU, None).reason


@pytest.mark.parametrize(
    ("found", "on_bus", "status", "says"),
    [
        pytest.param(HGX, {"aer_fatal": 0, "aer_nonfatal": 0}, Status.PASS, "no error", id="none"),
        pytest.param(DESKTOP, {}, Status.PASS, "3 replays", id="a few replays"),
        pytest.param(HGX, {"aer_fatal": 1}, Status.FAIL, "1 fatal PCIe error", id="fatal"),
        pytest.param(
            HGX,
            {"aer_fatal": 0, "aer_nonfatal": 2},
            Status.WARN,
            "2 uncorrected PCIe errors",
            id="not fatal",
        ),
        pytest.param(
            but(HGX, 5, pcie_replays=250_000), {}, Status.WARN, "GPU 5: 250000", id="many replays"
        ),
        pytest.param(WSL2, {}, Status.SKIP, "neither driver", id="not counted"),
        pytest.param(
            but(HGX, unread={"pcie_replays": "NVML_ERROR_UNKNOWN"}),
            {},
            Status.ERROR,
            "pcie_replays",
            id="unread",
        ),
    ],
)
def test_pcie_replay(found, on_bus, status, says):
    finding = get("gpu-pcie-replay")(found, bus(found, **on_bus))

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "nodes", "on_bus", "status", "says"),
    [
        pytest.param(DESKTOP, 1, {}, Status.PASS, "one NUMA node", id="one node"),
        pytest.param(but(DESKTOP, numa_node=1), 2, {}, Status.PASS, "2 NUMA", id="driver knows"),
        pytest.param(HGX, 2, {"numa_node": 0}, Status.PASS, "each GPU's", id="bus knows"),
        pytest.param(HGX, 2, {}, Status.WARN, "unknown for 8 GPUs", id="nobody knows"),
        pytest.param(but(DESKTOP, integrated=True), 2, {}, Status.PASS, "", id="integrated"),
        pytest.param(
            but(HGX, numa_node=0), 2, {}, Status.WARN, "unknown for 7 GPUs", id="one is known"
        ),
    ],
)
def test_numa(found, nodes, on_bus, status, says):
    finding = get("gpu-numa")(found, bus(found, nodes, **on_bus))

    assert finding.status is status
    assert says in finding.summary


def p2p(model: Gpu, word: str) -> Gpus:
    return machine(model, 2, p2p=word)


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "28 pairs", id="all to all"),
        pytest.param(INSTINCT, Status.PASS, "28 pairs", id="AMD"),
        pytest.param(DESKTOP, Status.SKIP, "two GPUs", id="one GPU"),
        pytest.param(NONE, Status.SKIP, "gpu-visible", id="no GPU"),
        pytest.param(SLICED, Status.SKIP, "two GPUs", id="MIG, one card"),
        pytest.param(
            machine(replace(HGX.devices[0], mig_enabled=True), 2, p2p="not supported"),
            Status.SKIP,
            "by design",
            id="MIG",
        ),
        pytest.param(machine(L40S, 2), Status.SKIP, "says nothing", id="not told"),
        pytest.param(p2p(L40S, "unknown"), Status.SKIP, "says nothing", id="told as unknown"),
        pytest.param(
            machine(HGX.devices[0], 2, p2p="chipset not supported"),
            Status.WARN,
            "1 of 1 pair without: chipset",
            id="SXM without",
        ),
        pytest.param(
            p2p(RTX_4090, "chipset not supported"), Status.PASS, "normal for", id="GeForce"
        ),
        pytest.param(
            p2p(L40S, "not supported"), Status.PASS, "some machines only", id="in a cloud's VM"
        ),
        pytest.param(
            p2p(L40S, "disabled by regkey"), Status.WARN, "disabled", id="forbidden by an option"
        ),
        pytest.param(
            p2p(UNKNOWN, "chipset not supported"), Status.SKIP, "not known", id="unknown model"
        ),
    ],
)
def test_p2p(found, status, says):
    finding = get("gpu-p2p")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_fixes_speak_to_the_vendor():
    nvidia = get("gpu-p2p")(machine(HGX.devices[0], 2, p2p="not supported"))
    amd = get("gpu-p2p")(machine(INSTINCT.devices[0], 2, p2p="not supported"))

    assert "nvidia-smi topo -p2p r" in nvidia.fix.commands
    assert "iommu=pt" in amd.fix.text
    assert not any("nvidia" in command for command in amd.fix.commands)
