"""checks/gpu/links.py: tables of facts -> status."""

import pytest
from msgspec.structs import replace

from gpudoctor import CudaInit, Gpu, Gpus, Link, Status
from gpudoctor.registry import get
from tests.gpu_machines import (
    DESKTOP,
    H100,
    HEALTHY,
    HGX,
    INSTINCT,
    MI300X,
    NONE,
    SLICED,
    but,
    machine,
)

STARTS = CudaInit(code=0, devices=1)
NOT_READY = CudaInit(code=802, name="CUDA_ERROR_SYSTEM_NOT_READY")


def links(active: int, count: int, errors: int = 0) -> tuple[Link, ...]:
    return tuple(Link(number=n, active=n < active, errors=errors) for n in range(count))


def named(name: str, active: int, count: int, gpus: int = 2) -> Gpus:
    model = Gpu(vendor="nvidia", index=0, name=name, links=links(active, count))
    return machine(model, gpus)


@pytest.mark.parametrize("found", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(found):
    healthy = (Status.PASS, Status.SKIP)

    assert get("gpu-nvlink")(found).status in healthy
    assert get("gpu-xgmi")(found).status in healthy
    assert get("gpu-fabric")(found, None).status in healthy


def test_without_gpus_there_is_nothing_to_say():
    findings = [get("gpu-nvlink")(NONE), get("gpu-xgmi")(NONE), get("gpu-fabric")(NONE, None)]

    assert {finding.status for finding in findings} == {Status.SKIP}
    assert all("gpu-visible" in finding.reason for finding in findings)


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "18 NVLinks up on each of 8 GPUs", id="all up"),
        pytest.param(
            but(HGX, 1, links=links(17, 18)), Status.FAIL, "GPU 1: 17 of 18", id="one down"
        ),
        pytest.param(machine(replace(H100, links=links(0, 18)), 8), Status.FAIL, "0 of 18", id="0"),
        pytest.param(named("NVIDIA A100-SXM4-80GB", 12, 12, 4), Status.PASS, "12", id="4 x A100"),
        pytest.param(named("NVIDIA A100-SXM4-80GB", 11, 12), Status.FAIL, "11 of 12", id="A100"),
        pytest.param(named("NVIDIA A100-SXM4-80GB", 10, 10), Status.FAIL, "10 of 12", id="fewer"),
        pytest.param(named("NVIDIA H800", 8, 8), Status.PASS, "8 NVLinks", id="H800 has eight"),
        pytest.param(named("NVIDIA B200", 18, 18, 8), Status.PASS, "18 NVLinks", id="B200"),
        pytest.param(
            named("NVIDIA H100 80GB HBM3", 0, 18, 1), Status.PASS, "none is up", id="guest with one"
        ),
        pytest.param(
            named("NVIDIA H100 80GB HBM3", 17, 18, 1), Status.WARN, "17 of 18", id="one of a board"
        ),
        pytest.param(
            named("NVIDIA A100 80GB PCIe", 0, 12), Status.PASS, "no bridge", id="cards, no bridge"
        ),
        pytest.param(named("NVIDIA H100 NVL", 12, 18), Status.PASS, "12 NVLinks", id="bridge"),
        pytest.param(
            named("Tesla V100-SXM2-16GB", 4, 6, 4), Status.PASS, "4 NVLinks", id="half of a mesh"
        ),
        pytest.param(named("NVIDIA Z9000", 17, 18), Status.SKIP, "not known", id="unknown model"),
        pytest.param(named("NVIDIA Z9000", 18, 18), Status.PASS, "18", id="unknown, all up"),
        pytest.param(DESKTOP, Status.SKIP, "no NVLink", id="GeForce"),
        pytest.param(INSTINCT, Status.SKIP, "gpu-xgmi", id="AMD"),
        pytest.param(SLICED, Status.SKIP, "", id="MIG"),
        pytest.param(
            but(HGX, links=links(18, 18, 100)), Status.WARN, "1800 errors", id="many errors"
        ),
        pytest.param(but(HGX, links=links(18, 18, 2)), Status.PASS, "", id="a few errors"),
        pytest.param(
            but(HGX, links=None, unread={"links": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "links could not be read",
            id="unread",
        ),
    ],
)
def test_nvlink(found, status, says):
    finding = get("gpu-nvlink")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "cuda", "status", "says"),
    [
        pytest.param(HGX, STARTS, Status.PASS, "8 GPUs registered", id="completed"),
        pytest.param(
            machine(replace(H100, fabric_state="in progress"), 8),
            NOT_READY,
            Status.FAIL,
            "in progress",
            id="no fabric manager",
        ),
        pytest.param(
            but(HGX, 2, fabric_state="not started"), None, Status.FAIL, "GPU 2", id="one is not in"
        ),
        pytest.param(
            but(HGX, 2, fabric_error="NVML_ERROR_UNKNOWN"),
            STARTS,
            Status.FAIL,
            "failed: NVML_ERROR_UNKNOWN",
            id="refused",
        ),
        pytest.param(
            but(HGX, 2, fabric_unhealthy=("degraded bandwidth",)),
            STARTS,
            Status.WARN,
            "degraded bandwidth",
            id="degraded",
        ),
        pytest.param(
            but(HGX, 2, fabric_unhealthy=("insufficient NVLinks",)),
            STARTS,
            Status.FAIL,
            "insufficient NVLinks",
            id="wrong configuration",
        ),
        pytest.param(
            machine(replace(H100, fabric_state="not started")),
            STARTS,
            Status.PASS,
            "CUDA starts",
            id="guest with one, CUDA works",
        ),
        pytest.param(
            machine(replace(H100, fabric_state="not started")),
            NOT_READY,
            Status.FAIL,
            "not started",
            id="guest with one, CUDA does not",
        ),
        pytest.param(
            machine(
                Gpu(vendor="nvidia", index=0, name="NVIDIA H100 PCIe", fabric_state="not started"),
                2,
            ),
            STARTS,
            Status.SKIP,
            "no NVSwitch",
            id="cards are on no switch",
        ),
        pytest.param(DESKTOP, STARTS, Status.SKIP, "no NVSwitch", id="GeForce"),
        pytest.param(INSTINCT, None, Status.SKIP, "no NVSwitch", id="AMD"),
        pytest.param(
            but(HGX, fabric_state=None, unread={"fabric_state": "NVML_ERROR_UNKNOWN"}),
            None,
            Status.ERROR,
            "fabric_state",
            id="unread",
        ),
    ],
)
def test_fabric(found, cuda, status, says):
    finding = get("gpu-fabric")(found, cuda)

    assert finding.status is status
    assert says in finding.summary + finding.reason


