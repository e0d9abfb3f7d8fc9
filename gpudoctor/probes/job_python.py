"""Find the Python that will train and read its packages, without running anything."""

import os
import re
import sys

from gpudoctor.facts.job_python import JobPython
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

# Distributions that decide whether a job runs; wheels of CUDA's libraries by their prefix.
_WANTED = re.compile(
    r"(torch|torchvision|torchaudio|triton|pytorch-triton-rocm|amdsmi|nvidia-[a-z0-9-]+|deepspeed"
    r"|megatron-core|transformer-engine|flash-attn|xformers|bitsandbytes|accelerate|transformers"
    r"|lightning|pytorch-lightning|numpy|cupy-[a-z0-9-]+|jax|jaxlib|vllm|pynvml)"
)


@probe()
def job_python(machine: Machine) -> JobPython | Absent:
    """The interpreter by `--python`, the active environment, or PATH; and its packages."""
    found = _interpreter(machine)
    if found is None:
        return Absent("no python3 on PATH: name it with --python")
    path, chosen_by = found
    version, folders = _site_packages(machine, path)
    packages: dict[str, str] = {}
    for folder in folders:
        for name in machine.list(folder):
            match = re.fullmatch(r"(.+?)-([^-]+)(?:\.dist-info|(?:-.*)?\.egg-info)", name)
            if match:
                distribution = re.sub(r"[-_.]+", "-", match[1]).lower()
                if _WANTED.fullmatch(distribution):
                    packages.setdefault(distribution, match[2])
    return JobPython(path=path, chosen_by=chosen_by, version=version, packages=packages)


def _interpreter(machine: Machine) -> tuple[str, str] | None:
    if machine.python:
        return machine.python, "--python"
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        path = f"{machine.env.get(variable, '')}/bin/python"
        if machine.env.get(variable) and machine.exists(path):
            return path, variable
    for name in ("python3", "python"):
        for folder in machine.env.get("PATH", os.defpath).split(os.pathsep):
            path = f"{folder}/{name}"
            if folder.startswith("/") and os.access(machine.path(path), os.X_OK):
                return path, "PATH"
    return (sys.executable, "gpudoctor's own") if machine.live and sys.executable else None


def _site_packages(machine: Machine, path: str) -> tuple[str, list[str]]:
    """The version, "3.12", and the directories that packages of this interpreter lie in."""
    prefix = os.path.dirname(os.path.dirname(path))
    config = machine.text(f"{prefix}/pyvenv.cfg") or ""
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config, re.MULTILINE)
    real = os.path.realpath(machine.path(path))
    if not machine.live:
        real = "/" + os.path.relpath(real, machine.root)
    versions = [match[1]] if match else re.findall(r"python(\d\.\d+)$", real)
    if not versions:
        inside = [re.fullmatch(r"python(\d\.\d+)", n) for n in machine.list(f"{prefix}/lib")]
        versions = [found[1] for found in inside if found]
    version = versions[-1] if versions else ""
    real_prefix = os.path.dirname(os.path.dirname(real))
    folders = [f"{prefix}/lib/python{version}/site-packages"]
    if not match or re.search(r"^include-system-site-packages\s*=\s*true", config, re.MULTILINE):
        folders += [
            f"{real_prefix}/lib/python{version}/site-packages",
            f"{real_prefix}/local/lib/python{version}/dist-packages",
            f"{real_prefix}/lib/python3/dist-packages",
        ]
    return version, list(dict.fromkeys(folders))
