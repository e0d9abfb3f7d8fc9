"""What PyTorch does when the job's Python imports it: whether it starts, sees GPUs, computes."""

import re
from collections.abc import Iterable

from gpudoctor import (
    EnvSet,
    Finding,
    Fix,
    GpuDevices,
    Gpus,
    JobPython,
    Owner,
    TorchBuild,
    TorchDevice,
    TorchRun,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    unknown,
)
from gpudoctor.rules.cuda_compat import Wheel
from gpudoctor.rules.per_gpu import NO_GPU

NO_KERNEL = r"no kernel image is available|invalid device function|NoBinaryForGpu"
BUSY = r"out of memory|devices are busy or unavailable"

PYTORCHS_OWN = r"(\d+\.\d+\.\d+)\+(cu\d+|rocm[\d.]+|cpu)"
AGAIN = "Install torch again, with all the wheels that it needs"

# What an import error says -> what to do. The first that fits.
BROKEN_IMPORT = {
    r"undefined symbol: nccl": "Let torch find its own NCCL: see torch-nccl",
    r"undefined symbol: \S*(nvJitLink|cublas|cusparse|cudnn)": (
        "Let torch find its own CUDA libraries: take other copies out of LD_LIBRARY_PATH"
    ),
    r"GLIBC(XX)?_[\d.]+' not found|CXXABI_": (
        "Use an image with a newer C or C++ library, such as Ubuntu 22.04 or RHEL 9"
    ),
    r"failed to map segment": "Install torch where programs may be run: the mount is noexec",
    r"nothing but a directory is left": "Remove what is left of torch, and install it again",
    r"": AGAIN,
}

# What torch says when it cannot use a GPU -> text and commands; with sudo the node's owner acts.
UNUSABLE: dict[str, tuple[str, str]] = {
    r"driver on your system is too old|driver version is insufficient": (
        "Install a torch for this driver, or a newer driver: see torch-driver",
        "",
    ),
    r"Error 802|system not yet initialized": (
        "Start NVIDIA's fabric manager, of exactly the driver's version",
        "sudo systemctl enable --now nvidia-fabricmanager",
    ),
    r"Error 803|unsupported display driver": (
        "Let the job find the libcuda of the loaded driver: see gpu-driver",
        "",
    ),
    r"Error 804|forward compatibility": (
        "Take the directory of CUDA's forward compatibility out of LD_LIBRARY_PATH",
        "",
    ),
    r"CUDA unknown error|Error 999": (
        "Load the module nvidia-uvm, and make its device node",
        "sudo modprobe nvidia-uvm && sudo nvidia-modprobe -u -c=0",
    ),
    r"No (CUDA|HIP) GPUs are available": (
        "Let the variables that choose GPUs name those that are here: see gpu-selection",
        "",
    ),
    r"": ("Follow torch's words; gpu-init shows how far the driver itself comes", ""),
}


@check(
    owner="image",
    symptoms=[
        r"ImportError: .*undefined symbol: nccl",
        r"GLIBCXX_[\d.]+.* not found",
        r"libcudart\.so\.\d+: cannot open shared object file",
        r"No module named 'torch",
    ],
)
def torch_import(
    torch_run: TorchRun, torch_build: TorchBuild | None, job_python: JobPython
) -> Finding:
    """PyTorch can be imported by the Python that will train.

    A wheel that is half installed, an old system, or a foreign copy of one of its libraries ends
    every rank in its first line: "ImportError: libtorch_cuda.so: undefined symbol:
    ncclCommRegister", "version `GLIBCXX_3.4.30' not found".
    """
    error = torch_run.import_error
    if not error:
        seconds = torch_run.import_seconds or 0.0
        return ok(f"torch {torch_run.version}, imported in {seconds:.1f} s")
    text = next(text for pattern, text in BROKEN_IMPORT.items() if re.search(pattern, error))
    commands = []
    wheel = re.fullmatch(PYTORCHS_OWN, torch_build.version) if torch_build else None
    if text is AGAIN and wheel:
        command = Wheel(wheel[1], wheel[2]).command
        commands = [f"{job_python.pip} install --force-reinstall {command}"]
    fix = Fix(text=text, commands=commands)
    return fail(_short(f"import torch: {error}"), fix, evidence=[error], basis="measured")


