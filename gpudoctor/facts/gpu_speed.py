"""How fast GPUs copy and multiply, measured by PyTorch of the training job."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Rate(Struct, frozen=True, kw_only=True):
    """A figure measured in several rounds, which are spread over some seconds."""

    best: float
    worst: float
    rounds: int


class GpuRates(Struct, frozen=True, kw_only=True):
    """What one GPU reached while it was measured, alone. None: it was not reached."""

    index: int  # in torch's order
    bus_id: str = ""
    name: str = ""
    h2d_gbs: Rate | None = None  # from the host's pinned memory, 10**9 bytes a second
    d2h_gbs: Rate | None = None
    memory_gbs: Rate | None = None  # a copy inside the GPU's memory: read and written bytes
    matmul_tflops: Rate | None = None
    matmul_type: str = ""  # "bfloat16"; "float16" where the GPU has no bfloat16
    numa_bound: bool = False  # measured from the CPUs next to the GPU
    memory_used_bytes: int | None = None  # before we took any; our own context is in it
    busy_percent: int | None = None  # before we began; None: not told
    error: str = ""  # why the rest is missing
    seconds: float | None = None


class GpuSpeed(Fact, frozen=True, kw_only=True):
    """All GPUs that the job's torch uses, measured one after the other."""

    devices: tuple[GpuRates, ...] = ()
    load_average: float | None = None  # of the last minute, before we began
    cpus: int | None = None  # of the machine, as the load is
    unfinished: str = ""  # why GPUs are missing at the end
