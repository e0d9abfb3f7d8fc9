"""A stand-in for torch, for any Python from 3.8 on. It behaves as $FAKE_TORCH says, in JSON:

{"at": {STEP: CODE}, "devices": [{"name", "cc", "gcn", "memory", "wrong", "speed", "busy"}],
"archs", "nccl"}. CODE is run at that step: "import", "is_available", "init", "multiply", "copy".
A device's "speed" is {"h2d", "d2h", "memory": GB/s, "tflops", "slow_first": N}: its first N works
take ten times as long. Events read a clock that only work moves on.
"""

import json
import os
import sys
import time
import warnings

PLAN = json.loads(os.environ.get("FAKE_TORCH", "{}"))
DEVICES = [{**known, "number": n} for n, known in enumerate(PLAN.get("devices", []))]
for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
    if os.environ.get(name):
        DEVICES = [DEVICES[int(word)] for word in os.environ[name].split(",")]
        break
SPEED = {"h2d": 55.0, "d2h": 53.0, "memory": 2600.0, "tflops": 700.0}
uint8, float16, bfloat16 = "torch.uint8", "torch.float16", "torch.bfloat16"


def at(step, **names):
    tools = {"os": os, "sys": sys, "time": time, "warnings": warnings, **names}
    exec(PLAN.get("at", {}).get(step, ""), tools)


at("import")

from . import clock, cuda, distributed, version  # noqa: E402, F401

__version__ = version.__version__


class Tensor:
    def __init__(self, index=None, wrong=0, size=0, pinned=False):
        self.index, self.wrong = index, wrong
        self.size, self.pinned = size, pinned

    def copy_(self, source, non_blocking=False):
        ways = {(True, False): "h2d", (False, True): "d2h", (False, False): "memory"}
        way = ways[source.index is None, self.index is None]
        assert way == "memory" or (self.pinned or source.pinned)
        index = source.index if self.index is None else self.index
        at("copy", index=index, way=way)
        work(index, way, self.size * (2 if way == "memory" else 1) / 1e9)
        return self

    def __mod__(self, other):
        return self

    def __sub__(self, other):
        return self

    def __ne__(self, other):
        return self

    def __matmul__(self, other):
        if self.index is None:
            return self
        at("multiply", index=self.index)
        return Tensor(self.index, DEVICES[self.index].get("wrong", 0))

    def reshape(self, *shape):
        return self

    def float(self):
        return self

    def to(self, where):
        return Tensor(where[1])

    def cpu(self):
        return self

    def sum(self):
        return self.wrong


def arange(count):
    return Tensor()


def work(index, way, amount):
    speed = {**SPEED, **DEVICES[index].get("speed", {})}
    clock.works += 1
    slow = 10 if clock.works <= speed.get("slow_first", 0) else 1
    clock.seconds += slow * amount / speed[way]


def zeros(*shape, dtype=None, device=None, pin_memory=False):
    size = 1
    for side in shape:
        size *= side
    return Tensor(device[1] if device else None, size=size, pinned=pin_memory)


randn = empty = zeros


def mm(left, right, out):
    at("multiply", index=left.index)
    work(left.index, "tflops", 2 * left.size**1.5 / 1e12)
    return out


class device(tuple):  # noqa: N801
    def __new__(cls, kind, index):
        return super().__new__(cls, (kind, index))

    @property
    def type(self):
        return self[0]


class _C:
    @staticmethod
    def _cuda_getArchFlags():  # noqa: N802
        return PLAN.get("archs")
