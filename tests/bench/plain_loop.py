"""One rank: the probe's own measurement of one size, and a plain loop beside it, in turn.

`plain_loop.py SCRIPT BYTES ROUNDS`, under torchrun; rank 0 prints [ours, plain] of each round in
seconds, as JSON. A plain loop follows every sample of the probe's, so that a busy moment hits both.
"""

import importlib.util
import json
import os
import sys
import time
from statistics import median

import torch
import torch.distributed

script, size, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spec = importlib.util.spec_from_file_location("all_reduce", script)
assert spec
assert spec.loader
probe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(probe)

points: list[dict] = []
plain: list[float] = []


def tell(**more):
    points.extend(more[name] for name in ("point",) if name in more)


ring = probe.Ring(torch, tell, int(os.environ["LOCAL_RANK"]), time.monotonic() + 600)
sample, own = ring.sample, torch.ones(size // 4, device=ring.device)


def both(buffer, times):
    ours = sample(buffer, times)
    if ring.device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        torch.distributed.all_reduce(own)
    if ring.device.type == "cuda":
        torch.cuda.synchronize()
    plain.append((time.perf_counter() - begin) / times)
    return ours


ring.sample = both
found = []
for _ in range(rounds):
    plain.clear()
    ring.measured(size)
    if ring.rank == 0:
        found.append([points[-1]["seconds"], median(plain[probe.WARM_UP :])])
if ring.rank == 0:
    print(json.dumps(found), flush=True)
os._exit(0)
