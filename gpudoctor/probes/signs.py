"""Cheap signs of a vendor's GPU or driver: what no probe need look further without.

Names of files only: nothing is opened that could hang, nothing is loaded. The answers are
remembered, and forked children inherit them.
"""

import functools

from gpudoctor.probes import Machine, linker, pci

KFD_NODES = "/sys/class/kfd/kfd/topology/nodes"
NVIDIA_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")


@functools.cache
def nvidia_gpu(machine: Machine) -> bool:
    """Whether a device node, the kernel or the PCI bus speaks of an NVIDIA GPU; WSL's counts."""
    if any(name == "dxg" or name.startswith("nvidia") for name in machine.list("/dev")):
        return True
    return machine.exists("/proc/driver/nvidia") or "nvidia" in pci.vendors(machine)


@functools.cache
def nvidia_library(machine: Machine) -> bool:
    """Whether the linker could find a library of NVIDIA's driver."""
    return linker.in_sight(machine, NVIDIA_LIBRARIES)


@functools.cache
def amd_gpu(machine: Machine) -> bool:
    """Whether a device node, KFD or the PCI bus speaks of an AMD GPU."""
    if machine.exists("/dev/kfd") or machine.exists(KFD_NODES):
        return True
    return "amd" in pci.vendors(machine)


def no_nvidia(machine: Machine) -> str:
    """Why NVIDIA's driver need not be asked, or empty."""
    here = nvidia_gpu(machine) or nvidia_library(machine)
    return "" if here else "no NVIDIA GPU and no NVIDIA driver is here"


def no_amd(machine: Machine) -> str:
    """Why AMD's driver need not be asked, or empty."""
    return "" if amd_gpu(machine) else "no AMD GPU is here"


def no_gpu(machine: Machine) -> str:
    """Why neither driver need be asked, or empty."""
    either = not no_nvidia(machine) or not no_amd(machine)
    return "" if either else "no GPU and no driver of one is here"