def test_fabric_names_the_service_and_the_version():
    finding = get("gpu-fabric")(but(HGX, fabric_state="in progress"), None)

    assert "sudo systemctl restart nvidia-fabricmanager" in finding.fix.commands
    assert "570.172.08" in finding.fix.text
    assert finding.fix.needs_root


def test_fabric_of_a_rack_is_not_restarted_here():
    tray = machine(Gpu(vendor="nvidia", index=0, name="NVIDIA GB200", fabric_state="in progress"))

    finding = get("gpu-fabric")(tray, None)

    assert not any("fabricmanager" in command for command in finding.fix.commands)


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(INSTINCT, Status.PASS, "7 XGMI links up on each of 8 GPUs", id="all to all"),
        pytest.param(machine(MI300X, 2), Status.PASS, "1 XGMI", id="two of a board"),
        pytest.param(machine(MI300X), Status.SKIP, "no XGMI", id="one"),
        pytest.param(
            but(INSTINCT, 3, links=(INSTINCT.devices[3].links or ())[1:]),
            Status.FAIL,
            "GPU 3: 1 of its XGMI links",
            id="one missing",
        ),
        pytest.param(but(INSTINCT, 3, links=None), Status.FAIL, "7 of its", id="all missing"),
        pytest.param(
            but(INSTINCT, links=(*(INSTINCT.devices[0].links or ()), Link(number=7, active=False))),
            Status.FAIL,
            "1 of its",
            id="one down by AMD SMI",
        ),
        pytest.param(
            machine(replace(MI300X, partition_compute="CPX"), 8), Status.SKIP, "split", id="split"
        ),
        pytest.param(
            but(INSTINCT, links=tuple(replace(k, errors=500) for k in INSTINCT.devices[0].links)),
            Status.WARN,
            "3500 errors",
            id="many errors",
        ),
        pytest.param(
            machine(Gpu(vendor="amd", index=0, name="AMD Radeon RX 7900"), 2),
            Status.SKIP,
            "no XGMI",
            id="Radeon",
        ),
        pytest.param(HGX, Status.SKIP, "gpu-nvlink", id="NVIDIA"),
        pytest.param(
            but(machine(MI300X), unread={"links": "EIO: Input/output error"}),
            Status.ERROR,
            "EIO",
            id="unread",
        ),
    ],
)
def test_xgmi(found, status, says):
    finding = get("gpu-xgmi")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason
