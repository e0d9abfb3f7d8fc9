"""What runs with what: CUDA releases and drivers, wheels of PyTorch, GPU architectures.

Pure look-ups in gpudoctor.data. What is not in a table is not known, and never a verdict.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from gpudoctor.data import table

Cuda = tuple[int, int]

_RELEASE = r"\d+\.\d+\.\d+"  # no nightly, and none of NVIDIA's own builds


class BadNccl(Struct, frozen=True, kw_only=True):
    """A fault of NCCL releases that its makers confirm.

    Attributes:
        since: the first release that has it.
        before: the first that has it no more.
        arch: of the GPUs that it strikes.
        nodes: how many nodes a job must have for it.
        breaks: what happens.
        set: variable and value that avoid it.
        source: where the row comes from.
    """

    since: tuple[int, ...]
    before: tuple[int, ...]
    arch: str
    nodes: int
    breaks: str
    set: tuple[str, str]
    source: str


class Wheel(Struct, frozen=True):
    """A wheel of PyTorch's own index, such as torch 2.10.0+cu126."""

    torch: str
    build: str

    @property
    def command(self) -> str:
        """What pip takes after `install`; the build is named, or pip leaves another in place."""
        return f"torch=={self.torch}+{self.build} --index-url {table('torch_wheels')['index']}" + (
            self.build
        )


def version_of(text: str) -> tuple[int, ...]:
    """The numbers that a version starts with: "2.9.1+cu128" is (2, 9, 1)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()


def oldest_driver(cuda: Cuda) -> str:
    """The oldest driver that runs programs of this CUDA release; empty: not known."""
    rows = table("cuda_driver")
    for row in rows["families"]:
        if row["major"] == cuda[0]:
            return str(row["driver"])
    return next((str(r["driver"]) for r in rows["toolkits"] if tuple(r["cuda"]) == cuda), "")


def newest_cuda(driver: str) -> Cuda | None:
    """The newest CUDA release that a driver has built in."""
    has = version_of(driver)
    for row in table("cuda_driver")["toolkits"]:  # the newest first
        if has and has >= version_of(row["driver"]):
            return row["cuda"][0], row["cuda"][1]
    return None


def runs(cuda: Cuda, built_in: Cuda) -> bool | None:
    """Whether a driver runs programs of a CUDA release; None: not known.

    Args:
        cuda: what the program was built with.
        built_in: the driver's own release: cuDriverGetVersion.
    """
    if built_in >= cuda:
        return True
    if not oldest_driver(cuda):
        return None
    return built_in[0] == cuda[0] >= 11  # minor-version compatibility


def code_for(arch: str, archs: Iterable[str]) -> str:
    """Which entry of a build's list runs on a GPU: "sm_86", "compute_90"; empty: none.

    Binaries run on GPUs of the same major version from their own minor version on, those with
    a letter only where they were made for; PTX runs on all that is newer.
    """
    archs = [entry.partition(":")[0] for entry in archs]  # gfx90a:xnack-
    gpu = _capability(arch, "sm_")
    if gpu is None or arch in archs:
        return arch if arch in archs else ""
    served = [(found, entry) for entry in archs if (found := _capability(entry, "sm_"))]
    binaries = [(cc, entry) for cc, entry in served if cc[0] == gpu[0] and cc <= gpu]
    if binaries:
        return max(binaries)[1]
    ptx = [(found, entry) for entry in archs if (found := _capability(entry, "compute_"))]
    return max(((cc, entry) for cc, entry in ptx if cc <= gpu), default=((0, 0), ""))[1]


def wheel_archs(version: str) -> tuple[str, ...]:
    """The architectures in a wheel of PyTorch's own, by its version; none: not known."""
    numbers, _, build = version.partition("+")
    if not re.fullmatch(_RELEASE, numbers):
        return ()
    release = list(version_of(numbers)[:2])
    for row in table("torch_wheels")["builds"]:
        if row["build"] == build and row["since"] <= release <= row["until"]:
            return tuple(row["archs"].split())
    return ()


def nccl_of_wheel(version: str) -> str:
    """The NCCL that the wheel of this version on PyPI pins; empty: not known."""
    numbers, _, build = version.partition("+")
    for row in table("torch_wheels")["releases"]:
        if row["torch"] == numbers and row["pypi"] == build:
            return str(row["nccl"])
    return ""


def wheel_for(archs: Sequence[str], built_in: Cuda | None, version: str = "") -> Wheel | None:
    """The wheel that runs on these GPUs: of the same release if there is one, or the newest.

    Args:
        archs: of all GPUs, of NVIDIA or of AMD, not of both; what is not known is left out.
        built_in: the driver's CUDA release; None: not known.
        version: of the torch that is installed.
    """
    data = table("torch_wheels")
    newest = {version_of(row["torch"])[:2]: row["torch"] for row in data["releases"]}
    own = version.partition("+")[0]
    if re.fullmatch(_RELEASE, own):
        newest[version_of(own)[:2]] = own
    archs = [arch for arch in archs if arch]
    if not (archs or built_in):
        return None
    best: tuple[tuple[bool, tuple[int, ...], int], Wheel] | None = None
    for place, row in enumerate(data["builds"]):
        cuda = tuple(row.get("cuda", ()))
        if not all(code_for(arch, row["archs"].split()) for arch in archs):
            continue
        if built_in and not (cuda and runs(cuda, built_in)):
            continue
        fitting = [r for r in newest if r and tuple(row["since"]) <= r <= tuple(row["until"])]
        for release in fitting:
            rank = (newest[release] == own, release, place)
            if best is None or rank > best[0]:
                best = rank, Wheel(newest[release], row["build"])
    return best[1] if best else None


def bad_nccl(version: str, archs: Iterable[str], nodes: int) -> BadNccl | None:
    """The known fault that this NCCL has on such GPUs and so many nodes."""
    rows = msgspec.convert(table("torch_wheels")["bad_nccl"], list[BadNccl])
    fits = [row for row in rows if row.arch in archs and nodes >= row.nodes]
    return next((row for row in fits if row.since <= version_of(version) < row.before), None)


def _capability(entry: str, prefix: str) -> Cuda | None:
    """(8, 6) of "sm_86"; None for gfx942, and for sm_90a, which runs on nothing else."""
    match = re.fullmatch(rf"{prefix}(\d+)(\d)", entry)
    return (int(match[1]), int(match[2])) if match else None
