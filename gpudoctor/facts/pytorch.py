"""PyTorch of the training job: what its files say, and what it does when imported."""

from msgspec import Struct

from gpudoctor.snapshot import Fact


class TorchBuild(Fact, frozen=True, kw_only=True):
    """torch as installed, read without importing it."""

    version: str  # "2.9.1+cu128"
    cuda: tuple[int, int] | None = None  # what it was built for
    hip: str = ""
    path: str = ""
    nccl_pin: str = ""  # what it requires: "nvidia-nccl-cu12 2.27.5"
    nccl_wheels: tuple[str, ...] = ()  # "nvidia-nccl-cu12 2.27.5"
    nccl_shadows: tuple[str, ...] = ()  # other libnccl.so.2 that the linker finds first


class TorchDevice(Struct, frozen=True, kw_only=True):
    """A GPU as torch sees it, and a small product on it compared with the CPU's."""

    index: int
    name: str = ""
    arch: str = ""  # "sm_90", "gfx942"
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    bus_id: str = ""
    compute_error: str = ""  # empty: the product is right, or was not reached
    compute_seconds: float | None = None  # None: not reached


class TorchRun(Fact, frozen=True, kw_only=True):
    """torch, imported in a process of the job's Python."""

    version: str = ""
    import_error: str = ""
    import_seconds: float | None = None
    unfinished: str = ""  # "no answer in 27 s: multiply on GPU 3"; empty: it came to its end
    available: bool = False  # torch.cuda.is_available()
    reason: str = ""  # why not, in torch's words
    devices: tuple[TorchDevice, ...] = ()
    archs: tuple[str, ...] = ()  # torch.cuda.get_arch_list()
    cuda: str = ""
    hip: str = ""
    nccl: str = ""  # version that runs
    nccl_file: str = ""  # which libnccl or librccl is loaded
    distributed: tuple[str, ...] = ()  # backends: "gloo", "nccl", "mpi"
