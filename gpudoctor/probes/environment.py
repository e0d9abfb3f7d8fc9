"""Look at the environment variables of the job, and into the directories that they name."""

import functools
import os
import re

from gpudoctor.facts.environment import Environment, LibraryDir
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.in_time import in_time
from gpudoctor.redact import may_tell, value_of
from gpudoctor.rules.variables import is_of_a_library
from gpudoctor.snapshot import Absent

MOST_NAMES = 200
MOST_DIRS = 100
MOST_LIBRARIES = 60
SECONDS = 2.0  # for all directories together

# Libraries that wheels bring too, and the driver's own, which nothing may come before.
_LIBRARY = (
    r"lib(nccl|cudnn\w*|cublas|cublasLt|cudart|cusparse|cusolver|cufft|nvJitLink|nvrtc|nvshmem_host"
    r"|cuda|nvidia-ml|rccl|amdhip64|hsa-runtime64|amd_smi|rocm_smi64|MIOpen)\.so(\.\d+)*"
)


@probe(isolated=True, timeout=4.0)
def environment(machine: Machine) -> Environment | Absent:
    """Variables on the allow-list, names that look like one, and what LD_* point to."""
    if not (machine.live or machine.env):
        return Absent("variables are those of a process, and nobody runs under --root")
    told = {name: value_of(text) for name, text in sorted(machine.env.items()) if may_tell(name)}
    demanded = machine.demands.variables if machine.demands else ()
    asked = {demand.name: demand.value for demand in demanded if not may_tell(demand.name)}
    told |= {n: v for n, v in machine.env.items() if n in asked and v in ("", asked[n])}
    hidden = sorted(machine.env.keys() - told.keys(), key=lambda name: (name not in asked, name))
    others = [value_of(name) for name in hidden if name in asked or is_of_a_library(name)]
    paths = list(dict.fromkeys(machine.env.get("LD_LIBRARY_PATH", "").split(":")))
    absolute = [path for path in paths if path.startswith("/")][:MOST_DIRS]
    preload = tuple(re.split(r"[ :]+", machine.env.get("LD_PRELOAD", "").strip(" :")))
    looks = [functools.partial(_look_into, machine, path) for path in absolute]
    seen = in_time(looks, SECONDS) if looks else []
    return Environment(
        values=told,
        names=(*told, *others[:MOST_NAMES]),
        library_dirs=tuple(
            found or LibraryDir(path=path, exists=False, answered=False)
            for path, found in zip(absolute, seen, strict=True)
        ),
        preload=tuple(entry for entry in preload if entry),
        preload_missing=tuple(entry for entry in preload if _is_missing(machine, entry)),
        asked=tuple(asked),
    )


def _look_into(machine: Machine, path: str) -> LibraryDir:
    names = [name for name in machine.list(path) if re.fullmatch(_LIBRARY, name)]
    parts = [part for part in path.split("/") if part]
    return LibraryDir(
        path=value_of(path),
        exists=os.path.isdir(machine.path(path)),
        libraries=tuple(names[:MOST_LIBRARIES]),
        is_compat="compat" in parts,
        is_stubs="stubs" in parts,
    )


def _is_missing(machine: Machine, entry: str) -> bool:
    """A bare name is searched for like any library, and $LIB or $ORIGIN only ld.so knows."""
    return entry.startswith("/") and "$" not in entry and not machine.exists(entry)
