"""Import torch and say how far it gets: `python torch_run.py SECONDS`.

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
import warnings
from collections.abc import Callable
from typing import Any

MARK = "gpudoctor:torch_run:"
SIDE = 512  # of the matrices


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
    torch = import_torch(found)
    if torch is None:
        tell("done")
        return
    found.update(built(torch))
    tell("torch.cuda.is_available()")
    found.update(availability(torch))
    found["devices"] = []
    if found["available"]:
        try:
            try_devices(torch, found, tell)
        except Exception as error:
            found["reason"] = words(error)
            found["available"] = False
    found["nccl_file"] = loaded_nccl()
    tell("done")
    os._exit(0)  # what a driver does at the end takes time, and may hang


def import_torch(found: dict[str, Any]) -> Any:
    started = time.monotonic()
    try:
        import torch
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            found["missing"] = True
        else:
            found["import_error"] = words(error)
        return None
    found["import_seconds"] = round(time.monotonic() - started, 3)
    if not hasattr(torch, "__version__"):
        left = list(getattr(torch, "__path__", []))
        found["import_error"] = f"nothing but a directory is left of torch: {', '.join(left)}"
        return None
    return torch


def built(torch: Any) -> dict[str, Any]:
    """What torch was built for and with."""
    distributed = getattr(torch, "distributed", None)
    backends = [
        name
        for name in ("gloo", "nccl", "mpi", "ucc")
        if attempt(getattr(distributed, f"is_{name}_available", bool))
    ]
    archs = attempt(lambda: torch._C._cuda_getArchFlags()) or ""
    version = attempt(lambda: torch.cuda.nccl.version()) or ()
    if isinstance(version, int):  # before torch 1.10
        version = (version // 1000, version // 100 % 10, version % 100)
    return {
        "version": str(torch.__version__),
        "cuda": attempt(lambda: torch.version.cuda) or "",
        "hip": attempt(lambda: torch.version.hip) or "",
        "archs": archs.split() or list(attempt(lambda: torch.cuda.get_arch_list()) or []),
        "nccl": ".".join(str(part) for part in version),
        "nccl_file": loaded_nccl(),
        "distributed": backends,
    }


def availability(torch: Any) -> dict[str, Any]:
    """Whether CUDA or HIP can be used, and if not, all that torch says about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            available = bool(torch.cuda.is_available())
            torch.cuda.init()
            reason = ""
        except Exception as error:
            available, reason = False, words(error)
    said = [words(Warning(entry.message)) for entry in caught]
    # torch warns first, and then raises the same.
    news = [text for text in said if text.rpartition("CUDA initialization: ")[2] not in reason]
    reason = "; ".join(dict.fromkeys(text for text in (reason, *news) if text))
    return {"available": available, "reason": "" if available else reason[:2000]}


def try_devices(torch: Any, found: dict[str, Any], tell: Callable[[str], None]) -> None:
    left = (torch.arange(SIDE * SIDE) % 17 - 8).reshape(SIDE, SIDE).float()
    right = (torch.arange(SIDE * SIDE) % 13 - 6).reshape(SIDE, SIDE).float()
    expected = left @ right  # whole numbers below 2**24: exact in any order, and in TF32 too
    for index in range(torch.cuda.device_count()):
        tell(f"look at GPU {index}")
        found["devices"].append(described(torch, index))
    for index, device in enumerate(found["devices"]):
        tell(f"multiply on GPU {index}")
        started = time.monotonic()
        try:
            where = torch.device("cuda", index)
            result = (left.to(where) @ right.to(where)).cpu()
            wrong = int((result != expected).sum())
            if wrong:
                device["compute_error"] = (
                    f"{wrong} of {SIDE * SIDE} elements of a product are wrong"
                )
            free, total = torch.cuda.mem_get_info(index)
            device["memory_free_bytes"], device["memory_bytes"] = int(free), int(total)
        except Exception as error:
            device["compute_error"] = words(error)
        device["compute_seconds"] = round(time.monotonic() - started, 3)


def described(torch: Any, index: int) -> dict[str, Any]:
    known = torch.cuda.get_device_properties(index)
    arch = getattr(known, "gcnArchName", "") if torch.version.hip else ""
    device = {
        "index": index,
        "name": known.name,
        "arch": arch.split(":")[0] or f"sm_{known.major}{known.minor}",
        "memory_bytes": int(known.total_memory),
    }
    if hasattr(known, "pci_bus_id"):
        domain, bus, slot = known.pci_domain_id, known.pci_bus_id, known.pci_device_id
        device["bus_id"] = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return device


def loaded_nccl() -> str:
    """The file of NCCL or RCCL that this process has mapped."""
    try:
        with open("/proc/self/maps") as file:
            for line in file:
                name = line.rstrip("\n").partition("/")[2]
                if os.path.basename(name).startswith(("libnccl.so", "librccl.so")):
                    return "/" + name
    except OSError:
        pass
    return ""


def attempt(look: Callable[[], Any]) -> Any:
    """What a look into a torch of any age or build brings; None if it has no such thing."""
    try:
        return look()
    except Exception:
        return None


def words(error: BaseException) -> str:
    text = str(error) if isinstance(error, Warning) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    return text.partition(" (Triggered internally at")[0][:2000]


if __name__ == "__main__":
    main()
