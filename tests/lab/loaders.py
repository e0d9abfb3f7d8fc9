"""Ranks that read batches from real DataLoaders; prints how much of /dev/shm was used.

For each job: the most while every rank was at its first step, and the most while they went on.

Its one argument is JSON: a list of jobs, each as test_shm.py has them. The ranks and their
workers are forked from here, so torch is imported once. With "wait" in a job it says when its
loaders are full, and ends once stdin has ended.
"""

import json
import os
import pathlib
import signal
import sys
import time
from typing import Any

import torch
from torch.utils.data import DataLoader

PATIENCE = 60.0  # seconds until all batches must be in flight


class Samples:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(self.count, dtype=torch.uint8)


def used() -> int:
    found = os.statvfs("/dev/shm")
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def free() -> int:
    found = os.statvfs("/dev/shm")
    return found.f_bavail * found.f_frsize


def rank(job: dict[str, Any], number: int, go: int) -> None:
    """Read for ever, once `go` is closed; `ahead` batches are fetched before they are needed."""
    strategies = job.get("strategies", ["file_descriptor"])
    torch.multiprocessing.set_sharing_strategy(strategies[number % len(strategies)])
    samples = Samples(job["batch_bytes"] // job.get("batch", 1))
    loaders = [
        DataLoader(
            samples,
            batch_size=job.get("batch", 1),
            num_workers=job["workers"],
            prefetch_factor=job["prefetch"],
            persistent_workers=True,
            multiprocessing_context=job.get("context"),
        )
        for _ in range(job.get("loaders", 1))
    ]
    readers = [iter(loader) for loader in loaders]
    kept = [[next(reader) for _ in range(1 + job.get("ahead", 0))] for reader in readers]
    os.read(go, 1)
    while True:
        time.sleep(0.05)
        for reader, batches in zip(readers, kept, strict=True):
            batches.append(next(reader))
            batches.pop(0)


def most(job: dict[str, Any]) -> tuple[int, int]:
    """The most that the job's ranks use together: at first, and at all."""
    before, steady, until = used(), 0, time.monotonic() + PATIENCE
    go, start = os.pipe()
    ranks = []
    for number in range(job.get("ranks", 1)):
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            os.close(start)
            rank(job, number, go)
        ranks.append(pid)
    os.close(go)
    while time.monotonic() < until and steady < job["expected"] and free() > job["batch_bytes"]:
        steady = max(steady, used() - before)
        time.sleep(0.001)
    if job.get("wait"):
        print("full", *ranks, flush=True)
        sys.stdin.read()
        end(ranks)
        sys.exit()
    steady = max(steady, most_within(job.get("hold", 0.1)) - before)
    os.close(start)
    peak = max(steady, most_within(0.25) - before)
    if steady < job["expected"]:  # a worker found no room, which its rank will hear of
        sys.exit(f"ended: {os.waitpid(ranks[0], 0)[1]}")
    end(ranks)
    gone = time.monotonic() + PATIENCE
    while used() > before and time.monotonic() < gone:
        for left in pathlib.Path("/dev/shm").glob("torch_*"):
            left.unlink(missing_ok=True)
        time.sleep(0.01)
    return steady, peak


def end(ranks: list[int]) -> None:
    for pid in ranks:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def most_within(seconds: float) -> int:
    peak, until = used(), time.monotonic() + seconds
    while time.monotonic() < until:
        peak = max(peak, used())
        time.sleep(0.001)
    return peak


if __name__ == "__main__":
    print(json.dumps([most(job) for job in json.loads(sys.argv[1])]))
