"""All-reduces on real GPUs: one rank on each, beside a plain loop."""

import re
import subprocess

import msgspec
import pytest

from gpudoctor import AllReduce, Status
from tests.bench.test_all_reduce import WITHIN, ratio

COUNT = "import torch; print(torch.cuda.device_count())"


@pytest.fixture(scope="module")
def count(torch_python) -> int:
    """How many GPUs torch uses; the test skips where there is only one."""
    said = subprocess.run([torch_python, "-c", COUNT], capture_output=True, check=True)
    if int(said.stdout) < 2:
        pytest.skip("one GPU on this machine: there is nobody to reduce with")
    return int(said.stdout)


@pytest.fixture(scope="module")
def all_reduced(look, torch_python, count):
    words = ("bandwidth-allreduce", "--python", torch_python, "--nproc-per-node", str(count))
    return look(*words)


@pytest.fixture(scope="module")
def found(all_reduced) -> AllReduce:
    return msgspec.convert(all_reduced.facts["all_reduce"], AllReduce)


def test_nccl_sums_over_all_gpus(found, count):
    assert (found.error, found.wrong) == ("", "")
    assert (found.backend, found.device, found.ranks) == ("nccl", "cuda", count)
    assert len(found.gpus) == len(set(found.bus_ids)) == count
    assert found.points[-1].bytes >= 1 << 28


def test_what_nccl_says_is_understood(found):
    assert re.fullmatch(r"[NR]CCL \d+\.\d+\.\d+", found.library)
    assert set(found.transports) & {"P2P", "SHM", "NVLS"}


def test_a_healthy_machine_passes(all_reduced):
    assert all_reduced.result("bandwidth-allreduce").status is Status.PASS


def test_as_a_plain_loop(torch_python, count, capsys):
    share = ratio(torch_python, count, 256 << 20)

    with capsys.disabled():
        print(f"\ngpu: all-reduce over {count} GPUs: {share:.3f} x a plain loop", end=" ")
    assert abs(share - 1) <= 10 * WITHIN


def test_one_gpu_alone_works_with_nccl(torch_python):
    """NCCL with a single rank: what can be tried of it on a machine with one GPU."""
    assert ratio(torch_python, 1, 256 << 20) > 0
