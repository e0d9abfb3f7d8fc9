"""AMD SMI's Python library, for what sysfs lacks: throttling, links that are down, names.

It binds hundreds of symbols when it is imported, so it works only with the very release of
libamd_smi.so that it was made for, and then raises whatever it likes. It gets a process of its
own: should it hang or crash, KFD and sysfs have still been read.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.collect import collect
from gpudoctor.data import table
from gpudoctor.facts.gpus import Gpu, GpuProcess, Link
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.amd_kfd import with_errors
from gpudoctor.probes.in_time import in_time
from gpudoctor.snapshot import Absent, Fact

TIMEOUT = 5.0
NOT_SUPPORTED = 2  # AMDSMI_STATUS_NOT_SUPPORTED
STACK = 8 << 20  # bytes, as C++ is used to
SAMPLE = 2.0  # seconds; a violation status is the difference of two readings 0.1 s apart


class SmiGpu(Struct, frozen=True, kw_only=True):
    """What the library adds to a GPU."""

    name: str = ""
    throttle: tuple[str, ...] | None = None
    processes: tuple[GpuProcess, ...] | None = None
    xgmi_errors: int | None = None
    links_down: tuple[int, ...] = ()
    unread: Mapping[str, str] = {}


class AmdSmi(Fact, frozen=True, kw_only=True):
    """The library's answers by bus id."""

    gpus: Mapping[str, SmiGpu] = {}
    driver: str = ""
    remarks: tuple[str, ...] = ()


def amd_smi(machine: Machine) -> AmdSmi:
    """Ask the library, if there is one; why it did not work is a remark."""
    if not machine.live:
        return AmdSmi()
    asked = collect([probe(isolated=True, timeout=TIMEOUT)(_ask)], machine)
    answer = asked.facts["amd_smi"]
    if isinstance(answer, Absent):
        return AmdSmi(remarks=(f"amdsmi cannot be used: {answer.absent}",))
    return answer  # type: ignore[no-any-return]


def with_smi(gpu: Gpu, smi: SmiGpu | None) -> Gpu:
    """A GPU with what the library knows beside KFD and sysfs."""
    if smi is None:
        return gpu
    links = gpu.links
    if links is not None:
        if smi.xgmi_errors is not None and all(link.errors is None for link in links):
            links = with_errors(links, smi.xgmi_errors)
        links += tuple(Link(number=number, active=False) for number in smi.links_down)
    return replace(
        gpu,
        name=smi.name or gpu.name,
        throttle=smi.throttle,
        processes=smi.processes if gpu.processes is None else gpu.processes,
        links=links,
        unread={**gpu.unread, **smi.unread},
    )


def _ask(machine: Machine) -> AmdSmi:
    smi, remarks = _library(machine)
    if smi is None:
        return AmdSmi(remarks=remarks)
    smi.amdsmi_init()
    handles = smi.amdsmi_get_processor_handles()
    sampled = in_time([_violations(smi, handle) for handle in handles], SAMPLE, STACK)
    gpus, driver = {}, ""
    for handle, violations in zip(handles, sampled, strict=True):
        unread: dict[str, str] = {}
        gpus[str(smi.amdsmi_get_gpu_device_bdf(handle)).lower()] = _gpu(
            smi, handle, violations, unread
        )
        info = _call(smi, "driver_info", handle, "", unread)
        driver = driver or _word((info or {}).get("driver_version"))
    return AmdSmi(gpus=gpus, driver=driver, remarks=remarks)


def _library(machine: Machine) -> tuple[Any, tuple[str, ...]]:
    """The first library that can be imported, ROCm's own before an installed one."""
    roots = dict.fromkeys([machine.env.get("ROCM_PATH") or "/opt/rocm", "/opt/rocm"])
    folders = [f"{root}/share/amd_smi" for root in roots]
    remarks: list[str] = []
    for folder in [*(f for f in folders if os.path.isdir(f"{f}/amdsmi")), ""]:
        try:
            return _imported(folder), tuple(remarks)
        except ModuleNotFoundError as error:
            if error.name != "amdsmi":
                remarks.append(_why_not(folder, error))
        except BaseException as error:  # KeyError without its library, AttributeError with another
            remarks.append(_why_not(folder, error))
    return None, tuple(remarks) or ("amdsmi is not installed: throttling is not known",)


def _imported(folder: str) -> ModuleType:
    for name in [name for name in sys.modules if name.partition(".")[0] == "amdsmi"]:
        del sys.modules[name]
    before = list(sys.path)
    sys.path[:0] = [folder] if folder else []
    try:
        return importlib.import_module("amdsmi")
    finally:
        sys.path[:] = before


def _why_not(folder: str, error: BaseException) -> str:
    where = f"amdsmi of {folder}" if folder else "the installed amdsmi"
    return f"{where} cannot be used: {type(error).__name__}: {error}"


def _gpu(
    smi: Any, handle: Any, violations: Mapping[str, Any] | None, unread: dict[str, str]
) -> SmiGpu:
    asic = _call(smi, "asic_info", handle, "name", unread) or {}
    listed = _call(smi, "process_list", handle, "processes", unread)
    status = _call(smi, "xgmi_link_status", handle, "links", unread) or {}
    return SmiGpu(
        name=_word(asic.get("market_name")),
        throttle=None if violations is None else parse_violations(violations),
        processes=None if listed is None else tuple(map(parse_process, listed)),
        links_down=tuple(n for n, state in enumerate(status.get("status", ())) if state == "D"),
        xgmi_errors=_call(smi, "amdsmi_gpu_xgmi_error_status", handle, "links", unread),
        unread=unread,
    )


def parse_violations(violations: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of what holds the clocks down now; None if nothing of it is measured."""
    rows = [row for row in table("gpu_throttle")["reasons"] if row.get("amd")]
    states = {row["name"]: violations.get(f"active_{row['amd']}") for row in rows}
    if not any(isinstance(state, bool) for state in states.values()):
        return None
    return tuple(name for name, state in states.items() if state is True)


def parse_process(listed: Mapping[str, Any]) -> GpuProcess:
    """A process of amdsmi_get_gpu_process_list."""
    held = listed.get("memory_usage", {}).get("vram_mem")
    return GpuProcess(
        pid=listed["pid"],
        memory_bytes=held if isinstance(held, int) else None,
        name=_word(listed.get("name")),
        visible=os.path.exists(f"/proc/{listed['pid']}"),
    )


def _violations(smi: Any, handle: Any) -> Callable[[], Mapping[str, Any] | None]:
    return lambda: _call(smi, "amdsmi_get_violation_status", handle, "", {})


def _call(smi: Any, name: str, handle: Any, field: str, unread: dict[str, str]) -> Any:
    """An answer, or None: not supported, or its error is in `unread`."""
    function = getattr(smi, name if name.startswith("amdsmi_") else f"amdsmi_get_gpu_{name}", None)
    if function is None:
        return None  # an older release
    try:
        return function(handle)
    except Exception as error:
        code = getattr(error, "get_error_code", lambda: None)()
        if code != NOT_SUPPORTED and field:
            unread[field] = f"amdsmi: {' '.join(str(error).split())}"[:200]
        return None


def _word(value: object) -> str:
    text = str(value or "").strip()
    return "" if text in ("N/A", "None") else text
