"""Our probes, and NVIDIA's own CUDA runtime, over a libcuda that fails on request."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpudoctor import CudaInit, GpuLibraries
from gpudoctor.data import table
from gpudoctor.snapshot import Absent

from .conftest import DRIVER

SOURCES = Path(__file__).with_name("fake_cuda")
LOOK = """
import sys
from gpudoctor import Machine
from gpudoctor.collect import collect
from gpudoctor.probes import gpu_path
from gpudoctor.snapshot import encode
probes = [gpu_path.cuda_init, gpu_path.gpu_libraries, gpu_path.hip_init]
found = collect(probes, Machine(), deadline=float(sys.argv[1]))
print(encode(found.facts).decode())
"""


@pytest.fixture(scope="session")
def libcudart(downloaded) -> str:
    """NVIDIA's own runtime, of the wheel that torch depends on."""
    (found,) = downloaded("nvidia-cuda-runtime==13.*").rglob("libcudart.so.13")
    return str(found)


def environment(libraries: Path, **fake: object) -> dict[str, str]:
    words = {f"FAKE_CUDA_{name}": str(value) for name, value in fake.items()}
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries), **words}


@pytest.fixture
def look(libcuda):
    """What our probes see of it; a process of its own, as the linker reads its path once."""

    def facts(seconds: float = 30.0, libraries: Path = libcuda, **fake: object) -> Any:
        command = [sys.executable, "-c", LOOK, str(seconds)]
        env = environment(libraries, **fake)
        ended = subprocess.run(command, env=env, capture_output=True, check=True, timeout=60)
        return msgspec.json.decode(ended.stdout)

    return facts


def test_it_works(look, libcuda):
    found = look(COUNT=8, VERSION=12080)
    started = msgspec.convert(found["cuda_init"], CudaInit)
    libraries = msgspec.convert(found["gpu_libraries"], GpuLibraries)

    assert started == CudaInit(code=0, devices=8, version=(12, 8))
    assert libraries.libcuda == str(libcuda / f"libcuda.so.{DRIVER}")
    assert libraries.libcuda_version == DRIVER
    assert libraries.libcuda_error == ""
    assert not libraries.compat


@pytest.mark.parametrize("code", [34, 100, 802, 803, 804, 999])
def test_each_code_and_its_name(code, look):
    names = {row["code"]: row["name"] for row in table("cuda_codes")["codes"]}
    found = msgspec.convert(look(INIT=code)["cuda_init"], CudaInit)

    assert found == CudaInit(code=code, name=names[code], version=(13, 0))


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        pytest.param({"HANG": 60}, "no answer in", id="hangs"),
        pytest.param({"CRASH": 1}, "looking crashed: SIGABRT", id="crashes"),
    ],
)
def test_one_that_never_answers(fake, reason, look):
    found = look(seconds=3.0, **fake)
    started = msgspec.convert(found["cuda_init"], Absent)

    assert started.absent.startswith(reason)
    assert started.broken
    assert msgspec.convert(found["gpu_libraries"], GpuLibraries).libcuda


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "file too short", id="left behind by a container toolkit"),
        pytest.param(b"no library\n" * 100, "invalid ELF header", id="no library"),
    ],
)
def test_a_file_that_is_no_library(content, says, look, tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(content)
    found = look(libraries=tmp_path)

    assert says in msgspec.convert(found["gpu_libraries"], GpuLibraries).libcuda_error
    assert says in msgspec.convert(found["cuda_init"], Absent).absent


def test_forward_compatibility_is_seen(look, libcuda, tmp_path):
    shutil.copytree(libcuda, tmp_path / "cuda-13.0/compat", symlinks=True)
    found = look(libraries=tmp_path / "cuda-13.0/compat")

    assert msgspec.convert(found["gpu_libraries"], GpuLibraries).compat


@pytest.mark.parametrize(
    ("fake", "code", "name"),
    [
        pytest.param({"VERSION": 12080}, 35, "cudaErrorInsufficientDriver", id="too old"),
        pytest.param({"INIT": 100}, 100, "cudaErrorNoDevice", id="no device"),
        pytest.param({"INIT": 802}, 802, "cudaErrorSystemNotReady", id="no fabric manager"),
        pytest.param({"INIT": 803}, 803, "cudaErrorSystemDriverMismatch", id="mismatch"),
        pytest.param({"INIT": 999}, 999, "cudaErrorUnknown", id="unknown"),
    ],
)
def test_the_real_runtime_says_the_same(fake, code, name, libcuda, libcudart):
    command = [sys.executable, str(SOURCES / "count.py"), libcudart]
    env = environment(libcuda, **fake)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    names = {row["code"]: row["runtime"] for row in table("cuda_codes")["codes"]}

    assert ended.stdout.split() == [str(code), name]
    assert names[code] == name
