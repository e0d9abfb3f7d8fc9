"""Memory of the job's GPUs that somebody else holds."""

import re

from gpudoctor import (
    Allocation,
    Container,
    Finding,
    Gpu,
    GpuProcess,
    Gpus,
    Status,
    check,
    ok,
    size,
    skip,
)
from gpudoctor.rules import stops
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, unread, worst
from gpudoctor.rules.selection import select

HELD_BYTES = 2 << 30  # Primus's preflight; drivers and monitors hold less
HELD_SHARE = 0.1
DISPLAY_SHARE = 0.5  # desktops and Windows hold memory of their own
# Of a desktop: they hold memory of the GPU that has the display, and give it back.
DISPLAY = (
    r"Xorg|Xwayland|X|gnome-.*|kwin.*|plasmashell|mutter.*|sway|Hyprland|cinnamon|xfwm4"
    r"|firefox.*|chrom.*|code|electron|Isolated Web Co"
)
VGPU = r"GRID |-\d+[ABCQ]$"  # NVIDIA vGPU user guide: profiles such as A40-48Q


@check(owner="node", symptoms=[r"(CUDA|HIP) out of memory", r"CUDA error: out of memory"])
def gpu_busy(gpus: Gpus, allocation: Allocation | None, container: Container | None) -> Finding:
    """Nobody else holds memory of the job's GPUs.

    A process that a crashed job left behind, or another user's, keeps its memory: "CUDA out of
    memory" in the first step of a job that fits an empty GPU, or half the speed all along.
    """
    job = select(gpus.alive, allocation.visible if allocation else {}).gpus
    if not job:
        return skip(NO_GPU)
    if allocation and allocation.local_rank:
        return skip("other ranks of this job may have started: they hold memory too")
    known = [gpu for gpu in job if gpu.memory_bytes and gpu.memory_used_bytes is not None]
    if not known:
        nothing = skip("these GPUs do not say how much memory is used")
        return unread(job, "memory_used_bytes", "memory_bytes") or nothing
    troubles = [trouble for gpu in known if (trouble := _held(gpu, container))]
    if troubles:
        return worst(troubles)
    most = max(known, key=_share)
    return ok(f"at most {size(most.memory_used_bytes)} of {size(most.memory_bytes)} used")


def _share(gpu: Gpu) -> float:
    return (gpu.memory_used_bytes or 0) / (gpu.memory_bytes or 1)


def _held(gpu: Gpu, container: Container | None) -> Trouble | None:
    """Memory that somebody else holds; without a process to name it is only a warning."""
    used = gpu.memory_used_bytes or 0
    foreign = [p for p in gpu.processes or () if not re.fullmatch(DISPLAY, p.name)]
    if used < HELD_BYTES or _share(gpu) <= HELD_SHARE:
        return None
    model = gpu_model(gpu.name)
    on_display = not (model and model.data_centre) and not re.search(VGPU, gpu.name)
    if not foreign and on_display and _share(gpu) <= DISPLAY_SHARE:
        return None
    # In a pid namespace of its own nobody can tell whose process it is.
    named = [p for p in foreign if p.visible and not _is_apart(container)]
    by = ", ".join(map(_process, foreign[:4])) or "no process that can be seen"
    text = "Find who holds the GPU, on the node itself; if it is nobody, reset the GPU"
    command = f"sudo fuser -v {'/dev/kfd' if gpu.vendor == 'amd' else '/dev/nvidia*'}"
    if named:
        text = "End the process if it is yours and left behind, or take another GPU"
        command = f"ps -o user,pid,etime,args -p {','.join(str(p.pid) for p in named)}"
    return Trouble(
        status=Status.FAIL if named else Status.WARN,
        gpu=gpu,
        words=f"{size(used)} of {size(gpu.memory_bytes)} held by {by}",
        text=text,
        commands=(command,),
        basis="rule-of-thumb",
    )


def _process(process: GpuProcess) -> str:
    return f"pid {process.pid} {process.name}".rstrip()


def _is_apart(container: Container | None) -> bool:
    return (
        container is not None and stops.is_inside(container) and container.pid_private is not False
    )
