"""AMD's own variables, judged against the GPUs that are there."""

import re

from gpudoctor import Environment, EnvUnset, Finding, Fix, Gpus, Status, check, fail, ok, skip, warn
from gpudoctor.data import table

OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


@check(
    owner="job",
    symptoms=[
        r"HSA_OVERRIDE_GFX_VERSION .* is invalid",
        r"HSA_STATUS_ERROR_INVALID_ISA",
        r"hipErrorNoBinaryForGpu",
        r"Memory access fault by GPU node",
    ],
)
def env_rocm(environment: Environment, gpus: Gpus | None) -> Finding:
    """HSA_OVERRIDE_GFX_VERSION tells ROCm nothing wrong about a GPU.

    It makes ROCm load code of another architecture. Between close relatives that can work
    where PyTorch has no code for the GPU at all; otherwise the job ends in "Memory access fault
    by GPU node-1", "HSA_STATUS_ERROR_INVALID_ISA", or hangs the GPU. A value that is no
    version, even an empty one, hides all GPUs: "HSA_OVERRIDE_GFX_VERSION is invalid".
    """
    devices = [gpu for gpu in (gpus.alive if gpus else ()) if gpu.vendor == "amd" and gpu.arch]
    archs = dict.fromkeys(gpu.arch for gpu in devices if not gpu.integrated)
    archs = archs or dict.fromkeys(gpu.arch for gpu in devices)
    if not archs:
        return skip("no AMD GPU answers here: see gpu-visible")
    value = environment.values.get(OVERRIDE)
    if value is None:
        return ok(f"{OVERRIDE} is not set", _rocm_remarks(environment))
    told = _gfx(value)
    fix = Fix(EnvUnset(OVERRIDE))
    if told is None:
        shown = f'"{value[:20]}"'
        return fail(f"{OVERRIDE} is {shown}, no version: all GPUs hidden", fix, basis="vendor")
    judged = [_judge_override(arch, told) for arch in archs]
    evidence = [words for _, words in judged]
    summary = f"{', '.join(archs)} told to be {told}"
    if any(status is Status.FAIL for status, _ in judged):
        return fail(summary, fix, evidence=evidence, basis="vendor")
    if any(status is Status.WARN for status, _ in judged):
        return warn(summary, fix, evidence=evidence, basis="vendor")
    return ok(summary, [*evidence, *_rocm_remarks(environment)])


def _judge_override(arch: str, told: str) -> tuple[Status, str]:
    """What comes of it when a GPU is taken for another architecture."""
    row, other = (table("amd_gpus")["archs"].get(name, {}) for name in (arch, told))
    if arch == told:
        return Status.PASS, f"{arch} is that by itself: {OVERRIDE} is redundant"
    if arch[:-2] != told[:-2] or (row.get("wheels") and row["family"] != other.get("family")):
        return Status.FAIL, f"{arch} does not run code of {told}"
    if not row:
        return Status.PASS, f"{arch} is not known: whether it runs code of {told} is not either"
    if row["family"] != other.get("family"):
        return Status.WARN, f"{arch} and {told} have different instructions"
    if row.get("wheels"):
        return (
            Status.WARN,
            f"{arch} needs none: PyTorch's wheels have its code since {row['wheels']}",
        )
    if row.get("hangs"):
        return Status.WARN, f"{arch} is known to hang with code of {told}"
    return Status.PASS, f"{arch} has no code in PyTorch's wheels, and mostly runs that of {told}"


def _gfx(value: str) -> str | None:
    """The architecture of "10.3.0", as ROCm's thunk reads it; None: it refuses."""
    match = re.fullmatch(r"\s*(\d+)\.\s*(\d+)\.\s*(\d+)", value)
    major, minor, step = map(int, match.groups()) if match else (64, 0, 0)
    return f"gfx{major}{minor:x}{step:x}" if major < 64 and minor < 256 and step < 256 else None


def _rocm_remarks(environment: Environment) -> list[str]:
    lines = []
    if "PYTORCH_ROCM_ARCH" in environment.values:
        lines.append("PYTORCH_ROCM_ARCH is read when PyTorch is built, not when it runs")
    if environment.values.get("HSA_ENABLE_SDMA") == "0":
        lines.append("HSA_ENABLE_SDMA=0: copies run on the compute units, not beside them")
    if any(name.startswith(f"{OVERRIDE}_") for name in environment.names):
        lines.append(f"{OVERRIDE}_N, for a node of KFD, is not judged")
    return lines
