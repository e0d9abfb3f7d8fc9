"""Jobs of Slurm and containers of Apptainer: what starts the ranks, and what they are given."""

import re

from gpudoctor import (
    Drop,
    Finding,
    Fix,
    GpuDevices,
    Launch,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.facts.launch import OTHER_FORM

# Words that the shell must fill in on every node anew; an assignment is no program to srun.
ON_EACH = re.compile(r"NODEID|PROCID|^\w+=")


@check(
    owner="launch",
    symptoms=[
        r"The server socket has failed to (?:listen|bind)",
        r"EADDRINUSE",
        r"Duplicate GPU detected",
        r"Timed out after \d+ seconds waiting for clients",
        r"RendezvousTimeoutError",
    ],
)
def launch_tasks(launch: Launch) -> Finding:
    """What starts the ranks of a node is started once on each.

    torchrun starts all ranks of its node. A batch script runs on the first node only: without
    srun, torchrun waits there for the others, "Timed out after 901 seconds waiting for clients".
    srun starts it for each task, so with several tasks every rank is there several times. They
    meet at the same port, "EADDRINUSE" or "The server socket has failed to listen on any local
    network address", and share GPUs: "Duplicate GPU detected".
    """
    if launch.form not in ("sbatch script", "srun step"):
        return skip(OTHER_FORM)
    if not launch.starter:
        return skip("nothing in it starts ranks but Slurm itself")
    if launch.unstepped:
        summary = f"{launch.starter} of {launch.nodes} nodes without srun: on the first one only"
        if ON_EACH.search(" ".join(launch.command)):
            text = "Start it on every node: srun bash -c '...', so that each fills in its own"
            return fail(summary, Fix(text=text), basis="vendor")
        return fail(summary, Fix(Drop("unstepped")), basis="vendor")
    tasks, ranks = launch.tasks or 1, launch.ranks
    if not launch.knows("tasks") or (tasks > 1 and ranks is None):
        return skip(f"not known before it runs: {', '.join(launch.open_words) or 'ranks'}")
    if tasks == 1 or ranks == 1:
        return ok(f"{launch.starter} once on a node" if tasks == 1 else "one rank for each task")
    summary = f"{tasks} tasks on a node, each of which starts {launch.starter} with {ranks} ranks"
    return fail(summary, Fix(Drop("tasks")), basis="vendor")


@check(
    owner="launch",
    symptoms=[
        r"No CUDA GPUs are available",
        r"Found no NVIDIA driver on your system",
        r"No HIP GPUs are available",
    ],
)
def launch_nv(launch: Launch) -> Finding:
    """Apptainer passes the driver of the job's GPUs into the container.

    NVIDIA's driver has libraries of its own, which Apptainer binds only with --nv (unless the
    site's apptainer.conf says "always use nv = yes"). An image for ROCm has all that it needs
    but the devices, which --contain hides without --rocm. The job then runs on the CPU, or ends
    in "Found no NVIDIA driver on your system" or "No HIP GPUs are available".
    """
    if launch.form != "apptainer run":
        return skip(OTHER_FORM)
    if launch.only_looks:
        return skip("its command is none that trains")
    if launch.gpus:
        return ok("--rocm" if launch.gpu_vendor == "amd" else "--nv")
    made_for = re.search(r"rocm|nvcr\.io/nvidia/|\bcuda\b", launch.image.lower())
    if not launch.gpu_vendor and not made_for:
        return skip("nothing in it speaks of a GPU")
    rocm = launch.gpu_vendor == "amd" or bool(made_for and made_for[0] == "rocm")
    if rocm and launch.ipc != "private":
        return ok("the image brings ROCm's libraries, and /dev is the host's")
    summary = "neither --nv nor --rocm, " + (
        "though the job asks for GPUs" if launch.gpu_vendor else f"with {launch.image[-40:]}"
    )
    return warn(summary, Fix(GpuDevices("amd" if rocm else "nvidia")), basis="rule-of-thumb")
