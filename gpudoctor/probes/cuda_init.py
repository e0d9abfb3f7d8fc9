"""Initialise a vendor's runtime and count its GPUs: foreign code, for isolated probes only."""

import ctypes
from typing import Any

from msgspec import Struct

from gpudoctor.data import table


class Started(Struct, frozen=True):
    """What the runtime returned. The code is the first that is not 0."""

    code: int
    name: str
    devices: int = 0
    version: tuple[int, int] | None = None


def start_cuda(library: Any) -> Started:
    """cuInit and cuDeviceGetCount of a loaded libcuda. No context is made, no memory taken."""
    number = ctypes.c_int()
    version = None
    # Also where initialising fails: the version stands in the library.
    if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
        version = number.value // 1000, number.value % 1000 // 10
    code = library.cuInit(0)
    count = ctypes.c_int()
    code = code or library.cuDeviceGetCount(ctypes.byref(count))
    return Started(code, _cuda_name(library, code), count.value if code == 0 else 0, version)


def start_hip(library: Any) -> Started:
    """hipInit and hipGetDeviceCount of a loaded libamdhip64."""
    code = library.hipInit(0)
    count = ctypes.c_int()
    code = code or library.hipGetDeviceCount(ctypes.byref(count))
    library.hipGetErrorName.restype = ctypes.c_char_p
    name = (library.hipGetErrorName(code) or b"").decode("ascii", "replace") if code else ""
    return Started(code, name, count.value if code == 0 else 0)


def _cuda_name(library: Any, code: int) -> str:
    if code == 0:
        return ""
    text = ctypes.c_char_p()
    if library.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value:
        return text.value.decode("ascii", "replace")
    names: dict[int, str] = {row["code"]: row["name"] for row in table("cuda_codes")["codes"]}
    return names.get(code, f"CUDA error {code}")
