"""A stand-in for torch, for any Python from 3.8 on. It behaves as $FAKE_TORCH says, in JSON:

{"at": {STEP: CODE}, "devices": [{"name", "cc", "gcn", "memory", "wrong"}], "archs", "nccl"}.
CODE is run at that step: "import", "is_available", "init", "multiply".
"""

import json
import os
import sys
import time
import warnings

PLAN = json.loads(os.environ.get("FAKE_TORCH", "{}"))
DEVICES = PLAN.get("devices", [])


def at(step, **names):
    tools = {"os": os, "sys": sys, "time": time, "warnings": warnings, **names}
    exec(PLAN.get("at", {}).get(step, ""), tools)


at("import")

from . import cuda, distributed, version  # noqa: E402, F401

__version__ = version.__version__


class Tensor:
    def __init__(self, index=None, wrong=0):
        self.index, self.wrong = index, wrong

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


def device(kind, index):
    return kind, index


class _C:
    @staticmethod
    def _cuda_getArchFlags():  # noqa: N802
        return PLAN.get("archs")
