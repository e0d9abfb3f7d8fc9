"""Measure the first GPU that torch sees: `python gpu_speed.py SECONDS measure`, or `count` them.

Run by the training job's own Python, 3.8 or newer, with the standard library and torch only.
After every step all that is known goes, as one line of JSON behind MARK, to what stdout was at
the start. So it is not lost when a later step hangs or crashes, and no library's chatter mixes
with it.
"""

from __future__ import annotations  # read by Python 3.8 too

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

MARK = "gpudoctor:gpu_speed:"
ROUNDS = 5
APART = 0.4  # seconds between the starts of two rounds: what disturbs one may be over by then
ENOUGH = 0.05  # seconds of work in a round
AT_MOST = 20  # repetitions in a round
COPY_BYTES = 256 << 20
MEMORY_BYTES = 512 << 20  # with its copy four times the largest cache
SIDE, SIDE_SLOW = 8192, 2048  # of the matrices
SLOW_MS = 10.0  # for the small product; the large one takes 64 times as long

if TYPE_CHECKING:
    Work = Callable[[], Any]


def main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)
    signal.alarm(int(float(sys.argv[1])) + 1)  # whoever waits for us is gone by then
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    found: dict[str, Any] = {}

    def tell(step: str, **more: Any) -> None:
        found.update(more, step=step)
        line = (MARK + json.dumps(found) + "\n").encode()
        while line:
            line = line[os.write(answer, line) :]

    tell("import torch")
    try:
        import torch

        tell("start the driver")
        if sys.argv[2] == "count":
            used = torch.cuda.device_count() if torch.cuda.is_available() else 0
            found.update(count=used, hip=bool(torch.version.hip))
        else:
            measure(torch, found, tell)
    except Exception as error:
        found["error"] = words(error)
    tell("done")
    os._exit(0)  # what a driver does at the end takes time, and may hang


def measure(torch: Any, found: dict[str, Any], tell: Callable[..., None]) -> None:
    known = torch.cuda.get_device_properties(0)
    tell("look at the GPU", **described(torch, known))
    found["numa_bound"] = go_near(found.get("bus_id", ""))
    found["busy_percent"] = attempt(lambda: int(torch.cuda.utilization(0)))
    free, total = torch.cuda.mem_get_info(0)
    found["memory_used_bytes"] = int(total - free)
    device = torch.device("cuda", 0)
    rounds: dict[str, list[float]] = {}
    works = {}
    for name, prepare in preparations(torch, device, known, int(free)):
        tell("prepare " + name)
        works[name] = prepare()
        rounds[name] = []
    found["matmul_type"] = str(matmul_type(torch, known)).rpartition(".")[2]
    started = time.monotonic()
    for number in range(ROUNDS):
        time.sleep(max(0.0, started + number * APART - time.monotonic()))
        for name, (work, amount) in works.items():
            tell("measure " + name)
            rounds[name].append(amount / seconds_of(torch, work))
            found[name] = spread(rounds[name])


def preparations(
    torch: Any, device: Any, known: Any, free: int
) -> list[tuple[str, Callable[[], tuple[Work, float]]]]:
    """For every figure what makes its work, and how much one repetition does: 10**9 or 10**12."""
    copied, moved = min(COPY_BYTES, free // 16), min(MEMORY_BYTES, free // 8)
    pairs: list[tuple[Any, Any]] = []

    def to_gpu() -> tuple[Work, float]:
        # Copies from and to memory that may be paged out go through a buffer of the driver's.
        host = torch.zeros(copied, dtype=torch.uint8, pin_memory=device.type == "cuda")
        there = torch.zeros(copied, dtype=torch.uint8, device=device)
        pairs.append((host, there))
        return lambda: there.copy_(host, non_blocking=True), copied / 1e9

    def from_gpu() -> tuple[Work, float]:
        host, there = pairs[0]
        return lambda: host.copy_(there, non_blocking=True), copied / 1e9

    def inside() -> tuple[Work, float]:
        source = torch.zeros(moved, dtype=torch.uint8, device=device)
        target = torch.zeros(moved, dtype=torch.uint8, device=device)
        return lambda: target.copy_(source), 2 * moved / 1e9

    def product() -> tuple[Work, float]:
        kind = matmul_type(torch, known)
        work = matmul(torch, device, kind, SIDE_SLOW)
        work()  # loads the library
        if free < 6 * SIDE * SIDE * 4 or once(torch, work, 1) * 1e3 > SLOW_MS:
            return work, 2 * SIDE_SLOW**3 / 1e12
        return matmul(torch, device, kind, SIDE), 2 * SIDE**3 / 1e12

    return [
        ("h2d_gbs", to_gpu),
        ("d2h_gbs", from_gpu),
        ("memory_gbs", inside),
        ("matmul_tflops", product),
    ]


def matmul(torch: Any, device: Any, kind: Any, side: int) -> Work:
    # Random numbers: products of zeros need less power, and so run at higher clocks.
    left = torch.randn(side, side, dtype=kind, device=device)
    right = torch.randn(side, side, dtype=kind, device=device)
    result = torch.empty(side, side, dtype=kind, device=device)
    return lambda: torch.mm(left, right, out=result)


def matmul_type(torch: Any, known: Any) -> Any:
    """bfloat16 where the hardware has it: torch itself also counts GPUs that emulate it."""
    if torch.version.hip:
        arch = getattr(known, "gcnArchName", "")
        able = arch.startswith(("gfx90a", "gfx94", "gfx95", "gfx11", "gfx12"))
    else:
        able = known.major >= 8
    return torch.bfloat16 if able else torch.float16


def seconds_of(torch: Any, work: Work) -> float:
    """The seconds that one repetition takes, after one to warm up, over enough of them."""
    work()
    one = once(torch, work, 1)
    times = max(1, min(AT_MOST, int(ENOUGH / one)))
    return once(torch, work, times) / times


def once(torch: Any, work: Work, times: int) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return max(float(start.elapsed_time(end)) / 1e3, 1e-9)


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "best": round(max(values), 3),
        "worst": round(min(values), 3),
        "rounds": len(values),
    }


def described(torch: Any, known: Any) -> dict[str, Any]:
    found = {"name": known.name}
    if hasattr(known, "pci_bus_id"):
        domain, bus, slot = known.pci_domain_id, known.pci_bus_id, known.pci_device_id
        found["bus_id"] = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return found


def go_near(bus_id: str) -> bool:
    """Stay on the CPUs next to the GPU, as far as we may use them: memory follows them."""
    try:
        with open(f"/sys/bus/pci/devices/{bus_id}/local_cpulist") as file:
            near = cpus(file.read())
        near &= os.sched_getaffinity(0)
        if near:
            os.sched_setaffinity(0, near)
        return bool(near)
    except (OSError, ValueError):
        return False


def cpus(text: str) -> set[int]:
    """The CPUs of a list such as "0-15,32"."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def attempt(look: Callable[[], Any]) -> Any:
    """What a look into a torch of any age or build brings; None if it has no such thing."""
    try:
        return look()
    except Exception:
        return None


def words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:2000]


if __name__ == "__main__":
    main()
