"""checks/torch: tables of facts -> status."""

import pytest

from gpudoctor import (
    CudaInit,
    Environment,
    EnvSet,
    EnvUnset,
    Gpu,
    GpuDevices,
    GpuLibraries,
    Gpus,
    JobPython,
    KernelDriver,
    Status,
    System,
    TorchBuild,
    TorchDevice,
    TorchRun,
    Workload,
)
from gpudoctor.registry import get

PYTHON = JobPython(path="/opt/venv/bin/python", chosen_by="VIRTUAL_ENV", version="3.12")
X86 = System(hostname="n", kernel="6.8", architecture="x86_64")
ARM = System(hostname="n", kernel="6.8", architecture="aarch64")
PIP = "/opt/venv/bin/python -m pip install"
INDEX = "--index-url https://download.pytorch.org/whl"

NONE = Gpus()
CPU = TorchBuild(version="2.13.0+cpu")
CU126 = TorchBuild(version="2.14.1+cu126", cuda=(12, 6))
CU128 = TorchBuild(version="2.9.1+cu128", cuda=(12, 8))
CU130 = TorchBuild(version="2.14.1+cu130", cuda=(13, 0))
ROCM = TorchBuild(version="2.9.1+rocm6.4", hip="6.4.43484")
NGC = TorchBuild(version="2.9.0a0+145a3a7bda.nv25.10", cuda=(13, 0))


def nvidia(*archs: str, cuda: tuple[int, int] | None = (12, 8), driver: str = "570.172.08") -> Gpus:
    devices = [Gpu(vendor="nvidia", index=i, arch=arch) for i, arch in enumerate(archs)]
    return Gpus(devices=tuple(devices), driver=driver, cuda=cuda)


def amd(*archs: str) -> Gpus:
    return Gpus(devices=tuple(Gpu(vendor="amd", index=i, arch=a) for i, a in enumerate(archs)))


H100 = nvidia(*["sm_90"] * 8)
GEFORCE = nvidia("sm_89")
MI300X = amd(*["gfx942"] * 8)
LOST = Gpus(devices=(Gpu(vendor="nvidia", index=0, lost="GPU is lost"),))


@pytest.mark.parametrize(
    ("build", "gpus", "status", "command"),
    [
        pytest.param(CU128, H100, Status.PASS, "", id="8 H100"),
        pytest.param(CU128, GEFORCE, Status.PASS, "", id="GeForce"),
        pytest.param(ROCM, MI300X, Status.PASS, "", id="8 MI300X"),
        pytest.param(NGC, H100, Status.PASS, "", id="NVIDIA's image"),
        pytest.param(
            CPU, H100, Status.FAIL, f"{PIP} torch==2.13.0+cu126 {INDEX}/cu126", id="CPU-only wheel"
        ),
        pytest.param(
            CPU,
            nvidia("sm_90", cuda=(13, 0)),
            Status.FAIL,
            f"{PIP} torch==2.13.0+cu130 {INDEX}/cu130",
            id="CPU-only wheel, new driver",
        ),
        pytest.param(
            CU128,
            MI300X,
            Status.FAIL,
            f"{PIP} torch==2.9.1+rocm6.4 {INDEX}/rocm6.4",
            id="CUDA wheel on AMD",
        ),
        pytest.param(
            ROCM,
            H100,
            Status.FAIL,
            f"{PIP} torch==2.9.1+cu128 {INDEX}/cu128",
            id="ROCm wheel on NVIDIA",
        ),
        pytest.param(CU128, LOST, Status.SKIP, "", id="no GPU answers"),
        pytest.param(CPU, NONE, Status.SKIP, "", id="login node"),
    ],
)
def test_build(build, gpus, status, command):
    finding = get("torch-build")(build, gpus, None, X86, PYTHON)

    assert finding.status is status
    if status is Status.FAIL:
        assert finding.fix.commands == (command,)
        assert len(finding.summary) < 80


def test_build_passes_where_one_vendor_of_two_fits():
    laptop = Gpus(devices=(*amd("gfx1103").devices, *GEFORCE.devices), cuda=(12, 8))

    assert get("torch-build")(CU128, laptop, None, X86, PYTHON).status is Status.PASS
    assert get("torch-build")(CPU, laptop, None, X86, PYTHON).status is Status.FAIL


def test_build_does_not_ask_for_the_gpu_inside_a_processor():
    ryzen = Gpus(devices=(Gpu(vendor="amd", index=0, arch="gfx1103", integrated=True),))

    assert get("torch-build")(CPU, ryzen, None, X86, PYTHON).status is Status.SKIP
    assert get("torch-arch")(ROCM, ryzen, None, X86, None, PYTHON).status is Status.FAIL


