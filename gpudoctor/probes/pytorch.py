"""Read PyTorch's files, and ask the job's own Python to import it."""

import contextlib
import os
import re
import signal
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.pytorch import TorchBuild, TorchRun
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.job_python import job_python, site_packages
from gpudoctor.snapshot import Absent

SCRIPT = os.path.join(os.path.dirname(__file__), "foreign", "torch_run.py")
GRACE = 0.5  # seconds that a killed process gets to go
ASK = "imports torch (some seconds): gpudoctor check torch"


class Ended(Struct, frozen=True):
    """What the script said, and how it ended: "SIGSEGV", "no answer in 20 s"; empty: well."""

    said: str
    how: str
    last_words: str  # of stderr
    stderr: str = ""


@probe(isolated=True)
def torch_build(machine: Machine) -> TorchBuild | Absent:
    """torch of the job's Python, by its files."""
    python = job_python(machine)
    if isinstance(python, Absent):
        return python
    for folder in site_packages(machine, python.path)[1]:
        text = machine.text(f"{folder}/torch/version.py")
        if text is not None or machine.exists(f"{folder}/torch/__init__.py"):
            return _described(machine, folder, text or "", python)
    return Absent(f"no torch in {python.path}")


@probe(isolated=True, timeout=300.0, slow=ASK)
def torch_run(machine: Machine) -> TorchRun | Absent:
    """torch, imported and tried by the job's Python."""
    if not machine.live:
        return Absent("nothing is run under --root")
    python = job_python(machine)
    if isinstance(python, Absent):
        return python
    env, cwd = machine.env, machine.cwd
    ended = ask(python.path, SCRIPT, seconds=seconds_left(), env=env, cwd=cwd)
    return parse_run(ended, python.path)


def parse_version(text: str) -> dict[str, str]:
    """What torch/version.py assigns: __version__, cuda, hip; None and what is missing left out."""
    found = re.findall(r"^(\w+)\s*(?::[^=\n]*)?=\s*['\"]([^'\"\n]+)['\"]", text, re.MULTILINE)
    return {name: value for name, value in found if name in ("__version__", "cuda", "hip")}


def parse_pin(metadata: str) -> str:
    """The NCCL that a wheel's METADATA requires: "nvidia-nccl-cu12 2.27.5"; empty: none."""
    pattern = r"^Requires-Dist: *(nvidia-nccl-cu\d+) *\(?==([\d.]+)"
    match = re.search(pattern, metadata, re.MULTILINE)
    return f"{match[1]} {match[2]}" if match else ""


def parse_run(ended: Ended, python: str) -> TorchRun | Absent:
    """The fact, or why there is none, from the last whole line that the script wrote."""
    from gpudoctor.probes.foreign.torch_run import MARK  # not for torch_build

    found = last_answer(ended, MARK)
    if found is None:
        why = ended.how or "ended without an answer"
        return Absent(f"{python}: {': '.join(filter(None, (why, ended.last_words)))}", broken=True)
    if found.pop("missing", False):
        return Absent(f"no torch in {python}")
    step = found.pop("step")
    timed_out = ended.how.startswith("no answer")
    if step != "done":
        stopped = f"{ended.how or 'it ended'}: {step}"
        found["unfinished"] = stopped
        on_gpu = re.fullmatch(r"multiply on GPU (\d+)", step)
        if timed_out:
            if step == "import torch":
                return Absent(f"{stopped} in {python}", broken=True)
        elif step == "import torch":
            words = f": {ended.last_words}" if ended.last_words else ""
            found["import_error"] = f"{ended.how or 'it ended'}{words}"
        elif on_gpu:
            found["devices"][int(on_gpu[1])]["compute_error"] = f"it crashed: {ended.how}"
        elif not found.get("available"):
            found["reason"] = stopped
    return msgspec.convert(found, TorchRun)


def last_answer(ended: Ended, mark: str) -> dict[str, Any] | None:
    """What stands in the last whole line that a script wrote behind its mark."""
    found: dict[str, Any] | None = None
    for line in ended.said.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            found = msgspec.json.decode(line.partition(mark)[2])
    return found


def _described(machine: Machine, folder: str, text: str, python: JobPython) -> TorchBuild:
    says = parse_version(text)
    version = says.get("__version__") or python.packages.get("torch", "")
    metadata = ""
    for name in machine.list(folder):
        if re.fullmatch(r"torch-[^-]+\.dist-info", name):
            metadata = machine.text(f"{folder}/{name}/METADATA") or ""
    cuda = re.fullmatch(r"(\d+)\.(\d+).*", says.get("cuda", ""))
    wheels = [f"{n} {v}" for n, v in python.packages.items() if n.startswith("nvidia-nccl-cu")]
    return TorchBuild(
        version=version,
        cuda=(int(cuda[1]), int(cuda[2])) if cuda else None,
        hip=says.get("hip", ""),
        path=f"{folder}/torch",
        nccl_pin=parse_pin(metadata),
        nccl_wheels=tuple(sorted(wheels)),
        nccl_shadows=tuple(_preloaded(machine)),
    )


def _preloaded(machine: Machine) -> list[str]:
    """NCCL in LD_PRELOAD. LD_LIBRARY_PATH comes after the DT_RPATH of PyTorch's wheels."""
    entries = re.split(r"[ :]+", machine.env.get("LD_PRELOAD", ""))
    found = [entry for entry in entries if os.path.basename(entry).startswith("libnccl.so")]
    return [os.path.realpath(machine.path(entry)) for entry in found]


def ask(
    python: str,
    script: str,
    *arguments: str,
    seconds: float,
    env: Mapping[str, str],
    cwd: str | None = None,
) -> Ended:
    """Run one of the stand-alone scripts by another Python; it is killed if it takes longer."""
    import subprocess  # only where torch is asked for: the import takes its time

    try:
        process = subprocess.Popen(
            [python, "-B", script, str(seconds), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
        )
    except OSError as error:
        return Ended("", f"does not start ({error.strerror})", "")
    how = ""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as late:
        process.kill()
        how = f"no answer in {seconds:.0f} s"
        out, err = late.stdout or b"", late.stderr or b""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)  # one that is stuck in the kernel is left behind
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()
    else:
        if process.returncode < 0:
            how = signal.Signals(-process.returncode).name
        elif process.returncode:
            how = f"exit code {process.returncode}"
    said, stderr = (each.decode("utf-8", "replace") for each in (out, err))
    words = [" ".join(line.split()) for line in stderr.splitlines()]
    return Ended(said, how, next(filter(None, reversed(words)), "")[:300], stderr)


def seconds_left() -> float:
    """How long the script may take, so that something is left to tell how far it came.

    The child that we are in has its alarm set to its deadline and up to 2 s more.
    """
    alarm = signal.getitimer(signal.ITIMER_REAL)[0]
    return max(0.5, alarm - 3.0) if alarm else 60.0
