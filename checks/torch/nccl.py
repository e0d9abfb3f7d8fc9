"""NCCL of PyTorch: one copy, not older than torch needs, none that its makers warn of."""

from gpudoctor import (
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    Gpus,
    JobPython,
    TorchBuild,
    TorchRun,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.cuda_compat import bad_nccl, nccl_of_wheel, version_of


@check(
    owner="image",
    symptoms=[
        r"undefined symbol: nccl",
        r"Mismatched NCCL version detected",
        r"NCCL version mismatch",
    ],
)
def torch_nccl(
    torch_build: TorchBuild,
    torch_run: TorchRun | None,
    gpus: Gpus | None,
    workload: Workload | None,
    job_python: JobPython,
) -> Finding:
    """PyTorch runs with the one NCCL that it was made for.

    The wheels nvidia-nccl-cu12 and -cu13 write the same file, so the last one installed wins. An
    older NCCL than torch was built with ends the import, "undefined symbol: ncclCommRegister",
    or one rank of many: "Mismatched NCCL version detected".
    """
    if torch_build.cuda is None:
        return skip(f"torch {torch_build.version} is not built for CUDA: no NCCL")
    name, _, pin = torch_build.nccl_pin.partition(" ")
    name = name or f"nvidia-nccl-cu{torch_build.cuda[0]}"
    pin = pin or nccl_of_wheel(torch_build.version)
    wheels = dict(wheel.split(" ") for wheel in torch_build.nccl_wheels)
    loaded = torch_run.nccl if torch_run else ""
    version = loaded or _preloaded(torch_build) or wheels.get(name, "")
    if not version:
        return skip("no wheel of NCCL is installed: gpudoctor check torch asks torch itself")
    evidence = [f"LD_PRELOAD: {path}" for path in torch_build.nccl_shadows]
    if torch_run and torch_run.nccl_file:
        evidence.append(f"loaded: {torch_run.nccl_file}")
    anew = _anew({*wheels, name}, f"{name}=={pin}" if pin else name, job_python)
    if pin and version_of(version) < version_of(pin):
        fix = Fix(EnvUnset("LD_PRELOAD")) if torch_build.nccl_shadows else anew
        return fail(f"NCCL {version}, torch needs {pin}", fix, evidence=evidence, basis="vendor")
    if len(wheels) > 1:
        both = " and ".join(torch_build.nccl_wheels)
        return warn(f"both write one libnccl.so.2: {both}", anew, evidence=evidence, basis="vendor")
    archs = {gpu.arch for gpu in gpus.alive} if gpus else set()
    if row := bad_nccl(version, archs, workload.nodes if workload else 1):
        summary = f"NCCL {version} has a known fault on these GPUs"
        return warn(summary, Fix(EnvSet(*row.set)), evidence=[row.breaks], basis="vendor")
    return ok(f"NCCL {version}" + (f", torch needs {pin}" if pin else ""), evidence)


def _preloaded(build: TorchBuild) -> str:
    """The version of an NCCL in LD_PRELOAD, by its file's name; empty: not told by it."""
    versions = [path.rpartition("libnccl.so.")[2] for path in build.nccl_shadows]
    return next((text for text in versions if "." in text), "")


def _anew(wheels: set[str], wanted: str, job_python: JobPython) -> Fix:
    remove = f"{job_python.pip} uninstall -y {' '.join(sorted(wheels))}"
    return Fix(
        text=f"Install {wanted} anew, and no other NCCL",
        commands=[f"{remove} && {job_python.pip} install {wanted}"],
    )