def test_build_without_a_wheel_in_the_table_says_where_to_look():
    finding = get("torch-build")(CPU, amd("gfx1032"), None, X86, PYTHON)

    assert finding.status is Status.FAIL
    assert "pytorch.org" in finding.fix.text
    assert finding.fix.commands == ()


@pytest.mark.parametrize(
    ("build", "gpus", "status", "says"),
    [
        pytest.param(CU128, H100, Status.PASS, "driver 570.172.08 has CUDA 12.8", id="native"),
        pytest.param(
            CU128,
            nvidia("sm_80", cuda=(12, 2), driver="535.288.01"),
            Status.PASS,
            "12.2",
            id="minor-version compatibility",
        ),
        pytest.param(
            CU128,
            nvidia("sm_90", cuda=(13, 0), driver="580.95.05"),
            Status.PASS,
            "13.0",
            id="newer driver",
        ),
        pytest.param(
            CU130,
            H100,
            Status.FAIL,
            "driver 570.172.08 has CUDA 12.8, torch's CUDA 13.0 needs driver 580",
            id="the default wheel on driver 570",
        ),
        pytest.param(
            CU128,
            nvidia("sm_80", cuda=(11, 4), driver="470.256.02"),
            Status.FAIL,
            "needs driver 525.60.13",
            id="cu12 on driver 470",
        ),
        pytest.param(
            CU128,
            nvidia("sm_89", cuda=(12, 9), driver="576.80"),
            Status.PASS,
            "576.80",
            id="WSL2: the number is that of Windows",
        ),
        pytest.param(
            TorchBuild(version="3.0.0+cu150", cuda=(15, 0)), H100, Status.SKIP, "", id="not known"
        ),
        pytest.param(ROCM, MI300X, Status.SKIP, "", id="ROCm"),
        pytest.param(CPU, H100, Status.SKIP, "", id="CPU-only"),
        pytest.param(CU128, None, Status.SKIP, "", id="no driver"),
        pytest.param(CU128, NONE, Status.SKIP, "", id="login node"),
    ],
)
def test_driver(build, gpus, status, says):
    finding = get("torch-driver")(build, gpus, None, None, None, X86, PYTHON)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


def test_driver_names_the_wheel_that_works_and_the_driver_that_would():
    finding = get("torch-driver")(CU130, H100, None, None, None, X86, PYTHON)

    assert finding.fix.commands == (f"{PIP} torch==2.14.1+cu126 {INDEX}/cu126",)
    assert "driver 580" in finding.fix.text
    assert any("cuda-compat-13-0" in line for line in finding.evidence)


def test_driver_names_no_wheel_where_the_table_is_not_about_the_machine():
    finding = get("torch-driver")(CU130, H100, None, None, None, ARM, PYTHON)

    assert finding.status is Status.FAIL
    assert finding.fix.commands == ()
    assert "pytorch.org" in finding.fix.text


def test_driver_by_the_kernel_module_where_nvml_is_not_there():
    module = KernelDriver(nvidia="570.172.08")

    assert get("torch-driver")(CU128, None, module, None, None, X86, PYTHON).status is Status.PASS
    assert get("torch-driver")(CU130, None, module, None, None, X86, PYTHON).status is Status.FAIL


def test_driver_counts_forward_compatibility():
    module, init = KernelDriver(nvidia="535.288.01"), CudaInit(code=0, version=(13, 0))
    compat = GpuLibraries(libcuda="/usr/local/cuda/compat/libcuda.so.580.95.05", compat=True)

    finding = get("torch-driver")(CU130, H100, module, init, compat, X86, PYTHON)

    assert finding.status is Status.PASS
    assert "driver 535.288.01 with forward compatibility" in finding.summary


