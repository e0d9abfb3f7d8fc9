"""checks/gpu/speed.py and the table behind it: tables of facts -> status."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from gpudoctor import (
    Absent,
    Gpu,
    GpuProcess,
    GpuRates,
    Gpus,
    GpuSpeed,
    Rate,
    Snapshot,
    Status,
    data,
)
from gpudoctor.judge import judge_one
from gpudoctor.registry import get
from gpudoctor.rules.gpu_speeds import expected, expected_copy
from tests.gpu_machines import DESKTOP, HEALTHY, HGX, INSTINCT, NONE, but, machine

CHECKS = ["gpu-copy", "gpu-memory-speed", "gpu-matmul"]
H100 = {"h2d_gbs": 55.0, "d2h_gbs": 53.0, "memory_gbs": 2550.0, "matmul_tflops": 690.0}
RTX_4090 = {"h2d_gbs": 26.3, "d2h_gbs": 27.1, "memory_gbs": 921.0, "matmul_tflops": 158.0}
MI300X = {"h2d_gbs": 54.0, "d2h_gbs": 55.0, "memory_gbs": 4200.0, "matmul_tflops": 610.0}


def rate(best: float) -> Rate:
    return Rate(best=best, worst=best * 0.97, rounds=5)


def measured(found: Gpus, figures: dict[str, float]) -> GpuSpeed:
    """All GPUs of a machine, all alike."""
    rates: dict[str, Any] = {name: rate(value) for name, value in figures.items()}
    devices = [
        GpuRates(
            index=gpu.index,
            bus_id=gpu.bus_id,
            name=gpu.name,
            matmul_type="bfloat16",
            **rates,
        )
        for gpu in found.devices
    ]
    return GpuSpeed(devices=tuple(devices), load_average=0.4, cpus=64)


def one(speed: GpuSpeed, index: int, **fields: object) -> GpuSpeed:
    """The same with one GPU changed; numbers are rates."""
    changed = {n: rate(v) if isinstance(v, float) else v for n, v in fields.items()}
    devices = list(speed.devices)
    devices[index] = replace(devices[index], **changed)
    return replace(speed, devices=tuple(devices))


FAST = measured(HGX, H100)
HOME = measured(DESKTOP, RTX_4090)
AMD = measured(INSTINCT, MI300X)
STRANGE = machine(Gpu(vendor="nvidia", index=0, name="NVIDIA Z9000"), 2)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("speed", "gpus"),
    [
        pytest.param(FAST, HGX, id="8xH100"),
        pytest.param(HOME, DESKTOP, id="RTX 4090"),
        pytest.param(AMD, INSTINCT, id="8xMI300X"),
    ],
)
def test_healthy_machines_pass(check, speed, gpus):
    finding = get(check)(speed, gpus)

    assert finding.status is Status.PASS
    assert len(finding.summary) < 80
    assert "5 rounds" in finding.evidence[0]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("found", HEALTHY.values(), ids=HEALTHY)
def test_models_that_are_not_known_are_not_judged(check, found):
    slow = {"h2d_gbs": 2.0, "d2h_gbs": 2.0, "memory_gbs": 40.0, "matmul_tflops": 2.0}
    names = [replace(gpu, name="NVIDIA Z9000", pcie_gen_max=None) for gpu in found.devices]
    unknown = Gpus(devices=tuple(names))

    finding = get(check)(measured(unknown, slow), unknown)

    assert finding.status is Status.SKIP
    assert "not known" in finding.reason
    assert "2 " in finding.reason or "40 " in finding.reason


@pytest.mark.parametrize("check", CHECKS)
def test_without_deep_they_skip(check):
    facts = {"gpu_speed": Absent("loads the machine: runs only with --deep"), "gpus": HGX}

    finding = judge_one(get(check), Snapshot("n", facts))

    assert finding.status is Status.SKIP
    assert "--deep" in finding.reason


@pytest.mark.parametrize("check", CHECKS)
def test_a_gpu_that_was_not_measured_is_no_pass(check):
    hung = GpuRates(index=1, bus_id="0000:23:00.0", error="no answer in 60 s: measure h2d_gbs")
    devices = (FAST.devices[0], hung, *FAST.devices[2:])

    finding = get(check)(replace(FAST, devices=devices), HGX)
    late = get(check)(replace(FAST, unfinished="no time was left for 3 of 11 GPUs"), HGX)

    assert finding.status is Status.ERROR
    assert "GPU 1 (0000:23:00.0): no answer in 60 s" in finding.reason
    assert late.status is Status.ERROR


@pytest.mark.parametrize(
    ("speed", "gpus", "status", "says"),
    [
        pytest.param(
            FAST, HGX, Status.PASS, "55 GB/s from the host and 53 GB/s to the host", id="gen5 x16"
        ),
        pytest.param(
            one(FAST, 2, h2d_gbs=24.0),
            HGX,
            Status.WARN,
            "GPU 2: 24 GB/s from the host, 53 expected",
            id="gen4 speed on gen5",
        ),
        pytest.param(
            one(FAST, 2, d2h_gbs=12.0), HGX, Status.WARN, "12 GB/s to the host", id="one way only"
        ),
        pytest.param(
            one(FAST, 5, h2d_gbs=46.0, d2h_gbs=45.0), HGX, Status.PASS, "46", id="the far socket"
        ),
        pytest.param(
            one(FAST, 5, h2d_gbs=41.0), HGX, Status.WARN, "25% below its peers", id="far below"
        ),
        pytest.param(
            measured(but(HGX, pcie_gen=1), H100), but(HGX, pcie_gen=1), Status.PASS, "55", id="idle"
        ),
        pytest.param(
            one(FAST, 3, h2d_gbs=27.0, d2h_gbs=26.0),
            but(HGX, 3, pcie_width=8),
            Status.PASS,
            "27",
            id="x8 is gpu-pcie-width's to say",
        ),
        pytest.param(HOME, None, Status.SKIP, "PCIe link of GPU 0", id="no link known"),
        pytest.param(HOME, NONE, Status.SKIP, "PCIe link", id="no GPU known to the driver"),
        pytest.param(one(HOME, 0, bus_id=""), DESKTOP, Status.PASS, "26", id="torch of old"),
        pytest.param(one(AMD, 0, h2d_gbs=27.0), INSTINCT, Status.WARN, "27 GB/s", id="AMD"),
    ],
)
def test_copy(speed, gpus, status, says):
    finding = get("gpu-copy")(speed, gpus)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert finding.basis == ("rule-of-thumb" if status is Status.WARN else None)


ALL_SLOW = measured(HGX, {**H100, "memory_gbs": 1500.0, "matmul_tflops": 400.0})


@pytest.mark.parametrize(
    ("check", "speed", "status", "says"),
    [
        pytest.param("gpu-memory-speed", FAST, Status.PASS, "2550 GB/s in its memory", id="memory"),
        pytest.param("gpu-matmul", FAST, Status.PASS, "690 TFLOP/s in products", id="products"),
        pytest.param(
            "gpu-memory-speed",
            ALL_SLOW,
            Status.WARN,
            "GPUs 0, 1, 2, 3, 4, 5, 6, 7: 1500 GB/s in its memory, 2500 expected",
            id="all slow",
        ),
        pytest.param("gpu-matmul", ALL_SLOW, Status.WARN, "400 TFLOP/s", id="all products slow"),
        pytest.param(
            "gpu-matmul", one(FAST, 6, matmul_tflops=640.0), Status.PASS, "640", id="7 % below"
        ),
        pytest.param(
            "gpu-matmul",
            one(FAST, 6, matmul_tflops=600.0),
            Status.WARN,
            "GPU 6: 600 TFLOP/s in products, 13% below its peers",
            id="13 % below",
        ),
        pytest.param(
            "gpu-matmul", one(FAST, 6, matmul_tflops=345.0), Status.FAIL, "50% below", id="half"
        ),
        pytest.param(
            "gpu-memory-speed", one(FAST, 0, memory_gbs=1900.0), Status.FAIL, "25%", id="25 % below"
        ),
        pytest.param(
            "gpu-matmul",
            one(FAST, 6, matmul_tflops=345.0, busy_percent=90),
            Status.WARN,
            "50% below",
            id="somebody else was at work on it",
        ),
        pytest.param(
            "gpu-matmul",
            replace(one(FAST, 6, matmul_tflops=345.0), load_average=90.0),
            Status.WARN,
            "50% below",
            id="the CPUs were busy",
        ),
        pytest.param(
            "gpu-matmul",
            one(FAST, 6, matmul_tflops=300.0, name="NVIDIA Z9000"),
            Status.SKIP,
            "what NVIDIA Z9000 should reach is not known",
            id="another model has no peers",
        ),
        pytest.param(
            "gpu-matmul",
            one(FAST, 0, matmul_tflops=30.0, name="NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
            Status.SKIP,
            "not known",
            id="MIG slice",
        ),
        pytest.param(
            "gpu-matmul",
            one(measured(STRANGE, H100), 1, matmul_tflops=300.0),
            Status.FAIL,
            "GPU 1: 300 TFLOP/s in products, 57% below its peers",
            id="peers of an unknown model",
        ),
    ],
)
def test_memory_and_products(check, speed, status, says):
    finding = get(check)(speed, HGX)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    assert len(finding.summary) < 80


def test_what_else_ran_is_told():
    foreign = GpuProcess(pid=4711, name="python")
    gpus = but(HGX, 6, processes=(foreign,))

    busy = {"busy_percent": 90, "memory_used_bytes": 9 << 30}
    speed = replace(one(FAST, 6, matmul_tflops=345.0, **busy), load_average=12.0)
    evidence = "\n".join(get("gpu-matmul")(speed, gpus).evidence)

    assert "before it was measured GPU 6 was 90 % busy" in evidence
    assert "9 GiB of GPU 6's memory was in use" in evidence
    assert "processes on GPU 6: pid 4711" in evidence
    assert "load average 12.0 on 64 CPUs" in evidence
    assert "GPU 6 (0000:4b:00.0): 5 rounds, 334.6 to 345.0 TFLOP/s in products (bfloat16)" in (
        evidence
    )


def test_how_copies_were_measured_is_told():
    near = one(FAST, 2, h2d_gbs=24.0, numa_bound=True)

    assert "by any CPU" in get("gpu-copy")(FAST, HGX).evidence[0]
    assert "by any CPU" not in "".join(get("gpu-copy")(near, HGX).evidence)


def test_fixes_speak_to_the_vendor():
    nvidia = get("gpu-matmul")(one(FAST, 6, matmul_tflops=345.0), HGX)
    amd = get("gpu-matmul")(one(AMD, 6, matmul_tflops=300.0), INSTINCT)
    copy = get("gpu-copy")(one(FAST, 2, h2d_gbs=24.0), HGX)

    assert "nvidia-smi -i 0000:4b:00.0" in nvidia.fix.commands[0]
    assert amd.fix.commands == ("amd-smi metric --gpu 6 --clock --power --temperature",)
    assert copy.fix.commands == ("sudo lspci -vv -s 0000:2b:00.0 | grep -E 'LnkCap|LnkSta'",)
    assert copy.fix.needs_root


TABLE = data.table("gpu_speed")


@pytest.mark.parametrize("row", TABLE["models"], ids=lambda row: row["name"])
def test_row(row):
    assert re.compile(row["name"])
    assert set(row) <= {"name", "memory_gbs", "matmul_tflops", "source"}
    assert 100 < row.get("memory_gbs", 101) < 10_000
    assert 50 < row.get("matmul_tflops", 51) < 5_000


@pytest.mark.parametrize("kind", TABLE["warn_below"])
def test_share(kind):
    assert 0.5 <= TABLE["warn_below"][kind]["value"] < 1


@pytest.mark.parametrize(
    ("name", "memory", "products"),
    [
        ("NVIDIA H100 80GB HBM3", 2500, 794),
        ("NVIDIA H100 PCIe", 1639, None),
        ("NVIDIA H200", 3110, 794),
        ("NVIDIA A100-SXM4-80GB", 1564, 271),
        ("NVIDIA A100-SXM4-40GB", 1187, 271),
        ("NVIDIA A100-PCIE-40GB", 1293, 253),
        ("Tesla T4", 243, None),
        ("NVIDIA GeForce RTX 4090", 920, 158),
        ("AMD Instinct MI300X", 2860, 668),
        ("AMD Instinct MI300X VF", 2860, 668),
        ("AMD Instinct MI250X", None, 147),
        ("NVIDIA H200 NVL", None, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA GeForce RTX 4090 D", None, None),
        ("NVIDIA A40-48Q", None, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None),
        ("", None, None),
    ],
)
def test_models(name, memory, products):
    assert (expected(name, "memory_gbs"), expected(name, "matmul_tflops")) == (memory, products)


@pytest.mark.parametrize(
    ("gen", "width", "gbs"),
    [(5, 16, 52.8), (4, 16, 24.0), (3, 8, 6.0), (6, 16, None), (None, 16, None), (4, None, None)],
)
def test_link(gen, width, gbs):
    gpu = Gpu(vendor="nvidia", index=0, pcie_gen=1, pcie_gen_max=gen, pcie_width=width)

    assert expected_copy(gpu) == pytest.approx(gbs)
