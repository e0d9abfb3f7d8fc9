"""For tests/checks/test_env.py: `env-rocm`."""

import pytest

from gpudoctor import Environment, EnvUnset, Gpu, Gpus, Status
from gpudoctor.registry import get

PASS, WARN, FAIL, SKIP = Status.PASS, Status.WARN, Status.FAIL, Status.SKIP
OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


def amd(*archs, integrated=()):
    gpus = [
        Gpu(vendor="amd", index=i, arch=arch, integrated=arch in integrated)
        for i, arch in enumerate(archs)
    ]
    return Gpus(devices=tuple(gpus))


MI300X = amd(*["gfx942"] * 8)
NVIDIA = Gpus(devices=(Gpu(vendor="nvidia", index=0, arch="sm_90"),))
LOST = Gpus(devices=(Gpu(vendor="amd", index=0, arch="gfx942", lost="fell off the bus"),))
DESKTOP = amd("gfx1100", "gfx1036", integrated=["gfx1036"])


@pytest.mark.parametrize(
    ("env", "gpus", "status", "says"),
    [
        pytest.param({}, MI300X, PASS, "not set", id="8 MI300X, nothing set"),
        pytest.param({}, DESKTOP, PASS, "not set", id="desktop, nothing set"),
        pytest.param({OVERRIDE: "9.4.2"}, MI300X, PASS, "redundant", id="its own"),
        pytest.param({OVERRIDE: "11.0.0"}, DESKTOP, PASS, "redundant", id="integrated one aside"),
        pytest.param({OVERRIDE: "9.0.10"}, amd("gfx90a"), PASS, "redundant", id="hexadecimal"),
        pytest.param({OVERRIDE: "10.3.0"}, amd("gfx1031"), PASS, "mostly", id="RX 6700"),
        pytest.param({OVERRIDE: "10.3.0"}, amd("gfx1030", "gfx1032"), PASS, "mostly", id="mixed"),
        pytest.param(
            {OVERRIDE: "10.3.0"},
            amd("gfx1035", integrated=["gfx1035"]),
            PASS,
            "mostly",
            id="only an integrated one",
        ),
        pytest.param({OVERRIDE: "11.0.0"}, amd("gfx1103"), WARN, "hang", id="780M"),
        pytest.param({OVERRIDE: "11.0.0"}, amd("gfx1102"), WARN, "since 2.7", id="RX 7600"),
        pytest.param({OVERRIDE: "10.3.0"}, amd("gfx1010"), WARN, "different", id="RX 5700"),
        pytest.param({OVERRIDE: "9.5.0"}, MI300X, WARN, "needs none", id="MI300X as MI350X"),
        pytest.param({OVERRIDE: "9.0.10"}, MI300X, FAIL, "does not run", id="MI300X as MI250X"),
        pytest.param({OVERRIDE: "10.3.0"}, amd("gfx1201"), FAIL, "does not run", id="RX 9070"),
        pytest.param(
            {OVERRIDE: "11.0.0"}, amd("gfx1100", "gfx1031"), FAIL, "gfx1031", id="one of two"
        ),
        pytest.param({OVERRIDE: ""}, MI300X, FAIL, "hidden", id="empty, as compose leaves it"),
        pytest.param({OVERRIDE: "gfx942"}, MI300X, FAIL, "hidden", id="a name"),
        pytest.param({OVERRIDE: "9.4"}, MI300X, FAIL, "hidden", id="two numbers"),
        pytest.param({OVERRIDE: "9.4.2 "}, MI300X, FAIL, "hidden", id="a blank behind"),
        pytest.param({OVERRIDE: "99.0.0"}, MI300X, FAIL, "hidden", id="too high"),
        pytest.param({OVERRIDE: "13.0.1"}, amd("gfx1300"), PASS, "not known", id="not known"),
        pytest.param({OVERRIDE: "12.0.1"}, amd("gfx1300"), FAIL, "not run", id="another major"),
        pytest.param({"PYTORCH_ROCM_ARCH": "gfx942"}, MI300X, PASS, "built", id="build time"),
        pytest.param({"HSA_ENABLE_SDMA": "0"}, MI300X, PASS, "copies", id="no SDMA"),
        pytest.param({f"{OVERRIDE}_1": "10.3.0"}, MI300X, PASS, "not judged", id="of one node"),
        pytest.param({OVERRIDE: "10.3.0"}, NVIDIA, SKIP, "gpu-visible", id="NVIDIA"),
        pytest.param({OVERRIDE: "10.3.0"}, None, SKIP, "gpu-visible", id="no GPU"),
        pytest.param({OVERRIDE: "10.3.0"}, LOST, SKIP, "gpu-visible", id="lost"),
    ],
)
def test_rocm(env, gpus, status, says):
    finding = get("env-rocm")(Environment(values=env, names=tuple(env)), gpus)

    assert finding.status is status
    assert says in " ".join([finding.summary, finding.reason, *finding.evidence])
    assert len(finding.summary) < 80
    if status in (WARN, FAIL):
        assert finding.fix.settings == (EnvUnset(OVERRIDE),)
