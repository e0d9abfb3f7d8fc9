"""torch on a real GPU: it and we must agree."""

import json
import subprocess

import msgspec
import pytest

from gpudoctor import Status, TorchRun

ASK = """
import json, torch
props = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
print(json.dumps({
    "version": str(torch.__version__),
    "archs": torch.cuda.get_arch_list(),
    "devices": [[device.name, device.total_memory] for device in props],
}))
"""


@pytest.fixture(scope="module")
def torch_seen(look, torch_python):
    return look("gpu", "torch", "--python", torch_python)


def test_torch_and_we_agree(torch_seen, torch_python):
    said = json.loads(subprocess.run([torch_python, "-c", ASK], capture_output=True).stdout)
    ran = msgspec.convert(torch_seen.facts["torch_run"], TorchRun)

    assert (ran.version, list(ran.archs)) == (said["version"], said["archs"])
    assert [[device.name, device.memory_bytes] for device in ran.devices] == said["devices"]
    assert [device.compute_error for device in ran.devices] == [""] * len(ran.devices)


def test_bus_ids_of_torch_are_the_drivers(torch_seen):
    ran = msgspec.convert(torch_seen.facts["torch_run"], TorchRun)

    assert {device.bus_id for device in ran.devices if device.bus_id} <= {
        gpu.bus_id for gpu in torch_seen.gpus.devices
    }


@pytest.mark.parametrize("id_", ["torch-import", "torch-build", "torch-cuda", "torch-compute"])
def test_healthy(id_, torch_seen):
    assert torch_seen.result(id_).status is Status.PASS
