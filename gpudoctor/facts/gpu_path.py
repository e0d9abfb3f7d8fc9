"""The way from the PCI bus to the vendor's runtime, layer by layer."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class PciGpu(Struct, frozen=True, kw_only=True):
    """A GPU on the bus, whatever the drivers say."""

    bus_id: str
    vendor: str  # "nvidia" or "amd"
    device_id: str  # "0x2330"
    driver: str = ""  # the kernel driver bound to it: "nvidia", "amdgpu", "nouveau", "vfio-pci"
    numa_node: int | None = None
    link_width: int | None = None
    link_width_max: int | None = None
    link_gen: int | None = None
    link_gen_max: int | None = None
    aer_fatal: int | None = None
    aer_nonfatal: int | None = None


class PciBus(Fact, frozen=True, kw_only=True):
    """GPUs and what decides over them on the bus."""

    gpus: tuple[PciGpu, ...] = ()
    nvswitches: int = 0
    numa_nodes: int = 1
    iommu: str = ""  # "passthrough", "translated", "off"; empty: not known


class KernelDriver(Fact, frozen=True, kw_only=True):
    """The vendors' kernel modules."""

    nvidia: str = ""  # version of the loaded module; empty: not loaded
    nvidia_open: bool | None = None  # the open kernel module
    nvidia_uvm: bool | None = None
    nouveau: bool = False
    amdgpu: bool = False
    amdgpu_version: str = ""  # of DKMS builds only
    kfd_gpus: tuple[str, ...] = ()  # gfx942, ...: GPUs in KFD's topology
    secure_boot: bool | None = None


class DeviceNode(Struct, frozen=True, kw_only=True):
    """A device node that was opened for reading and writing, and closed."""

    path: str
    mode: str  # "0666"
    uid: int
    gid: int
    error: str = ""  # "EPERM: Operation not permitted"; empty: it opens


class DeviceNodes(Fact, frozen=True, kw_only=True):
    """GPU device nodes, each really opened."""

    nodes: tuple[DeviceNode, ...] = ()
    group_names: Mapping[str, int] = {}  # render, video: numbers in this image


class GpuLibraries(Fact, frozen=True, kw_only=True):
    """The vendors' user libraries, as the dynamic linker finds them."""

    libcuda: str = ""  # the real file; empty: not found
    libcuda_version: str = ""  # by its name: libcuda.so.570.172.08
    libcuda_error: str = ""  # what dlopen said
    libnvidia_ml: str = ""
    libnvidia_ml_version: str = ""
    libnvidia_ml_error: str = ""
    libamdhip64: str = ""
    libamdhip64_error: str = ""
    compat: bool = False  # libcuda is that of a forward-compatibility package


class CudaInit(Fact, frozen=True, kw_only=True):
    """cuInit() and what follows, in a process of its own."""

    code: int  # 0: it works
    name: str = ""  # CUDA_ERROR_NO_DEVICE
    devices: int = 0
    version: tuple[int, int] | None = None  # cuDriverGetVersion


class HipInit(Fact, frozen=True, kw_only=True):
    """hipInit() and hipGetDeviceCount(), in a process of its own."""

    code: int
    name: str = ""
    devices: int = 0


class KernelLog(Fact, frozen=True, kw_only=True):
    """Lines of the kernel's log that speak of a GPU, the oldest first, at most 200."""

    source: str  # "/dev/kmsg"
    lines: tuple[str, ...] = ()


class Allocation(Fact, frozen=True, kw_only=True):
    """How many GPUs somebody promised to this job, and the variables that choose among them."""

    expected: int | None = None
    told_by: str = ""  # "SLURM_GPUS_ON_NODE", "--expect gpus=8"
    visible: Mapping[str, str] = {}  # CUDA_VISIBLE_DEVICES, NVIDIA_..., HIP_..., ROCR_..., GPU_...
    local_rank: int | None = None
    scheduler: str = ""  # "slurm": its tools are here, but this is no job of it
