"""gpudoctor: what will break a GPU training job, before it starts.

This is the public API: all that a check or a plug-in may import.
"""

import gpudoctor.become  # noqa: F401  # first: it is for when the rest cannot be loaded
from gpudoctor.check import Check, check
from gpudoctor.facts.all_reduce import AllReduce, Measured, PairFigure, PairReduce
from gpudoctor.facts.cgroup import Cgroup
from gpudoctor.facts.clock import Clock
from gpudoctor.facts.container import Clue, Container, Privileges, Syscalls
from gpudoctor.facts.demands import Demands, PackageDemand, VariableDemand
from gpudoctor.facts.devices import Devices
from gpudoctor.facts.environment import Environment, LibraryDir
from gpudoctor.facts.expectations import Expectations
from gpudoctor.facts.files import WantedFile, WantedFiles
from gpudoctor.facts.firewall import Chain, Firewall, Rule
from gpudoctor.facts.gpu_path import (
    Allocation,
    CudaInit,
    DeviceNode,
    DeviceNodes,
    GpuLibraries,
    HipInit,
    KernelDriver,
    KernelLog,
    PciBus,
    PciGpu,
)
from gpudoctor.facts.gpu_speed import GpuRates, GpuSpeed, Rate
from gpudoctor.facts.gpus import Gpu, GpuProcess, Gpus, Link, Nvml, Pair
from gpudoctor.facts.image import Code, Image
from gpudoctor.facts.image_tar import ImageTar, TarImage
from gpudoctor.facts.job import Job
from gpudoctor.facts.job_python import JobPython, Packages
from gpudoctor.facts.launch import Launch, LaunchMount, Ulimit
from gpudoctor.facts.limits import Limit, Limits, Processes
from gpudoctor.facts.links import Links, PortTry, Way
from gpudoctor.facts.master import Attempt, Master
from gpudoctor.facts.members import Member, Members, Nodes
from gpudoctor.facts.names import Names
from gpudoctor.facts.nccl import NcclAnswer, NcclFile, NcclSettings
from gpudoctor.facts.network import Address, Interface, Network, NetworkSettings, Route
from gpudoctor.facts.pytorch import TorchBuild, TorchDevice, TorchRun
from gpudoctor.facts.rdma import Gid, NcclPlugins, Rdma, RdmaDevice, RdmaPort
from gpudoctor.facts.shm import Shm, ShmFile, ShmFiles, ShmWrite
from gpudoctor.facts.storage import NetworkMount, NetworkMounts, Place, Storage
from gpudoctor.facts.system import System
from gpudoctor.facts.user import User
from gpudoctor.facts.workload import Workload
from gpudoctor.finding import (
    Basis,
    Finding,
    Fix,
    Owner,
    Rung,
    Status,
    fail,
    ok,
    skip,
    unknown,
    warn,
)
from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
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
from gpudoctor.rules.sizing import FileNeed, ShmNeed, ThreadNeed, file_need, shm_need, thread_need
from gpudoctor.snapshot import Absent, Fact, Snapshot
from gpudoctor.units import GIB, KIB, MIB, brief, count_of, parse_size, power_of_two, size

__version__ = "0.1.0"

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "Absent",
    "Address",
    "AllReduce",
    "Allocation",
    "Attempt",
    "Basis",
    "Capability",
    "Cgroup",
    "Chain",
    "Check",
    "Clock",
    "Clue",
    "Code",
    "Container",
    "Cpus",
    "CudaInit",
    "Demands",
    "DeviceNode",
    "DeviceNodes",
    "Devices",
    "Drop",
    "EnvSet",
    "EnvUnset",
    "Environment",
    "Expectations",
    "Fact",
    "FileNeed",
    "Finding",
    "Firewall",
    "Fix",
    "Gid",
    "Gpu",
    "GpuDevices",
    "GpuLibraries",
    "GpuProcess",
    "GpuRates",
    "GpuSpeed",
    "Gpus",
    "Group",
    "HipInit",
    "HostNetwork",
    "Image",
    "ImageTar",
    "Interface",
    "IpcHost",
    "Job",
    "JobPython",
    "KernelDriver",
    "KernelLog",
    "Launch",
    "LaunchMount",
    "LibraryDir",
    "Limit",
    "Limits",
    "Link",
    "Links",
    "Machine",
    "Master",
    "Measured",
    "Member",
    "Members",
    "Memlock",
    "Memory",
    "Mount",
    "NProc",
    "Names",
    "NcclAnswer",
    "NcclFile",
    "NcclPlugins",
    "NcclSettings",
    "Network",
    "NetworkMount",
    "NetworkMounts",
    "NetworkSettings",
    "NoFile",
    "Nodes",
    "Nvml",
    "Owner",
    "PackageDemand",
    "Packages",
    "Pair",
    "PairFigure",
    "PairReduce",
    "PciBus",
    "PciGpu",
    "Pids",
    "Place",
    "PortTry",
    "Privileges",
    "Probe",
    "Processes",
    "Rate",
    "Rdma",
    "RdmaDevice",
    "RdmaDevices",
    "RdmaPort",
    "Route",
    "Rule",
    "Rung",
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
    "TarImage",
    "ThreadNeed",
    "TorchBuild",
    "TorchDevice",
    "TorchRun",
    "Ulimit",
    "User",
    "VariableDemand",
    "WantedFile",
    "WantedFiles",
    "Way",
    "Workload",
    "brief",
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
