"""Whether the PyTorch that is installed fits this machine, by its files: nothing is imported."""

import re
from collections.abc import Iterable

from gpudoctor import (
    CudaInit,
    Environment,
    Finding,
    Fix,
    GpuLibraries,
    Gpus,
    JobPython,
    KernelDriver,
    System,
    TorchBuild,
    TorchRun,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.cuda_compat import (
    Wheel,
    code_for,
    newest_cuda,
    oldest_driver,
    runs,
    wheel_archs,
    wheel_for,
)
from gpudoctor.rules.per_gpu import NO_GPU

MAKER = {"nvidia": "NVIDIA", "amd": "AMD"}


@check(
    owner="image",
    symptoms=[
        r"Torch not compiled with CUDA enabled",
        r"Distributed package doesn't have NCCL built in",
        r"PyTorch is not linked with support for cuda",
    ],
)
def torch_build(
    torch_build: TorchBuild,
    gpus: Gpus,
    cuda_init: CudaInit | None,
    system: System | None,
    job_python: JobPython,
) -> Finding:
    """PyTorch is built for the GPUs of this machine.

    pip, conda and uv may all choose a wheel without GPU support. The job then ends with "Torch
    not compiled with CUDA enabled", or trains on the CPU without a word. A CUDA wheel on AMD's
    GPUs, or a ROCm wheel on NVIDIA's, sees none of them.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    built = _built_for(torch_build)
    fits = {"nvidia": torch_build.cuda is not None, "amd": bool(torch_build.hip)}
    if any(fits[gpu.vendor] for gpu in gpus.alive):
        return ok(f"torch {torch_build.version} is built {built}")
    cards = [gpu for gpu in gpus.alive if not gpu.integrated]
    if not cards:
        return skip("the only GPU here is the one inside the processor")
    vendor = max(gpu.vendor for gpu in cards)  # a machine with both trains on NVIDIA's
    archs = [gpu.arch for gpu in cards if gpu.vendor == vendor]
    here = count_of(len(archs), f"{MAKER[vendor]} GPU")
    wheel = _wheel(archs, _built_in(gpus, cuda_init), torch_build, system)
    fix = _install(f"Install a torch that is built for {MAKER[vendor]} GPUs", wheel, job_python)
    return fail(f"torch {torch_build.version} is built {built}, here: {here}", fix, basis="vendor")


@check(
    owner="image",
    symptoms=[
        r"CUDA driver version is insufficient for CUDA runtime version",
        r"The NVIDIA driver on your system is too old",
        r"provided PTX was compiled with an unsupported toolchain",
    ],
)
def torch_driver(
    torch_build: TorchBuild,
    gpus: Gpus | None,
    kernel_driver: KernelDriver | None,
    cuda_init: CudaInit | None,
    gpu_libraries: GpuLibraries | None,
    system: System | None,
    job_python: JobPython,
) -> Finding:
    """The NVIDIA driver is new enough for PyTorch's CUDA.

    Since torch 2.11 `pip install torch` brings CUDA 13, which needs driver 580. On an older one
    torch.cuda.is_available() is False: "The NVIDIA driver on your system is too old".
    """
    cuda = torch_build.cuda
    if cuda is None:
        return skip(f"torch {torch_build.version} is not built for CUDA")
    built_in = _built_in(gpus, cuda_init, kernel_driver)
    if built_in is None:
        return skip("no NVIDIA driver answers here: see gpu-visible")
    fits, needs = runs(cuda, built_in), oldest_driver(cuda)
    if fits is None:
        return skip(f"which driver CUDA {_dotted(cuda)} needs is not known here")
    driver = f"{_driver(gpus, kernel_driver, gpu_libraries)} has CUDA {_dotted(built_in)}"
    if fits:
        note = f"it cannot compile PTX of CUDA {_dotted(cuda)}, which few programs ask for"
        return ok(f"{driver}, torch CUDA {_dotted(cuda)}", [note] if built_in < cuda else [])
    text = f"Install a torch for CUDA {built_in[0]}, or driver {needs} or newer on the node"
    archs = [gpu.arch for gpu in gpus.alive if gpu.vendor == "nvidia"] if gpus else []
    compat = f"cuda-compat-{cuda[0]}-{cuda[1]} in the image would do too, on data-centre GPUs only"
    return fail(
        f"{driver}, torch's CUDA {_dotted(cuda)} needs driver {needs}",
        _install(text, _wheel(archs, built_in, torch_build, system), job_python),
        evidence=[f"torch {torch_build.version} in {torch_build.path}", compat],
        basis="vendor",
    )


@check(
    owner="image",
    symptoms=[
        r"no kernel image is available for execution on the device",
        r"is not compatible with the current PyTorch installation",
        r"hipErrorNoBinaryForGpu",
        r"HIP error: invalid device function",
    ],
)
def torch_arch(
    torch_build: TorchBuild,
    gpus: Gpus,
    torch_run: TorchRun | None,
    system: System | None,
    environment: Environment | None,
    job_python: JobPython,
) -> Finding:
    """PyTorch contains code for these GPUs.

    A GPU that is newer or older than the wheel is found, named and counted, and fails with its
    first kernel: "CUDA error: no kernel image is available for execution on the device".
    """
    if not (torch_build.cuda or torch_build.hip):
        return skip("torch is built without CUDA and ROCm: see torch-build")
    found = _archs_here(torch_build, gpus, torch_run, environment)
    if not found:
        return skip(NO_GPU)
    archs, torch = _archs_of(torch_build, torch_run, system), f"torch {torch_build.version}"
    if not archs or any("generic" in arch for arch in archs):
        return skip(f"what {torch} has code for is not known: gpudoctor check torch asks it")
    has = f"{torch} has {' '.join(archs)}"
    lacking = {name: arch for name, arch in found.items() if not code_for(arch, archs)}
    if not lacking:
        return ok(f"{torch} has code for {_once(found.values())}", [has])
    wheel = _wheel(list(found.values()), gpus.cuda, torch_build, system)
    fix = _install("Install a torch that has code for these GPUs", wheel, job_python)
    # Where another GPU can be used, the job may never touch this one.
    say = fail if len(lacking) == len(found) else warn
    evidence = [*(f"{name} is {arch}" for name, arch in lacking.items()), has]
    return say(
        f"{torch} has no code for {_once(lacking.values())}", fix, evidence=evidence, basis="vendor"
    )


def _built_in(
    gpus: Gpus | None, cuda_init: CudaInit | None, kernel_driver: KernelDriver | None = None
) -> tuple[int, int] | None:
    """The driver's CUDA release, forward compatibility included; None: not known."""
    if cuda_init and cuda_init.version:
        return cuda_init.version
    if gpus and gpus.cuda:
        return gpus.cuda
    return newest_cuda(kernel_driver.nvidia) if kernel_driver else None


def _driver(
    gpus: Gpus | None, kernel_driver: KernelDriver | None, gpu_libraries: GpuLibraries | None
) -> str:
    version = (kernel_driver.nvidia if kernel_driver else "") or (gpus.driver if gpus else "")
    compat = gpu_libraries is not None and gpu_libraries.compat
    return (f"driver {version}" if version else "the driver") + (
        " with forward compatibility" if compat else ""
    )


def _built_for(build: TorchBuild) -> str:
    if build.cuda:
        return f"for CUDA {_dotted(build.cuda)}"
    if build.hip:
        return f"for ROCm {'.'.join(build.hip.split('.')[:2])}"
    return "without CUDA and ROCm"


def _archs_here(
    build: TorchBuild, gpus: Gpus, run: TorchRun | None, environment: Environment | None
) -> dict[str, str]:
    """The architectures by GPU: as torch itself sees them, or all that it might use."""
    if run and run.devices:
        return {f"GPU {device.index}": device.arch for device in run.devices if device.arch}
    vendor = "amd" if build.hip else "nvidia"
    ours = [gpu for gpu in gpus.alive if gpu.vendor == vendor and gpu.arch]
    ours = [gpu for gpu in ours if not gpu.integrated] or ours
    version = environment.values.get("HSA_OVERRIDE_GFX_VERSION", "") if environment else ""
    override = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version) if build.hip else None
    if override:  # 9.0.10 is gfx90a
        major, minor, step = map(int, override.groups())
        return {f"GPU {gpu.index}": f"gfx{major}{minor:x}{step:x}" for gpu in ours}
    return {f"GPU {gpu.index}": gpu.arch for gpu in ours}


def _archs_of(build: TorchBuild, run: TorchRun | None, system: System | None) -> tuple[str, ...]:
    if run and run.archs:
        return run.archs
    return wheel_archs(build.version) if _on_x86(system) else ()


def _wheel(
    archs: list[str], built_in: tuple[int, int] | None, build: TorchBuild, system: System | None
) -> Wheel | None:
    return wheel_for(archs, built_in, build.version) if _on_x86(system) else None


def _install(text: str, wheel: Wheel | None, job_python: JobPython) -> Fix:
    """The wheel that fits; where none is known, only the words."""
    if wheel is None:
        return Fix(text=f"{text}: pytorch.org/get-started/previous-versions lists them")
    return Fix(text=text, commands=[f"{job_python.pip} install {wheel.command}"])


def _on_x86(system: System | None) -> bool:
    """Whether the table of wheels is about this machine."""
    return system is None or system.architecture == "x86_64"


def _once(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
