"""Make the header with which amdsmi.c becomes the library of one release of the amdsmi binding.

All that the binding binds at import is there; what amdsmi.c does not do answers NOT_SUPPORTED.
Layouts are the binding's own, so they cannot be stale.
"""

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("amdsmi.c")
STRUCTS = ("asic_info", "driver_info", "proc_info", "violation_status", "memory_usage_")
NOT_SUPPORTED = 2


class _Anything:
    """A library that has every symbol, to read layouts without having one."""

    def __getattr__(self, name: str) -> "_Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything()
        setattr(self, name, value)
        return value


def header(wrapper: Path, without: Sequence[str] = ()) -> str:
    """The text of layout.h for a binding's amdsmi_wrapper.py, less some symbols."""
    return "\n".join([*_layouts(wrapper), *_stubs(wrapper, without), ""])


def _layouts(wrapper: Path) -> list[str]:
    real = ctypes.CDLL
    names: dict[str, Any] = {"__file__": str(wrapper), "__name__": "wrapper"}
    try:
        ctypes.CDLL = lambda *args, **kwargs: _Anything()  # type: ignore
        exec(compile(wrapper.read_text(), str(wrapper), "exec"), names)
    finally:
        ctypes.CDLL = real  # type: ignore
    lines = []
    for used in STRUCTS:
        kind = names.get(f"amdsmi_{used}_t") or names[f"struct_{used}"]
        lines.append(f"#define SIZE_{used} {ctypes.sizeof(kind)}")
        for field, *_ in kind._fields_:
            place = getattr(kind, field)
            lines.append(f"#define AT_{used}_{field} {place.offset}")
            lines.append(f"#define LENGTH_{used}_{field} {place.size}")
    return lines


def _stubs(wrapper: Path, without: Sequence[str]) -> list[str]:
    bound = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper.read_text()))
    written = set(re.findall(r"^uint32_t (\w+)\(", SOURCE.read_text(), re.MULTILINE))
    rest = sorted(bound - written - set(without))
    return [f"uint32_t {name}(void) {{ return {NOT_SUPPORTED}; }}" for name in rest]
