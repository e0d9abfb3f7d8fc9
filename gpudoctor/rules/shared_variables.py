"""Which environment variables the nodes of one job should have alike."""

import re

from gpudoctor.rules.variables import is_of_nccl

# Ranks that read one of these differently choose different algorithms, buffers or networks, each
# for itself. Channels and paths are agreed upon at init, so those only cost speed.
_BREAKING = frozenset(
    {
        *("NCCL_ALGO", "NCCL_PROTO", "NCCL_BUFFSIZE", "NCCL_LL_BUFFSIZE", "NCCL_LL128_BUFFSIZE"),
        *("NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_IB_DISABLE", "NCCL_SOCKET_FAMILY", "NCCL_NTHREADS"),
        *("NCCL_COLLNET_ENABLE", "NCCL_CHUNK_SIZE", "NCCL_P2P_NET_CHUNKSIZE"),
    }
)
# A node's own: names of devices, addresses, files; and what is told to one rank on purpose.
_OWN = re.compile(
    r".*_(IFNAME|HCA|FILE|PATH|DIR|LIB|LIBRARY|HOSTID|CPUSET|HOME|ADDR|ID|NET_DEVICES)"
    r"|NCCL_(DEBUG|INSPECTOR|PROFILE|RAS|TOPO|GRAPH|UID)(_.*)?|TORCH_NCCL_(DEBUG|DUMP|TRACE)_.*"
    r"|NCCL_(VERSION|ROOT|.*_RANK)|TORCH_FR_.*"
)
# What goes on inside a node: for the GPUs that are in it.
_INSIDE = re.compile(r"NCCL_(P2P|SHM|NVLS|NVB|CUMEM|MNNVL)_.*|HSA_.*|RCCL_.*")
_OTHERS = re.compile(  # beside those of NCCL
    r"GLOO_.*|UCX_.*|OMPI_MCA_(btl|pml|mtl|coll|osc|io)(_.*)?|FI_.*|RDMAV_FORK_SAFE"
    r"|TORCH_DISTRIBUTED_.*|CUDA_DEVICE_MAX_CONNECTIONS|CUDA_LAUNCH_BLOCKING|CUBLAS_WORKSPACE_CONFIG"
    r"|PYTORCH_(CUDA_|HIP_)?ALLOC_CONF|NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
    r"|HSA_(FORCE_FINE_GRAIN_PCIE|NO_SCRATCH_RECLAIM|ENABLE_SDMA)"
)


def is_shared(name: str) -> bool:
    """Whether the nodes should have it alike; all other variables are a node's own affair."""
    if _OWN.fullmatch(name) or not re.fullmatch(r"\w+", name):
        return False
    return is_of_nccl(name) or bool(_OTHERS.fullmatch(name))


def is_breaking(name: str) -> bool:
    """Whether the job hangs or crashes where it differs."""
    return name in _BREAKING


def is_inside(name: str) -> bool:
    """Whether it is about what goes on inside a node, so that other GPUs may need another value."""
    return bool(_INSIDE.fullmatch(name)) and not is_breaking(name)
