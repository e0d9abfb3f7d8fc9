"""Find the Python that will train and read its packages, without running anything."""

import os
import re
import sys
from collections.abc import Iterator

from gpudoctor.facts.job_python import JobPython, Packages, normal
from gpudoctor.probes import Machine, probe
from gpudoctor.snapshot import Absent

# Distributions that decide whether a job runs; wheels of CUDA's libraries by their prefix.
_WANTED = (
    r"(torch|torchvision|torchaudio|triton|pytorch-triton-rocm|amdsmi|nvidia-[a-z0-9-]+|deepspeed"
    r"|megatron-core|transformer-engine|flash-attn|xformers|bitsandbytes|accelerate|transformers"
    r"|lightning|pytorch-lightning|numpy|cupy-[a-z0-9-]+|jax|jaxlib|vllm|pynvml|ray|tensorflow"
    r"|python-etcd)"
)
_DISTRIBUTION = r"(.+?)-([^-]+)(?:\.dist-info|(?:-.*)?\.egg(?:-info)?)"
_PYTHON = r"python(\d\.\d+t?)"
_LINKS = 40  # as many as the kernel follows


@probe(isolated=True, timeout=4.0)
def job_python(machine: Machine) -> JobPython | Absent:
    """The interpreter by `--python`, the active environment, or PATH; and its packages."""
    found = _interpreter(machine)
    if found is None:
        return Absent("no python3 on PATH: name it with --python")
    path, chosen_by = found
    if not machine.exists(path):
        return Absent(f"there is no {path}", broken=True)
    path = _behind_shim(machine, path)
    version, folders = site_packages(machine, path)
    packages = {
        name: said for name, said in _installed(machine, folders) if re.fullmatch(_WANTED, name)
    }
    return JobPython(path=path, chosen_by=chosen_by, version=version, packages=packages)


def _unasked(machine: Machine) -> str:
    if "cluster" in machine.told or (machine.demands and machine.demands.packages):
        return ""
    return "no profile demands packages (--profile), no nodes are compared (--cluster)"


@probe(isolated=True, timeout=10.0, unless=_unasked)
def packages(machine: Machine) -> Packages | Absent:
    """All packages of the job's Python by the names of their directories."""
    python = job_python(machine)
    if isinstance(python, Absent):
        return python
    return Packages(versions=dict(_installed(machine, site_packages(machine, python.path)[1])))


def _installed(machine: Machine, folders: list[str]) -> Iterator[tuple[str, str]]:
    """Names and versions; of those that stand in several directories the first is imported."""
    seen: set[str] = set()
    for folder in folders:
        for name in machine.list(folder):
            link = name.removesuffix(".egg-link")
            match = re.fullmatch(_DISTRIBUTION, name)
            if match is None and link == name:
                continue
            distribution = normal(match[1] if match else link)
            if distribution not in seen:
                seen.add(distribution)
                yield distribution, match[2] if match else _linked(machine, f"{folder}/{name}")


def _linked(machine: Machine, link: str) -> str:
    """The version of what `setup.py develop` left in its source directory; empty: not said."""
    source = (machine.text(link) or "").partition("\n")[0].strip()
    info = next((n for n in machine.list(source) if n.endswith(".egg-info")), "")
    found = re.search(r"^Version: *(\S+)", machine.text(f"{source}/{info}/PKG-INFO") or "", re.M)
    return found[1] if found else ""


def _interpreter(machine: Machine) -> tuple[str, str] | None:
    if machine.python:
        if "/" in machine.python:
            path = os.path.join(machine.cwd or "/", machine.python)
            return os.path.normpath(path), "--python"
        return _on_path(machine, machine.python) or machine.python, "--python"
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        path = f"{machine.env.get(variable, '')}/bin/python"
        if machine.env.get(variable) and machine.exists(path):
            return path, variable
    path = _on_path(machine, "python3") or _on_path(machine, "python")
    if path:
        return path, "PATH"
    return (sys.executable, "gpudoctor's own") if machine.live and sys.executable else None


def _on_path(machine: Machine, name: str) -> str:
    for folder in machine.env.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{name}"
        here = machine.path(path)
        if folder.startswith("/") and os.access(here, os.X_OK) and not os.path.isdir(here):
            return path
    return ""


def _behind_shim(machine: Machine, path: str) -> str:
    """The interpreter that a pyenv shim starts; the path itself for all else."""
    root = os.path.dirname(os.path.dirname(path))
    if not path.startswith(f"{root}/shims/"):
        return path
    chosen = machine.env.get("PYENV_VERSION", "")
    folder = machine.cwd or "/"
    while not chosen and folder != "/":
        chosen = machine.text(f"{folder}/.python-version") or ""
        folder = os.path.dirname(folder)
    chosen = chosen or machine.text(f"{root}/version") or ""
    first = re.split(r"[:\s]+", chosen.strip())[0]
    # "3.12" means the newest of its patch releases.
    names = [n for n in machine.list(f"{root}/versions") if n == first or n.startswith(f"{first}.")]
    names.sort(key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    real = f"{root}/versions/{names[-1]}/bin/python" if first and names else ""
    return real if real and machine.exists(real) else path


def site_packages(machine: Machine, path: str) -> tuple[str, list[str]]:
    """The version, "3.12", and the directories of this interpreter's packages, first wins."""
    prefix = os.path.dirname(os.path.dirname(path))
    config = machine.text(f"{prefix}/pyvenv.cfg") or ""
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config, re.MULTILINE)
    real = _resolved(machine, path)
    name = re.fullmatch(_PYTHON, os.path.basename(real))
    version = name[1] if name else match[1] if match else _version_inside(machine, prefix)
    if not version:
        return "", []
    python, real_prefix = f"python{version}", os.path.dirname(os.path.dirname(real))
    own = [f"{prefix}/{lib}/{python}/site-packages" for lib in ("lib", "lib64")]
    shared = [f"{real_prefix}/{lib}/{python}/site-packages" for lib in ("lib", "lib64")]
    site = f"{real_prefix}/local/lib/{python}/dist-packages"  # Debian's pip, NVIDIA's images
    debian = f"{real_prefix}/lib/python3/dist-packages"
    told = [entry for entry in machine.env.get("PYTHONPATH", "").split(":") if entry[:1] == "/"]
    if match and not re.search(r"^include-system-site-packages\s*=\s*true", config, re.MULTILINE):
        return version.rstrip("t"), [*told, *own]
    base = machine.env.get("PYTHONUSERBASE") or f"{machine.env.get('HOME', '')}/.local"
    user = [] if machine.env.get("PYTHONNOUSERSITE") else [f"{base}/lib/{python}/site-packages"]
    folders = [*told, *(own if match else []), *user, *own, site, *shared, debian]
    return version.rstrip("t"), list(dict.fromkeys(folders))


def _version_inside(machine: Machine, prefix: str) -> str:
    """The newest version that has a library directory under a prefix."""
    found = [re.fullmatch(_PYTHON, name) for name in machine.list(f"{prefix}/lib")]
    versions = [match[1] for match in found if match]
    return max(versions, key=lambda text: int(text.rstrip("t").split(".")[1]), default="")


def _resolved(machine: Machine, path: str) -> str:
    """The path behind symbolic links, as the machine itself would follow them."""
    if machine.live:
        return os.path.realpath(path)
    for _ in range(_LINKS):
        target = machine.link(path)
        if not target:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path