@pytest.mark.parametrize(
    ("build", "gpus", "status", "says"),
    [
        pytest.param(CU128, H100, Status.PASS, "sm_90", id="8 H100"),
        pytest.param(CU128, GEFORCE, Status.PASS, "sm_89", id="Ada by Ampere's code"),
        pytest.param(CU128, nvidia("sm_70"), Status.PASS, "sm_70", id="Volta, 2.9+cu128"),
        pytest.param(ROCM, MI300X, Status.PASS, "gfx942", id="8 MI300X"),
        pytest.param(CU130, nvidia("sm_70"), Status.FAIL, "no code for sm_70", id="Volta, cu130"),
        pytest.param(CU126, nvidia("sm_120"), Status.FAIL, "no code for sm_120", id="RTX 5090"),
        pytest.param(ROCM, amd("gfx1032"), Status.FAIL, "gfx1032", id="RX 6600"),
        pytest.param(
            CU130,
            nvidia("sm_89", "sm_61"),
            Status.WARN,
            "no code for sm_61",
            id="an old second GPU",
        ),
        pytest.param(NGC, H100, Status.SKIP, "", id="NVIDIA's image: not known"),
        pytest.param(CU128, nvidia(""), Status.SKIP, "", id="architecture not known"),
        pytest.param(CU128, LOST, Status.SKIP, "", id="no GPU answers"),
        pytest.param(CU128, NONE, Status.SKIP, "", id="login node"),
        pytest.param(CPU, H100, Status.SKIP, "", id="CPU-only"),
    ],
)
def test_arch(build, gpus, status, says):
    finding = get("torch-arch")(build, gpus, None, X86, None, PYTHON)

    assert finding.status is status
    assert says in finding.summary


def test_arch_counts_an_override_and_leaves_out_the_gpu_inside_the_processor():
    inside = Gpu(vendor="amd", index=1, arch="gfx1036", integrated=True)
    desktop = Gpus(devices=(*amd("gfx1032").devices, inside))
    override = Environment(values={"HSA_OVERRIDE_GFX_VERSION": "10.3.0"})

    found = get("torch-arch")(ROCM, desktop, None, X86, override, PYTHON)

    assert found.status is Status.PASS
    assert found.summary == "torch 2.9.1+rocm6.4 has code for gfx1030"


def test_arch_knows_only_the_x86_wheels():
    grace = nvidia("sm_61")

    assert get("torch-arch")(CU128, grace, None, ARM, None, PYTHON).status is Status.SKIP


def test_arch_believes_torch_itself():
    device = TorchDevice(index=0, arch="sm_90")
    run = TorchRun(available=True, archs=("sm_80", "sm_90", "compute_90"), devices=(device,))
    hidden = nvidia("sm_61", "sm_90")

    assert get("torch-arch")(NGC, hidden, run, ARM, None, PYTHON).status is Status.PASS


def test_arch_names_the_wheel_that_has_it():
    volta = get("torch-arch")(CU130, nvidia("sm_70", cuda=(13, 0)), None, X86, None, PYTHON)
    blackwell = get("torch-arch")(CU126, nvidia("sm_120"), None, X86, None, PYTHON)

    assert volta.fix.commands == (f"{PIP} torch==2.14.1+cu126 {INDEX}/cu126",)
    assert blackwell.fix.commands == (f"{PIP} torch==2.11.0+cu128 {INDEX}/cu128",)


def build_with(*wheels: str, pin: str = "nvidia-nccl-cu12 2.27.5", **more) -> TorchBuild:
    return TorchBuild(version="2.9.1+cu128", cuda=(12, 8), nccl_pin=pin, nccl_wheels=wheels, **more)


PINNED = build_with("nvidia-nccl-cu12 2.27.5")
OLD = build_with("nvidia-nccl-cu12 2.18.1")
TWO = build_with("nvidia-nccl-cu12 2.27.5", "nvidia-nccl-cu13 2.30.7")
CONDA = TorchBuild(version="2.5.1", cuda=(12, 4))


@pytest.mark.parametrize(
    ("build", "run", "status", "says"),
    [
        pytest.param(PINNED, None, Status.PASS, "NCCL 2.27.5, torch needs 2.27.5", id="as pinned"),
        pytest.param(
            build_with("nvidia-nccl-cu12 2.30.7"), None, Status.PASS, "2.30.7", id="newer is fine"
        ),
        pytest.param(
            build_with("nvidia-nccl-cu12 2.30.7", pin=""),
            None,
            Status.PASS,
            "2.27.5",
            id="by table",
        ),
        pytest.param(OLD, None, Status.FAIL, "NCCL 2.18.1, torch needs 2.27.5", id="older wheel"),
        pytest.param(
            PINNED,
            TorchRun(nccl="2.18.3", nccl_file="/usr/lib/libnccl.so.2.18.3"),
            Status.FAIL,
            "NCCL 2.18.3",
            id="another one is loaded",
        ),
        pytest.param(OLD, TorchRun(nccl="2.27.5"), Status.PASS, "2.27.5", id="what runs counts"),
        pytest.param(TWO, None, Status.WARN, "both write one libnccl.so.2", id="two wheels"),
        pytest.param(
            build_with("nvidia-nccl-cu12 2.27.5", nccl_shadows=("/opt/libnccl.so.2.18.3",)),
            None,
            Status.FAIL,
            "NCCL 2.18.3",
            id="preloaded",
        ),
        pytest.param(CONDA, TorchRun(nccl="2.21.5"), Status.PASS, "NCCL 2.21.5", id="conda, run"),
        pytest.param(CONDA, None, Status.SKIP, "", id="conda"),
        pytest.param(CPU, None, Status.SKIP, "", id="CPU-only"),
        pytest.param(ROCM, None, Status.SKIP, "", id="ROCm"),
    ],
)
def test_nccl(build, run, status, says):
    finding = get("torch-nccl")(build, run, None, None, PYTHON)

    assert finding.status is status
    assert says in finding.summary


