"""checks/gpu/heat.py: tables of facts -> status."""

import pytest

from gpudoctor import Status, data
from gpudoctor.registry import get
from tests.gpu_machines import DESKTOP, HEALTHY, HGX, INSTINCT, NONE, NOTEBOOK, WSL2, but

CHECKS = ["gpu-throttle", "gpu-temperature", "gpu-power-limit"]
REASONS = {row["name"]: row["kind"] for row in data.table("gpu_throttle")["reasons"]}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("found", HEALTHY.values(), ids=HEALTHY)
def test_healthy_machines_are_left_alone(check, found):
    assert get(check)(found).status in (Status.PASS, Status.SKIP)


@pytest.mark.parametrize("check", CHECKS)
def test_without_gpus_there_is_nothing_to_say(check):
    finding = get(check)(NONE)

    assert finding.status is Status.SKIP
    assert "gpu-visible" in finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "8 GPUs", id="idle"),
        pytest.param(but(HGX, throttle=("sw power cap",)), Status.PASS, "", id="power cap"),
        pytest.param(but(HGX, throttle=("application clocks",)), Status.PASS, "", id="locked"),
        pytest.param(but(HGX, throttle=("sync boost",)), Status.PASS, "", id="sync boost"),
        pytest.param(but(HGX, throttle=("bit 0x800",)), Status.PASS, "", id="a newer reason"),
        pytest.param(
            but(HGX, 1, throttle=("hw slowdown", "hw thermal")),
            Status.FAIL,
            "GPU 1: slowed down now: hw slowdown, hw thermal",
            id="too hot",
        ),
        pytest.param(but(HGX, throttle=("sw thermal",)), Status.WARN, "sw thermal", id="warm"),
        pytest.param(
            but(INSTINCT, throttle=("memory thermal",)), Status.WARN, "memory", id="AMD, memory"
        ),
        pytest.param(
            but(NOTEBOOK, throttle=("idle", "hw slowdown")), Status.WARN, "", id="laptop on battery"
        ),
        pytest.param(WSL2, Status.SKIP, "do not tell", id="not told"),
        pytest.param(
            but(DESKTOP, throttle=None, unread={"throttle": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "throttle",
            id="unread",
        ),
    ],
)
def test_throttle(found, status, says):
    finding = get("gpu-throttle")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize("name", [name for name, kind in REASONS.items() if kind == "brake"])
def test_throttle_fails_on_every_brake_of_the_table(name):
    assert get("gpu-throttle")(but(HGX, throttle=(name,))).status is Status.FAIL


@pytest.mark.parametrize(
    "name", [name for name, kind in REASONS.items() if kind in ("idle", "setting", "power")]
)
def test_throttle_blames_nobody_for_settings(name):
    assert get("gpu-throttle")(but(HGX, throttle=(name,))).status is Status.PASS


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "34 °C, 55 °C below", id="cool"),
        pytest.param(but(HGX, temperature_c=83), Status.PASS, "6 °C below", id="warm"),
        pytest.param(but(HGX, 2, temperature_c=84), Status.WARN, "GPU 2: 84 °C", id="hot"),
        pytest.param(but(HGX, temperature_memory_c=95), Status.WARN, "memory has 95", id="HBM"),
        pytest.param(
            but(DESKTOP, temperature_memory_c=96), Status.PASS, "38 °C", id="GDDR6X may be warm"
        ),
        pytest.param(
            but(INSTINCT, temperature_memory_c=106), Status.WARN, "memory has 106", id="AMD, HBM"
        ),
        pytest.param(
            but(DESKTOP, temperature_c=91, temperature_slowdown_c=None),
            Status.PASS,
            "91 °C",
            id="no threshold is told",
        ),
        pytest.param(WSL2, Status.SKIP, "do not tell", id="not told"),
        pytest.param(
            but(DESKTOP, temperature_c=None, unread={"temperature_c": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "temperature_c",
            id="unread",
        ),
    ],
)
def test_temperature(found, status, says):
    finding = get("gpu-temperature")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(HGX, Status.PASS, "700 W", id="default"),
        pytest.param(but(HGX, power_limit_w=630.0), Status.PASS, "630 W and 700", id="90 %"),
        pytest.param(
            but(HGX, 3, power_limit_w=500.0), Status.WARN, "GPU 3: limited to 500 W", id="lowered"
        ),
        pytest.param(but(DESKTOP, power_limit_w=600.0), Status.PASS, "600 W", id="raised"),
        pytest.param(NOTEBOOK, Status.PASS, "35 W", id="laptop moves it"),
        pytest.param(but(NOTEBOOK, power_default_w=None), Status.SKIP, "no power", id="no limit"),
        pytest.param(
            but(HGX, power_limit_w=None, unread={"power_limit_w": "NVML_ERROR_UNKNOWN"}),
            Status.ERROR,
            "power_limit_w",
            id="unread",
        ),
    ],
)
def test_power_limit(found, status, says):
    finding = get("gpu-power-limit")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason


@pytest.mark.parametrize(
    ("found", "command"),
    [
        (but(HGX, power_limit_w=300.0), "sudo nvidia-smi -i 0000:1b:00.0 -pl 700"),
        (but(INSTINCT, power_limit_w=300.0), "sudo amd-smi set --gpu 0000:1b:00.0 --power-cap 750"),
    ],
    ids=["NVIDIA", "AMD"],
)
def test_power_limit_is_put_back_by_root(found, command):
    finding = get("gpu-power-limit")(found)

    assert finding.fix.commands == (command,)
    assert finding.fix.needs_root