@check(
    owner="launch",
    symptoms=[
        r"No CUDA GPUs are available",
        r"Unexpected error from cudaGetDeviceCount",
        r"Found no NVIDIA driver on your system",
        r"CUDA initialization: ",
    ],
)
def torch_cuda(torch_run: TorchRun, gpus: Gpus | None) -> Finding:
    """PyTorch can use the GPUs.

    torch.cuda.is_available() answers False without saying why, and scripts then train on the
    CPU, or end with "RuntimeError: No CUDA GPUs are available".
    """
    if torch_run.import_error:
        return skip("torch cannot be imported: see torch-import")
    if torch_run.available:
        count = count_of(len(torch_run.devices), "GPU")
        return ok(f"torch sees {count}", [f"GPU {d.index}: {d.name}" for d in torch_run.devices])
    if not (torch_run.cuda or torch_run.hip):
        return skip("torch is built without CUDA or ROCm: see torch-build")
    if gpus is None or not gpus.alive:
        return skip(NO_GPU)
    said = torch_run.reason
    if not said:
        return unknown(torch_run.unfinished or "torch does not say why it can use no GPU")
    summary = _short(f"torch can use no GPU: {said}")
    if "Found no NVIDIA driver" in said:
        capabilities = EnvSet("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")
        fix = Fix(GpuDevices(), capabilities)
        return fail(summary, fix, evidence=[said], basis="measured")
    text, command = next(way for pattern, way in UNUSABLE.items() if re.search(pattern, said))
    fix = Fix(text=text, commands=[command] if command else [], needs_root=bool(command))
    who: Owner = "node" if command else "launch"
    return fail(summary, fix, evidence=[said], basis="measured", owner=who)


@check(
    owner="node",
    symptoms=[
        r"CUDA error: an illegal memory access was encountered",
        r"CUBLAS_STATUS_(EXECUTION_FAILED|NOT_INITIALIZED)",
        r"loss (is|became) nan",
        r"CUDA error: unspecified launch failure",
    ],
)
def torch_compute(torch_run: TorchRun) -> Finding:
    """Every GPU multiplies as the CPU does.

    A GPU that computes wrongly, or cannot compute at all, is named and counted like any other.
    The job ends with "CUBLAS_STATUS_EXECUTION_FAILED", or trains to a loss that is nan.
    """
    devices = torch_run.devices
    if not devices:
        return skip("torch uses no GPU here: see torch-cuda")
    errors = {d.index: d.compute_error for d in devices if d.compute_error}
    missing = [i for i, error in errors.items() if re.search(NO_KERNEL, error)]
    busy = [i for i, error in errors.items() if re.search(BUSY, error)]
    wrong = [i for i in errors if i not in (*missing, *busy)]
    evidence = [f"GPU {index}: {error}" for index, error in errors.items()]
    if wrong:
        fix = Fix(
            text="Keep the job off this GPU, and have the node's log and its memory looked at",
            commands=["gpudoctor check gpu-kernel-log gpu-ecc gpu-remap"],
        )
        summary = _short(f"GPU {wrong[0]}: {errors[wrong[0]]}")
        return fail(summary, fix, evidence=evidence, basis="measured")
    if missing:
        return skip(f"torch has no code for GPU {missing[0]}: see torch-arch")
    if busy:
        return unknown(f"GPU {busy[0]}: {_short(errors[busy[0]])}: see gpu-busy")
    if any(device.compute_seconds is None for device in devices):
        return unknown(torch_run.unfinished or "not every GPU was reached")
    return ok(f"a product on {count_of(len(devices), 'GPU')} equals the CPU's", _memory(devices))


def _memory(devices: Iterable[TorchDevice]) -> list[str]:
    return [
        f"GPU {d.index}: {size(d.memory_free_bytes)} of {size(d.memory_bytes)} free"
        for d in devices
        if d.memory_free_bytes is not None and d.memory_bytes is not None
    ]


def _short(text: str) -> str:
    return text if len(text) <= 79 else f"{text[:76]}..."