def test_nccl_fixes():
    def fix(build):
        return get("torch-nccl")(build, None, None, None, PYTHON).fix

    assert fix(TWO).commands == (
        "/opt/venv/bin/python -m pip uninstall -y nvidia-nccl-cu12 nvidia-nccl-cu13"
        f" && {PIP} nvidia-nccl-cu12==2.27.5",
    )
    preloaded = build_with("nvidia-nccl-cu12 2.27.5", nccl_shadows=("/opt/libnccl.so.2.18.3",))
    assert fix(preloaded).settings == (EnvUnset("LD_PRELOAD"),)


def test_nccl_warns_of_a_release_that_its_makers_warn_of():
    torch = TorchBuild(
        version="2.1.2+cu121", cuda=(12, 1), nccl_wheels=("nvidia-nccl-cu12 2.18.1",)
    )

    def check(nodes: int, gpus: Gpus):
        return get("torch-nccl")(torch, None, gpus, Workload(nodes=nodes), PYTHON)

    assert check(1, H100).status is Status.PASS
    assert check(2, nvidia("sm_80")).status is Status.PASS
    found = check(2, H100)
    assert found.status is Status.WARN
    assert found.fix.settings == (EnvSet("NCCL_IB_PCI_RELAXED_ORDERING", "0"),)


IMPORTED = TorchRun(version="2.9.1+cu128", cuda="12.8", import_seconds=1.7)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(
            "ImportError: /opt/torch/lib/libtorch_cuda.so: undefined symbol: ncclCommRegister",
            "torch-nccl",
            id="older NCCL",
        ),
        pytest.param(
            "ImportError: libcusparse.so.12: undefined symbol: __nvJitLinkAddData_12_1",
            "LD_LIBRARY_PATH",
            id="older nvJitLink",
        ),
        pytest.param(
            "ImportError: /lib64/libstdc++.so.6: version `GLIBCXX_3.4.30' not found",
            "newer C or C++ library",
            id="old libstdc++",
        ),
        pytest.param(
            "ImportError: /lib64/libm.so.6: version `GLIBC_2.28' not found",
            "newer C or C++ library",
            id="old glibc",
        ),
        pytest.param(
            "OSError: libcudart.so.12: cannot open shared object file: No such file",
            "Install torch again",
            id="library missing",
        ),
        pytest.param(
            "ImportError: libc10.so: failed to map segment from shared object",
            "noexec",
            id="noexec",
        ),
        pytest.param("SIGILL: Illegal instruction", "Install torch again", id="crash"),
    ],
)
def test_import_fails(error, text):
    finding = get("torch-import")(TorchRun(import_error=error), CU128, PYTHON)

    assert finding.status is Status.FAIL
    assert text in finding.fix.text
    assert len(finding.summary) < 80
    assert error in finding.evidence


@pytest.mark.parametrize(
    ("build", "commands"),
    [
        pytest.param(
            CU128, (f"{PIP} --force-reinstall torch==2.9.1+cu128 {INDEX}/cu128",), id="CUDA"
        ),
        pytest.param(CPU, (f"{PIP} --force-reinstall torch==2.13.0+cpu {INDEX}/cpu",), id="CPU"),
        pytest.param(NGC, (), id="NVIDIA's image: not from an index"),
        pytest.param(None, (), id="not known"),
    ],
)
def test_import_installs_the_same_wheel_again(build, commands):
    error = "OSError: libcudart.so.12: cannot open shared object file"

    assert get("torch-import")(TorchRun(import_error=error), build, PYTHON).fix.commands == commands


def test_import_installs_nothing_where_the_system_is_too_old():
    error = "ImportError: /lib64/libm.so.6: version `GLIBC_2.28' not found"

    assert get("torch-import")(TorchRun(import_error=error), CU128, PYTHON).fix.commands == ()


def test_import_passes():
    finding = get("torch-import")(IMPORTED, CU128, PYTHON)

    assert finding.status is Status.PASS
    assert finding.summary == "torch 2.9.1+cu128, imported in 1.7 s"


