"""Ask the vendors' libraries and drivers about their GPUs."""

from typing import TYPE_CHECKING, Any

from gpudoctor.facts.gpus import NVML_NO_LIBRARY, Gpus, Nvml
from gpudoctor.probes import Machine, linker, probe, signs
from gpudoctor.snapshot import Absent

if TYPE_CHECKING:
    from gpudoctor.probes.amd_gpus import AmdGpus

ONLY_LIVE = "NVIDIA's library is asked only on the machine itself, not under --root"
START = 20.0  # a driver without persistence first wakes each GPU, about 2 s each
ANSWER = 1.0  # kept back of it, to say what there is


@probe(alone=True, timeout=START, unless=signs.no_gpu)
def gpus(machine: Machine) -> Gpus | Absent:
    """All GPUs of both vendors, as their libraries and drivers describe them."""
    from gpudoctor.probes.amd_gpus import amd_gpus  # not where there is no GPU
    from gpudoctor.probes.nvidia_gpus import nvidia_gpus

    nvidia = nvidia_gpus(machine, START - ANSWER) if machine.live else Absent(ONLY_LIVE)
    return together(nvidia, amd_gpus(machine))


def together(nvidia: Gpus | Absent, amd: "AmdGpus | None") -> Gpus | Absent:
    """Both vendors' GPUs as one fact."""
    if amd is None:
        return nvidia
    if isinstance(nvidia, Absent):
        nvidia = Gpus(remarks=(nvidia.absent,) if nvidia.broken else ())
    return Gpus(
        devices=(*nvidia.devices, *amd.devices),
        pairs=nvidia.pairs or amd.pairs,  # they name GPUs by index, of one vendor
        driver=nvidia.driver or amd.driver,
        cuda=nvidia.cuda,
        sources=(*nvidia.sources, *amd.sources),
        remarks=(*nvidia.remarks, *amd.remarks),
    )


@probe(alone=True, timeout=START, unless=signs.no_nvidia)
def nvml(machine: Machine) -> Nvml | Absent:
    """Load NVIDIA's management library and initialise it, nothing more."""
    if not machine.live:
        return Absent(ONLY_LIVE)
    from gpudoctor.probes import nvml_library

    library = nvml_library.load(machine)
    if library is None:
        return Absent(signs.no_nvidia(machine))
    if library.handle is None:
        return Nvml(code=NVML_NO_LIBRARY, error=library.error)
    code = library.handle.nvmlInit_v2()
    return Nvml(
        library=library.file,
        version=linker.version_of(library.file) or (_version(library.handle) if code == 0 else ""),
        code=code,
        error=nvml_library.name_of(code) if code else "",
    )


def _version(library: Any) -> str:
    """The library's own word, "12.570.172.08", less the CUDA version that it begins with."""
    import ctypes

    text = ctypes.create_string_buffer(96)
    if library.nvmlSystemGetNVMLVersion(text, len(text)):
        return ""
    return text.value.decode("utf-8", "replace").partition(".")[2]
