"""gpudoctor: what will break a GPU training job, before it starts.

This is the public API: all that a check or a plug-in may import.
"""

from gpudoctor.check import Check, check
from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.facts.clock import Clock
from gpudoctor.facts.container import Clue, Container, Privileges, Syscalls
from gpudoctor.facts.devices import Devices
from gpudoctor.facts.environment import Environment, LibraryDir
from gpudoctor.facts.job_python import JobPython
from gpudoctor.facts.limits import Limit, Limits, Processes
from gpudoctor.facts.shm import Shm, ShmFile, ShmFiles, ShmWrite
from gpudoctor.facts.storage import NetworkMount, NetworkMounts, Place, Storage
from gpudoctor.facts.system import System
from gpudoctor.facts.user import User
from gpudoctor.facts.workload import Workload
from gpudoctor.finding import Basis, Finding, Fix, Owner, Status, fail, ok, skip, unknown, warn
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    EnvUnset,
    Gpus,
    Group,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    NProc,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)
from gpudoctor.probes import Machine, Probe, probe
from gpudoctor.sizing import FileNeed, ShmNeed, ThreadNeed, file_need, shm_need, thread_need
from gpudoctor.snapshot import Absent, Fact, Snapshot
from gpudoctor.units import GIB, KIB, MIB, count_of, parse_size, power_of_two, size

__version__ = "0.1.0"

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "Absent",
    "Basis",
    "Capability",
    "Cgroup",
    "Check",
    "Clock",
    "Clue",
    "Container",
    "Cpus",
    "Devices",
    "EnvSet",
    "EnvUnset",
    "Environment",
    "Fact",
    "FileNeed",
    "Finding",
    "Fix",
    "Gpus",
    "Group",
    "HostNetwork",
    "IpcHost",
    "JobPython",
    "LibraryDir",
    "Limit",
    "Limits",
    "Machine",
    "Memlock",
    "Memory",
    "Mount",
    "NProc",
    "NetworkMount",
    "NetworkMounts",
    "NoFile",
    "Owner",
    "Pids",
    "Place",
    "Privileges",
    "Probe",
    "Processes",
    "RdmaDevices",
    "Setting",
    "Shm",
    "ShmFile",
    "ShmFiles",
    "ShmNeed",
    "ShmSize",
    "ShmWrite",
    "Snapshot",
    "Stack",
    "Status",
    "Storage",
    "Syscalls",
    "System",
    "ThreadNeed",
    "User",
    "Workload",
    "check",
    "count_of",
    "fail",
    "file_need",
    "ok",
    "parse_size",
    "power_of_two",
    "probe",
    "shm_need",
    "size",
    "skip",
    "thread_need",
    "unknown",
    "warn",
]
