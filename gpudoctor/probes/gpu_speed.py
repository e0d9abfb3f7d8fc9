"""Let the job's own Python measure its GPUs, each in a process of its own, one after the other."""

import os
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from gpudoctor.facts.gpu_speed import GpuRates, GpuSpeed
from gpudoctor.probes import Machine, probe, signs
from gpudoctor.probes.job_python import job_python
from gpudoctor.probes.pytorch import Ended, ask, last_answer, seconds_left
from gpudoctor.snapshot import Absent

SCRIPT = os.path.join(os.path.dirname(__file__), "foreign", "gpu_speed.py")
START = 120.0  # seconds to import torch for the first time and to count
EACH = 60.0  # for one GPU: torch again, then about 3 s of work
TIMEOUT = 1200.0  # 16 GPUs that all hang
TOO_LITTLE = 2.0  # not worth starting


@probe(isolated=True, timeout=TIMEOUT, deep=True, unless=signs.no_gpu)
def gpu_speed(machine: Machine) -> GpuSpeed | Absent:
    """Copies and products on every GPU that the job's torch uses."""
    if not machine.live:
        return Absent("nothing is run under --root")
    python = job_python(machine)
    if isinstance(python, Absent):
        return python
    return measured(machine, python.path, seconds_left())


def measured(
    machine: Machine, python: str, seconds: float, each: float = EACH
) -> GpuSpeed | Absent:
    """All GPUs that torch of this Python uses, in so many seconds for all and for each."""
    end = time.monotonic() + seconds
    load = (machine.text("/proc/loadavg") or "").partition(" ")[0]
    counted = parse_count(_script(machine, python, "count", machine.env, START, end))
    if isinstance(counted, Absent):
        return Absent(f"{python}: {counted.absent}", counted.broken)
    count, hip = counted
    devices: list[GpuRates] = []
    for index in range(count):
        if end - time.monotonic() < TOO_LITTLE:
            break
        started = time.monotonic()
        env = only(machine.env, index, hip=hip)
        ended = _script(machine, python, "measure", env, each, end)
        devices.append(parse_rates(ended, index, time.monotonic() - started))
    left = f"no time was left for {count - len(devices)} of {count} GPUs"
    return GpuSpeed(
        devices=tuple(devices),
        load_average=float(load) if load else None,
        cpus=os.cpu_count(),
        unfinished=left if len(devices) < count else "",
    )


def only(env: Mapping[str, str], index: int, *, hip: bool) -> dict[str, str]:
    """The environment in which torch sees but this one of the GPUs that it sees in `env`."""
    names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if hip else ("CUDA_VISIBLE_DEVICES",)
    value = next((env[name] for name in names if env.get(name)), "")
    word = value.split(",")[index].strip() if value else str(index)
    # ROCm's torch refuses to start when the two variables differ.
    kept = {name: value for name, value in env.items() if name not in names}
    return {**kept, names[0]: word}


def parse_count(ended: Ended) -> tuple[int, bool] | Absent:
    """How many GPUs torch uses and whether it is built for HIP, or why that is not known."""
    found, trouble = _parsed(ended)
    if re.match(r"ModuleNotFoundError: No module named 'torch'", trouble):
        return Absent("no torch")
    if trouble:
        return Absent(trouble, broken=True)
    if not found["count"]:
        return Absent("torch uses no GPU: see torch-cuda")
    return found["count"], found["hip"]


def parse_rates(ended: Ended, index: int, seconds: float) -> GpuRates:
    """What is known of a GPU, however far the script came."""
    found, trouble = _parsed(ended)
    known = {name: found[name] for name in found if name in GpuRates.__struct_fields__}
    known.update(index=index, error=trouble, seconds=round(seconds, 1))
    return msgspec.convert(known, GpuRates)


def _parsed(ended: Ended) -> tuple[dict[str, Any], str]:
    """What the script knew, and why it does not know more; empty: it came to its end."""
    from gpudoctor.probes.foreign.gpu_speed import MARK  # not for those who do not measure

    found = last_answer(ended, MARK) or {}
    how = ended.how or "ended without an answer"
    if not found:
        return found, ": ".join(filter(None, (how, ended.last_words)))
    if error := found.get("error", ""):
        return found, error
    step = found["step"]
    return found, "" if step == "done" else f"{ended.how or 'it ended'}: {step}"


def _script(
    machine: Machine, python: str, what: str, env: Mapping[str, str], most: float, end: float
) -> Ended:
    seconds = round(max(0.5, min(most, end - time.monotonic())), 1)
    return ask(python, SCRIPT, what, seconds=seconds, env=env, cwd=machine.cwd)
