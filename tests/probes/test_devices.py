"""probes/devices.py: device nodes by name, in trees like those of real machines."""

from pathlib import Path

import pytest

from gpudoctor import Devices, Machine
from gpudoctor.probes.devices import devices


def look(root: Path, *paths: str, **env: str) -> Devices:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return devices(Machine(root=str(root), env=env))


NVIDIA = [f"dev/nvidia{name}" for name in ("ctl", "-uvm", "-uvm-tools", "-modeset", "-caps/x")]
HCA = "sys/class/infiniband/mlx5_0/node_guid"


@pytest.mark.parametrize(
    ("paths", "env", "expected"),
    [
        pytest.param([], {}, Devices(), id="nothing, not even /dev"),
        pytest.param(["dev/null", "dev/dri/renderD128"], {}, Devices(), id="laptop, no kfd"),
        pytest.param(
            [*NVIDIA, "dev/nvidia10", "dev/nvidia2"], {}, Devices(nvidia=(2, 10)), id="NVIDIA"
        ),
        pytest.param(
            ["dev/kfd", "dev/dri/card0", "dev/dri/renderD128"],
            {},
            Devices(amd_render=("renderD128",)),
            id="AMD",
        ),
        pytest.param(
            ["dev/infiniband/uverbs0", "dev/infiniband/rdma_cm", HCA],
            {},
            Devices(rdma=("uverbs0",), rdma_in_sysfs=("mlx5_0",)),
            id="RDMA",
        ),
        pytest.param([HCA], {}, Devices(rdma_in_sysfs=("mlx5_0",)), id="RDMA not passed in"),
        pytest.param(
            [],
            {"NCCL_IB_HCA": "mlx5", "MELLANOX_VISIBLE_DEVICES": "void"},
            Devices(rdma_from_environment=("NCCL_IB_HCA",)),
            id="RDMA asked for",
        ),
    ],
)
def test_devices(tmp_path, paths, env, expected):
    found = look(tmp_path, *paths, **env)

    assert found == expected


def test_the_render_node_of_another_vendor_is_not_amds(tmp_path):
    for name, vendor in (("renderD128", "0x8086"), ("renderD129", "0x1002")):
        path = tmp_path / "sys" / "class" / "drm" / name / "device" / "vendor"
        path.parent.mkdir(parents=True)
        path.write_text(f"{vendor}\n")

    found = look(tmp_path, "dev/kfd", "dev/dri/renderD128", "dev/dri/renderD129")

    assert found.amd_render == ("renderD129",)
    assert found.gpus == 1
