"""GPUs of both vendors, in one form: what their own library and driver say of them."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Link(Struct, frozen=True, kw_only=True):
    """One NVLink or XGMI link of a GPU."""

    number: int
    active: bool
    peer: str = ""  # bus id of the other end, "switch", or empty: not known
    errors: int | None = None  # CRC, replay and recovery, since the driver was loaded


class GpuProcess(Struct, frozen=True, kw_only=True):
    """A process that holds memory of a GPU."""

    pid: int
    memory_bytes: int | None = None
    name: str = ""  # empty: not visible from here, as from another pid namespace
    visible: bool = True  # the pid is one of ours


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU. A field that the hardware or driver does not have is None.

    `unread` holds what should have been there and could not be read: field -> error. That
    something is not supported is no error.
    """

    vendor: str  # "nvidia" or "amd"
    index: int  # in the order of nvidia-smi; AMD's in that of HIP
    bus_id: str = ""  # "0000:1b:00.0"
    name: str = ""
    uuid: str = ""
    arch: str = ""  # "sm_90", "gfx942"
    integrated: bool | None = None  # part of the processor; None: not known
    render_node: str = ""  # AMD: "renderD128", the node in /dev/dri that the job opens
    lost: str = ""  # why nothing at all can be read; empty: it answers
    unread: Mapping[str, str] = {}

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    busy_percent: int | None = None
    processes: tuple[GpuProcess, ...] | None = None

    ecc_enabled: bool | None = None
    ecc_pending: bool | None = None  # the mode after the next reset
    ecc_uncorrected: int | None = None  # since the last reset
    ecc_uncorrected_total: int | None = None  # ever
    ecc_corrected_total: int | None = None
    ecc_sram_uncorrected_total: int | None = None
    pages_retired: int | None = None  # retired pages, bad pages
    pages_pending: bool | None = None
    rows_remapped: int | None = None  # for uncorrectable errors
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    banks_exhausted: int | None = None  # banks without a row to remap to
    recovery_action: str | None = None  # "none", "reset", "reboot", "drain p2p", "drain and reset"
    inforom_corrupt: bool | None = None

    throttle: tuple[str, ...] | None = None  # names of data/gpu_throttle.json that hold now
    temperature_c: int | None = None
    temperature_slowdown_c: int | None = None
    temperature_memory_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    clock_mhz: int | None = None
    clock_max_mhz: int | None = None

    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None  # of slot and GPU together
    pcie_replays: int | None = None
    numa_node: int | None = None  # None: not known, or a machine with one node

    persistence: bool | None = None
    compute_mode: str | None = None  # "default", "exclusive process", "prohibited"
    mig_enabled: bool | None = None
    mig_pending: bool | None = None
    mig_devices: int | None = None
    partition_compute: str | None = None  # AMD: "SPX", "CPX", ...
    partition_memory: str | None = None  # AMD: "NPS1", ...

    links: tuple[Link, ...] | None = None
    fabric_state: str | None = None  # "not started", "in progress", "completed"
    fabric_error: str = ""
    fabric_unhealthy: tuple[str, ...] = ()


class Pair(Struct, frozen=True, kw_only=True):
    """What the driver says of direct access between two GPUs, by index."""

    one: int
    other: int
    p2p: str  # "ok", or why not: "chipset not supported", "disabled by regkey", ...
    path: str = ""  # "NVLink", "PCIe switch", "host bridge", "NUMA node", "system"


class Gpus(Fact, frozen=True, kw_only=True):
    """All GPUs that the vendors' libraries and drivers name, and who told us."""

    devices: tuple[Gpu, ...] = ()
    pairs: tuple[Pair, ...] = ()
    driver: str = ""  # "570.172.08", amdgpu's version
    cuda: tuple[int, int] | None = None  # the newest that the NVIDIA driver has built in
    sources: tuple[str, ...] = ()  # "nvml", "kfd", "amdsmi"
    remarks: tuple[str, ...] = ()  # a source that could not be used, and why

    @property
    def alive(self) -> tuple[Gpu, ...]:
        """Those that answer."""
        return tuple(gpu for gpu in self.devices if not gpu.lost)


NVML_NO_LIBRARY = 12  # NVML_ERROR_LIBRARY_NOT_FOUND, also where there is none to say it


class Nvml(Fact, frozen=True, kw_only=True):
    """How far NVIDIA's management library came."""

    library: str = ""  # its file; empty: none was found
    version: str = ""
    code: int | None = None  # of nvmlInit; 0: it works
    error: str = ""  # NVML's name of the code, or what the linker said
