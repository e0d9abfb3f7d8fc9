"""Measure all-reduces: `python all_reduce.py SECONDS launch OPTIONS` starts the ranks by torchrun.

Run by the training job's own Python, 3.8 or newer, with the standard library and torch only; each
rank is `python all_reduce.py SECONDS rank [BYTES...]`: these sizes, or all from small to large.
Every rank writes what it begins, and rank 0 what is known, each as one line of JSON behind MARK to
what stdout was at the start. So it is not lost when a later step hangs or crashes.
"""

from __future__ import annotations  # read by Python 3.8 too

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate
from typing import Any

MARK = "gpudoctor:all_reduce:"
SMALL = (8, 64, 512, 4096)  # for latency
FIRST, TIMES = 16 << 10, 4  # the sizes after those
MOST = {"cuda": 4 << 30, "cpu": 64 << 20}  # bytes; nothing is learnt from more
SHARE = {"cuda": 8, "cpu": 16}  # of the free memory, all ranks together on a CPU
WARM_UP = 3
SAMPLES, FEWEST = 12, 3
LONG = 0.1  # seconds of one sample: shorter all-reduces are timed several at once
AT_ONCE, SHORT = 4, 0.25  # so many, if shorter: ranks that are uneven differ less over several
EACH = 1.5  # seconds for one size, but for the fewest samples
PATIENCE = 6.0  # seconds for those: a larger size is not begun
APART = 0.4  # seconds until the last size is measured again: what disturbed it may be over
BLOCK = 4 << 20  # numbers that are filled and compared at once
EXACT = 1 << 24  # every whole number up to this one is a float32
HANGS = {"nccl": 60, "gloo": 20}  # seconds; NCCL looks for its ways before the first of all
MARGIN = 2.0  # seconds before the end of our time, in which a rank says what it waits for
LATER = 0.5  # seconds, in which other ranks say what they know before torchrun ends them
LOG_DIR = "GPUDOCTOR_TORCHRUN_LOGS"


def main() -> None:
    seconds, what = float(sys.argv[1]), sys.argv[2]
    signal.alarm(int(seconds) + 1)  # whoever waits for us is gone by then
    die_with_parent()
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != here]
    if what == "launch":
        launch(sys.argv[3:])
    else:
        run([int(size) for size in sys.argv[3:]], time.monotonic() + seconds - MARGIN)


def launch(options: list[str]) -> None:
    """Become torchrun, whose log files stay empty."""
    from torch.distributed.run import main as torchrun

    torchrun([f"--log_dir={os.environ[LOG_DIR]}", *options])


def run(sizes: list[int], end: float) -> None:
    answer = os.dup(1)
    os.dup2(2, 1)
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if local_rank == 0:
        shutil.rmtree(os.environ[LOG_DIR], ignore_errors=True)  # nobody else may be left to

    def tell(**more: Any) -> None:
        line = (MARK + json.dumps({"rank": rank, **more}) + "\n").encode()
        while line:
            line = line[os.write(answer, line) :]

    try:
        tell(step="import torch")
        import torch
        import torch.distributed

        sweep(torch, tell, local_rank, sizes, end)
    except Exception as error:
        tell(error=words(error))
        time.sleep(LATER)
        os._exit(1)
    tell(step="done")
    os._exit(0)  # what a driver does at the end takes time, and may hang


def sweep(
    torch: Any, tell: Callable[..., None], local_rank: int, sizes: list[int], end: float
) -> None:
    ring = Ring(torch, tell, local_rank, end)
    if sizes:
        for size in sizes:
            ring.measured(size)
        return
    most = ring.most_bytes()
    size, seconds = SMALL[0], 0.0
    while True:
        seconds = ring.measured(size)
        following = next((s for s in SMALL if s > size), max(FIRST, size * TIMES))
        # Far above the latency the time grows as the size does.
        needed = (WARM_UP + FEWEST) * seconds * (following / size if size >= FIRST else 1)
        left = end - time.monotonic() - 2 * EACH
        if following > most:
            if most < MOST[ring.device.type]:
                ring.tell_first(unfinished=f"no more than {size} bytes: memory")
            break
        if ring.agree(needed > min(left, PATIENCE)):
            why = "no time was left" if needed > left else f"it would take over {PATIENCE:.0f} s"
            ring.tell_first(unfinished=f"no more than {size} bytes: {why}")
            break
        size = following
    if not ring.agree(end - time.monotonic() < 2 * PATIENCE):
        time.sleep(APART)
        ring.measured(size, again=True)


