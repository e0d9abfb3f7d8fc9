"""One finding about all GPUs: what is wrong with each, the worst first."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from gpudoctor.facts.gpus import Gpu
from gpudoctor.finding import Basis, Finding, Fix, Status, fail, skip, unknown, warn
from gpudoctor.units import count_of

NO_GPU = "no GPU answers here: see gpu-visible"


class Trouble(Struct, frozen=True, kw_only=True):
    """What is wrong with one GPU, and the way out. `status` is warn or fail."""

    status: Status
    gpu: Gpu
    words: str
    text: str
    commands: tuple[str, ...] = ()
    basis: Basis = "vendor"


def worst(troubles: Sequence[Trouble], context: Iterable[str] = ()) -> Finding:
    """The finding over at least one trouble: as bad as the worst, all of them as evidence.

    `context` is what else should be known to judge it; it comes last.
    """
    ordered = sorted(troubles, key=lambda trouble: trouble.status is not Status.FAIL)
    first = ordered[0]
    commands = list(dict.fromkeys(command for t in ordered for command in t.commands))
    fix = Fix(
        text="; ".join(dict.fromkeys(trouble.text for trouble in ordered)),
        commands=commands,
        needs_root=any(command.startswith("sudo ") for command in commands),
    )
    say = fail if first.status is Status.FAIL else warn
    evidence = [f"{which(trouble.gpu)}: {trouble.words}" for trouble in ordered]
    if len(ordered) == 1:  # the summary says it all, but not which card that is
        evidence = [f"{which(first.gpu)}: {first.gpu.name}"]
    return say(_summary(ordered), fix, evidence=[*evidence, *context], basis=first.basis)


def which(gpu: Gpu) -> str:
    """ "GPU 1 (0000:43:00.0)"."""
    return f"GPU {gpu.index}" + (f" ({gpu.bus_id})" if gpu.bus_id else "")


def unread(gpus: Iterable[Gpu], *fields: str) -> Finding | None:
    """The finding when one of the fields could not be read on one of the GPUs, else None."""
    for gpu in gpus:
        for field in fields:
            if error := gpu.unread.get(field):
                reason = f"{which(gpu)}: {field} could not be read: {error}"
                if "PERM" in error or "EACCES" in error:
                    return skip(f"{reason}; root may read it")
                return unknown(reason)
    return None


def is_closed(gpu: Gpu) -> bool:
    """Whether the operating system, as by a device cgroup, keeps it from this job."""
    return any(word in gpu.lost for word in ("NO_PERMISSION", "OPERATING_SYSTEM"))


def address(gpu: Gpu) -> str:
    """What the vendor's tool calls a GPU: its numbers may be in another order than HIP's."""
    return gpu.bus_id or str(gpu.index)


def reset(gpu: Gpu) -> str:
    """The command that resets a GPU which nobody uses."""
    if gpu.vendor == "amd":
        return f"sudo amd-smi reset --gpureset --gpu {address(gpu)}"
    return f"sudo nvidia-smi --gpu-reset -i {address(gpu)}"


def _summary(troubles: Sequence[Trouble]) -> str:
    first = troubles[0]
    same = {(t.gpu.vendor, t.gpu.index) for t in troubles if t.words == first.words}
    others = {(t.gpu.vendor, t.gpu.index) for t in troubles} - same
    if len(same) > 1:
        start = "GPUs " + ", ".join(str(index) for _, index in sorted(same))
    else:
        start = f"GPU {first.gpu.index}"
    end = f"; trouble on {count_of(len(others), 'other GPU')} too" if others else ""
    return f"{start}: {first.words}{end}"