def unusable(reason: str) -> TorchRun:
    return TorchRun(version="2.9.1", cuda="12.8", reason=reason)


@pytest.mark.parametrize(
    ("reason", "text", "owner"),
    [
        pytest.param(
            "The NVIDIA driver on your system is too old (found version 11040).",
            "see torch-driver",
            "launch",
            id="driver too old",
        ),
        pytest.param(
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
            "functions before calling NumCudaDevices() that might have already set an error? "
            "Error 802: system not yet initialized",
            "fabric manager",
            "node",
            id="802",
        ),
        pytest.param(
            "Error 803: system has unsupported display driver / cuda driver combination",
            "libcuda of the loaded driver",
            "launch",
            id="803",
        ),
        pytest.param(
            "Error 804: forward compatibility was attempted on non supported HW",
            "LD_LIBRARY_PATH",
            "launch",
            id="804",
        ),
        pytest.param("CUDA unknown error - this may be", "nvidia-uvm", "node", id="999"),
        pytest.param("No CUDA GPUs are available", "gpu-selection", "launch", id="none chosen"),
        pytest.param("SIGSEGV: torch.cuda.is_available()", "gpu-init", "launch", id="crash"),
    ],
)
def test_cuda_fails(reason, text, owner):
    finding = get("torch-cuda")(unusable(reason), H100)

    assert finding.status is Status.FAIL
    assert text in finding.fix.text
    assert finding.owner == owner
    assert finding.fix.needs_root is (owner == "node")
    assert finding.evidence == (reason,)
    assert len(finding.summary) < 80


def test_cuda_asks_for_the_gpus_where_the_driver_was_not_passed_in():
    finding = get("torch-cuda")(unusable("Found no NVIDIA driver on your system."), H100)

    assert finding.fix.settings == (
        GpuDevices(),
        EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
    )


def device(index: int = 0, error: str = "", seconds: float | None = 0.4) -> TorchDevice:
    return TorchDevice(index=index, name="H100", compute_error=error, compute_seconds=seconds)


TWO_GPUS = TorchRun(available=True, cuda="12.8", devices=(device(0), device(1)))


@pytest.mark.parametrize(
    ("run", "gpus", "status"),
    [
        pytest.param(TWO_GPUS, H100, Status.PASS, id="works"),
        pytest.param(TWO_GPUS, None, Status.PASS, id="works, and NVML does not"),
        pytest.param(unusable("No CUDA GPUs are available"), NONE, Status.SKIP, id="login node"),
        pytest.param(unusable("No CUDA GPUs are available"), None, Status.SKIP, id="no driver"),
        pytest.param(
            TorchRun(reason="Torch not compiled with CUDA enabled"),
            H100,
            Status.SKIP,
            id="CPU-only",
        ),
        pytest.param(TorchRun(import_error="ImportError: x"), H100, Status.SKIP, id="no import"),
        pytest.param(
            TorchRun(cuda="12.8", unfinished="no answer in 20 s: torch.cuda.is_available()"),
            H100,
            Status.ERROR,
            id="hangs",
        ),
    ],
)
def test_cuda(run, gpus, status):
    assert get("torch-cuda")(run, gpus).status is status


@pytest.mark.parametrize(
    ("devices", "status", "says"),
    [
        pytest.param((device(0), device(1)), Status.PASS, "2 GPUs", id="right"),
        pytest.param(
            (device(0), device(1, "3 of 262144 elements of a product are wrong")),
            Status.FAIL,
            "GPU 1: 3 of 262144",
            id="wrong",
        ),
        pytest.param(
            (device(0, "it crashed: SIGSEGV", None), device(1, seconds=None)),
            Status.FAIL,
            "GPU 0: it crashed",
            id="crash",
        ),
        pytest.param(
            (device(0, "RuntimeError: CUDA error: no kernel image is available for execution"),),
            Status.SKIP,
            "see torch-arch",
            id="no code: another check's",
        ),
        pytest.param(
            (device(0, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB"),),
            Status.ERROR,
            "see gpu-busy",
            id="no memory left: another check's",
        ),
        pytest.param(
            (device(0), device(1, seconds=None)), Status.ERROR, "no answer", id="not reached"
        ),
        pytest.param((), Status.SKIP, "see torch-cuda", id="no GPU"),
    ],
)
def test_compute(devices, status, says):
    run = TorchRun(available=True, devices=devices, unfinished="no answer in 20 s: GPU 1")

    finding = get("torch-compute")(run)

    assert finding.status is status
    assert says in finding.summary + finding.reason