class Ring:
    """All ranks together, as one of them sees it.

    What the ranks tell each other goes over torchrun's store, not by what is being tried.
    """

    def __init__(self, torch: Any, tell: Callable[..., None], local_rank: int, end: float) -> None:
        self.torch, self.tell, self.end = torch, tell, end
        self.distributed = distributed = torch.distributed
        tell(step="meet")
        timeout = timedelta(seconds=max(1.0, end - time.monotonic()))
        self.store, self.rank, self.ranks = next(distributed.rendezvous("env://", timeout=timeout))
        self.local_ranks = int(os.environ["LOCAL_WORLD_SIZE"])
        self.patience = timeout  # ranks are still coming
        self.asked = 0
        cuda = attempt(torch.cuda.is_available) and attempt(distributed.is_nccl_available)
        able = bool(cuda) and torch.cuda.device_count() >= self.local_ranks
        self.backend = "nccl" if all(self.told(able)) else "gloo"
        self.device = torch.device("cpu")
        gpu: list[Any] = ["", "", None]
        if self.backend == "nccl":
            self.device = torch.device("cuda", local_rank)
            torch.cuda.set_device(self.device)
            gpu = described(torch, self.device)
        known = self.told(gpu)
        left = max(1.0, end - time.monotonic())
        self.patience = timedelta(seconds=min(HANGS[self.backend], left / 2))
        self.tell_first(
            backend=self.backend,
            device=self.device.type,
            torch=str(torch.__version__),
            ranks=self.ranks,
            nodes=max(1, self.ranks // self.local_ranks),
            gpus=[name for name, _, _ in known if name],
            bus_ids=[bus_id for name, bus_id, _ in known if name],
            busy=[
                f"the GPU of rank {number} was {percent} % busy"
                for number, (_, _, percent) in enumerate(known)
                if percent
            ],
        )
        tell(step="connect")
        distributed.init_process_group(
            self.backend,
            store=distributed.PrefixStore("all_reduce", self.store),
            rank=self.rank,
            world_size=self.ranks,
            timeout=self.patience,
        )
        # Sums of rank's weight times position's value stay whole numbers below EXACT.
        weights = [number % 64 + 1 for number in range(self.ranks)]
        self.weight, self.weights = weights[self.rank], sum(weights)
        self.period = max(1, min(997, EXACT // self.weights - 1)) | 1
        block = self.period * (BLOCK // self.period)
        self.values = torch.arange(block, device=self.device) % self.period + 1
        self.values = self.values.float()

    def told(self, mine: Any) -> list[Any]:
        """What each rank says here, by rank."""
        self.asked += 1
        self.store.set(f"gpudoctor/{self.asked}/{self.rank}", json.dumps(mine))
        return [self.heard(f"gpudoctor/{self.asked}/{rank}", rank) for rank in range(self.ranks)]

    def heard(self, key: str, rank: int) -> Any:
        try:
            self.store.wait([key], self.patience)
        except RuntimeError:
            seconds = self.patience.total_seconds()
            raise RuntimeError(f"nothing from rank {rank} in {seconds:.0f} s") from None
        return json.loads(self.store.get(key))

    def agree(self, mine: bool) -> bool:
        """What rank 0 says: clocks and figures differ a little."""
        self.asked += 1
        key = f"gpudoctor/{self.asked}"
        if self.rank == 0:
            self.store.set(key, json.dumps(mine))
        return bool(self.heard(key, 0))

    def tell_first(self, **more: Any) -> None:
        if self.rank == 0:
            self.tell(**more)

    def most_bytes(self) -> int:
        """The largest size for which all ranks have memory."""
        if self.device.type == "cuda":
            free = self.torch.cuda.mem_get_info(self.device)[0]
        else:
            free = free_memory() // self.local_ranks
        least: int = min(self.told(int(free)))
        return min(MOST[self.device.type], least // SHARE[self.device.type])

    def measured(self, size: int, again: bool = False) -> float:
        """The seconds of one all-reduce of so many bytes; what was found is told."""
        self.tell(step=f"all-reduce of {size} bytes")
        buffer = self.torch.empty(size // 4, device=self.device)
        before = self.checked(buffer)
        # All go by the slowest: ranks that differed here would wait for each other for ever.
        for _ in range(WARM_UP):
            one = max(self.told(self.sample(buffer, 1)))
        batch = max(AT_ONCE if one < SHORT else 1, min(2000, int(LONG / one)))
        if batch > 1:
            one = max(self.told(self.sample(buffer, batch)))
        count = max(FEWEST, min(SAMPLES, int(EACH / (one * batch))))
        self.distributed.all_reduce(buffer)
        own = [self.sample(buffer, batch) for _ in range(count)]
        after = self.checked(buffer)
        each = self.told([before or after, own])
        by_rank = [times for _, times in each]
        # From when the last rank was through with one sample to when the last was with the next:
        # the longest time of each would count again what a rank only waited for.
        columns = zip(*map(accumulate, by_rank))  # noqa: B905  # Python 3.8
        ends = [0.0, *map(max, columns)]
        slowest = sorted(ends[number + 1] - ends[number] for number in range(count))
        seconds = middle(slowest)
        factor = 2 * (self.ranks - 1) / self.ranks
        point = {
            "bytes": size,
            "iterations": batch * count,
            "seconds": seconds,
            "low_seconds": slowest[int(0.1 * (count - 1))],
            "high_seconds": slowest[-1 - int(0.1 * (count - 1))],
            "algbw": size / seconds,
            "busbw": size / seconds * factor,
        }
        own_busbw = [size / middle(sorted(times)) * factor for times in by_rank]
        self.tell_first(**{"again" if again else "point": point}, ranks_busbw=own_busbw)
        if faults := [said for said, _ in each if said]:
            self.tell_first(wrong=faults[0])
        return seconds

    def sample(self, buffer: Any, times: int) -> float:
        """The seconds of one all-reduce, of so many that follow each other at once."""
        reduce = self.distributed.all_reduce
        if self.device.type == "cuda":
            event = self.torch.cuda.Event
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            for _ in range(times):
                reduce(buffer)
            end.record()
            end.synchronize()
            return max(float(start.elapsed_time(end)) / 1e3 / times, 1e-9)
        began = time.perf_counter()
        for _ in range(times):
            reduce(buffer)
        return (time.perf_counter() - began) / times

    def checked(self, buffer: Any) -> str:
        """What is wrong with a sum of numbers that differ by rank and position; or empty."""
        step = len(self.values)
        for start in range(0, len(buffer), step):
            part = buffer[start : start + step]
            part.copy_(self.values[: len(part)]).mul_(self.weight)
        self.distributed.all_reduce(buffer)
        for start in range(0, len(buffer), step):
            part = buffer[start : start + step]
            right = self.values[: len(part)] * self.weights
            if not self.torch.equal(part, right):
                bad = (part != right).nonzero()
                at = int(bad[0])
                return (
                    f"rank {self.rank}, {len(buffer) * 4} bytes, number {start + at}:"
                    f" {float(part[at]):.9g} instead of {float(right[at]):.9g}"
                    f" ({len(bad)} wrong)"
                )
        return ""


def described(torch: Any, device: Any) -> list[Any]:
    """A GPU's name, its bus id where torch tells it, and how busy it is, where that is known."""
    known = torch.cuda.get_device_properties(device)
    bus_id = ""
    if hasattr(known, "pci_bus_id"):
        domain, bus, slot = known.pci_domain_id, known.pci_bus_id, known.pci_device_id
        bus_id = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return [known.name, bus_id, attempt(lambda: int(torch.cuda.utilization(device)))]


def middle(values: list[float]) -> float:
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def free_memory() -> int:
    """Bytes that this process and others may still take: of the host, and of our cgroup."""
    free = 1 << 60
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        for folder in cgroups():
            try:
                with open(folder + limit) as file, open(folder + used) as other:
                    free = min(free, int(file.read()) - int(other.read()))
            except (OSError, ValueError):  # "max"
                continue
    return max(0, free)


def cgroups() -> list[str]:
    """Our cgroup and those above, as far as they are seen from here."""
    found = ["/sys/fs/cgroup/"]
    try:
        with open("/proc/self/cgroup") as file:
            own = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    except OSError:
        own = "/"
    while own not in ("", "/"):
        found.append(f"/sys/fs/cgroup{own}/")
        own = os.path.dirname(own)
    return found


def die_with_parent() -> None:
    """torchrun puts its ranks into sessions of their own: whoever ends it must end them too."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        pass  # the alarm is left


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
