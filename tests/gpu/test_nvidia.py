"""NVIDIA's GPUs: nvidia-smi and we must agree."""

import re

import pytest

from gpudoctor import Status

FIELDS = {
    "index": lambda gpu: str(gpu.index),
    "uuid": lambda gpu: gpu.uuid,
    "name": lambda gpu: gpu.name,
    "pci.bus_id": lambda gpu: gpu.bus_id,
    "memory.total": lambda gpu: str(gpu.memory_bytes >> 20),
    "compute_cap": lambda gpu: gpu.arch,
    "ecc.mode.current": lambda gpu: {True: "Enabled", False: "Disabled"}.get(gpu.ecc_enabled),
    "persistence_mode": lambda gpu: {True: "Enabled", False: "Disabled"}.get(gpu.persistence),
    "mig.mode.current": lambda gpu: {True: "Enabled", False: "Disabled"}.get(gpu.mig_enabled),
    "pcie.link.gen.max": lambda gpu: str(gpu.pcie_gen_max),
    "pcie.link.width.current": lambda gpu: str(gpu.pcie_width),
    "pcie.link.width.max": lambda gpu: str(gpu.pcie_width_max),
    "power.default_limit": lambda gpu: gpu.power_default_w and f"{gpu.power_default_w:.2f}",
}


@pytest.fixture(scope="module")
def said(ask) -> list[dict[str, str | None]]:
    """What nvidia-smi says of each GPU, in our words."""
    ask("nvidia-smi", "-L")
    text = ask("nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    rows = [line.split(", ") for line in text.splitlines()]
    return [dict(zip(FIELDS, map(ours, FIELDS, row), strict=True)) for row in rows]


def ours(field: str, value: str) -> str | None:
    if re.fullmatch(r"\[.*\]", value):
        return None
    if field == "pci.bus_id":  # 00000000:1B:00.0
        return value.lower().removeprefix("0000")
    return "sm_" + value.replace(".", "") if field == "compute_cap" else value


@pytest.mark.parametrize("field", FIELDS)
def test_field(field, said, seen):
    devices = [gpu for gpu in seen.gpus.devices if gpu.vendor == "nvidia"]
    found = [None if (value := FIELDS[field](gpu)) == "None" else value for gpu in devices]

    assert found == [gpu[field] for gpu in said]


def test_driver(said, ask, seen):
    version = ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")

    assert seen.gpus.driver == version.splitlines()[0]
    assert seen.result("gpu-driver").status in (Status.PASS, Status.SKIP)  # WSL shows no module


def test_nothing_was_missed(said, seen):
    assert seen.gpus.sources[0] == "nvml"
    assert [gpu.unread for gpu in seen.gpus.devices] == [{}] * len(seen.gpus.devices)
    assert not [gpu for gpu in seen.gpus.devices if gpu.lost]


def test_they_can_be_used(said, seen):
    assert seen.result("gpu-visible").status is Status.PASS
    assert seen.result("gpu-init").status is Status.PASS
    assert seen.facts["cuda_init"]["devices"] == len(said)


def test_no_check_is_at_a_loss(said, seen):
    assert {r.id: r.reason for r in seen.report.results if r.status is Status.ERROR} == {}
