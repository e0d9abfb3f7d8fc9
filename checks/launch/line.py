"""The words of a launch: those that its launcher does not take, or that contradict each other."""

import difflib
import re

from gpudoctor import (
    Drop,
    EnvUnset,
    Finding,
    Fix,
    GpuDevices,
    Launch,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.data import table
from gpudoctor.facts.launch import OTHER_FORM

RUN = ("docker run", "podman run")
CONTAINERS = (*RUN, "compose service")
OTHERS = {
    "apptainer": ("apptainer_flags", "apptainer"),
    "pyxis": ("slurm_flags", "sbatch"),
    "slurm": ("slurm_flags", "sbatch"),
}

KEYS = {"compose": ("service",), "kubernetes": ("container", "pod")}


@check(
    owner="launch",
    symptoms=[
        r"unknown flag: --\S+",
        r"unknown shorthand flag",
        r"invalid argument .* for .* flag",
        r"invalid reference format",
        r"cannot set both Count and DeviceIDs on device request",
        r"requires at least 1 argument",
        r"exec: \"?--?[\w-]+\S*: executable file not found",
        r"executable file `--?[\w-]+\S*` not found",
    ],
)
def launch_flags(launch: Launch) -> Finding:
    """The launcher takes every word of this launch.

    An unknown flag ends the launch before anything runs: "unknown flag: --sh". So does `--gpus
    device=0,1` without quotes of its own: "cannot set both Count and DeviceIDs on device
    request". Behind the image, flags are the command's: "exec: "--shm-size=8g": executable file
    not found". After a backslash with a blank behind it the command ends unseen, and the rest of
    its lines are commands of their own: "invalid reference format".
    """
    program = launch.form if launch.form in RUN else f"this {launch.form}"
    drops = [Drop("unknown", word) for word in launch.unknown]
    drops += [Drop("refused", word) for word in launch.refused if "device=" in word]
    drops += [Drop("late", word) for word in launch.late]
    drops += [Drop("torn")] if launch.torn else []
    evidence = [f"{word}: {_nearest(word, launch.launcher)}" for word in launch.unknown]
    evidence += [f"{word}: {why}" for word, why in launch.refused.items()]
    text = "; ".join(f"mend {word}: {why}" for word, why in launch.refused.items())
    if launch.unknown:
        summary = f"{program} does not know {', '.join(launch.unknown)}"
    elif launch.refused:
        summary = f"{program} does not take {', '.join(launch.refused)}"
    elif launch.late:
        summary = f"{', '.join(launch.late)} behind the image: its command gets that, not {program}"
    elif launch.torn:
        summary = "a blank, comment or DOS line end behind a backslash ends the command there"
    elif launch.form in RUN and not launch.image and launch.knows("image"):
        summary, text = f"{program} without an image", "name the image, behind all flags"
    else:
        return ok("every word is known")
    fix = Fix(*drops, text=text[:1].upper() + text[1:])
    return fail(summary[:79], fix, evidence=evidence, basis="vendor")


def _nearest(word: str, launcher: str) -> str:
    if launcher in KEYS:
        keys = [key for row in KEYS[launcher] for key in table("launch_keys")[row]["value"]]
        near = difflib.get_close_matches(word, keys, n=2, cutoff=0.7)
        return f"{' or '.join(near)} is meant?" if near else "nothing like it is known"
    name, row = OTHERS.get(launcher, ("run_flags", launcher))
    known = table(name).get(row, {})
    names = [f"--{name}" for name in (*known.get("valued", ()), *known.get("switches", ()))]
    near = [name for name in names if word.startswith("--") and name.startswith(word)]
    near = near or difflib.get_close_matches(word, names, n=2, cutoff=0.7)
    return f"{' or '.join(near[:2])} is meant?" if near else "nothing like it is known"


@check(
    owner="launch",
    symptoms=[r"cannot set shmsize when running in the .* IPC Namespace"],
)
def launch_ipc(launch: Launch) -> Finding:
    """The size of /dev/shm is said where it counts.

    With the host's IPC namespace the container has the host's /dev/shm. Docker then ignores a
    size without a word, so a job that counts on it ends in "Bus error" where the host has less;
    podman refuses: "cannot set shmsize when running in the host IPC Namespace".
    """
    shared = launch.ipc == "host" or launch.ipc.startswith(("container:", "service:"))
    if not shared or not launch.shm_bytes:
        return ok("said once, or not at all")
    fix = Fix(Drop("shm_bytes"))
    summary = f"a size for /dev/shm beside ipc={launch.ipc}, which has another one"
    if launch.form == "podman run":
        return fail(summary, fix, basis="vendor")
    return warn(summary, fix, basis="vendor")


@check(
    owner="launch",
    symptoms=[r"Unable to find group \S+: no matching entries in group file"],
)
def launch_groups(launch: Launch) -> Finding:
    """The groups of the host's devices are named by their numbers.

    A name is looked up in the image, which may not have it: "Unable to find group render: no
    matching entries in group file". Or it has another number there than on the host, and the
    job ends in "Unable to open /dev/kfd read-write: Permission denied".
    """
    if launch.form not in CONTAINERS:
        return skip(OTHER_FORM)
    if any(mount.target == "/etc/group" for mount in launch.mounts):
        return ok("the host's /etc/group is mounted")
    names = ["render"] if launch.launcher == "podman" else ["render", "keep-groups"]
    named = [group for group in launch.groups if group in names]
    if not named:
        return ok(f"groups: {', '.join(launch.groups)}" if launch.groups else "none is added")
    fix = Fix(*(Drop("groups", name) for name in named), GpuDevices("amd"))
    summary = f"group {' and '.join(named)} by name, which means nothing in most images"
    return warn(summary, fix, basis="vendor")


@check(
    owner="launch",
    symptoms=[
        r"No CUDA GPUs are available",
        r"Found no NVIDIA driver on your system",
        r"The NVIDIA Driver was not detected",
        r"Unable to open /dev/kfd read-write",
        r"No HIP GPUs are available",
    ],
)
def launch_devices(launch: Launch, workload: Workload) -> Finding:
    """The container is given the GPUs that its image is made for.

    Without GPUs the job runs on the CPU, or ends in "No CUDA GPUs are available", "Found no
    NVIDIA driver on your system" or, with AMD, "No HIP GPUs are available".
    """
    if launch.form not in CONTAINERS:
        return skip(OTHER_FORM)
    if not launch.knows("devices", "gpus", "image"):
        return skip(launch.why_open)
    image = launch.image.lower()
    given = [path for path in AMD if any(own.startswith(path) for own in launch.devices)]
    if launch.privileged or launch.gpus or len(given) == len(AMD):
        return ok("they are passed in")
    if given and ("rocm" in image or "/dev/kfd" in given):
        (missing,) = set(AMD) - set(given)
        return fail(f"{given[0]} without {missing}", Fix(GpuDevices("amd")), basis="vendor")
    idle = launch.command in IDLE
    if not (FRAMEWORK.search(image) if idle else TRAINS.search(" ".join(launch.command))):
        return skip("its command is none that trains")
    for vendor, pattern in (("amd", r"\brocm"), ("nvidia", r"\bcuda|\bnvcr\.io/nvidia/")):
        if re.search(pattern, image):
            summary = f"no GPU is asked for, with image {launch.image[-40:]}"
            evidence = DEFAULT_RUNTIME if vendor == "nvidia" else []
            fix = Fix(GpuDevices(vendor))
            return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return skip("nothing in it speaks of a GPU")


AMD = ("/dev/kfd", "/dev/dri")  # ROCm's documentation, "Running ROCm Docker containers"
FRAMEWORK = re.compile(r"^nvcr\.io/nvidia/(pytorch|nemo|tensorflow|jax)\b|^rocm/pytorch\b")
IDLE = ((), ("bash",), ("sh",), ("/bin/bash",), ("/bin/sh",))
DEFAULT_RUNTIME = ["without, they are there only where nvidia is docker's default runtime"]
TRAINS = re.compile(r"\b(python[\d.]*|torchrun|accelerate|deepspeed)\b")


@check(
    owner="launch",
    symptoms=[
        r"Duplicate GPU detected",
        r"Multiple Ranks are using the same GPU",
        r"invalid device ordinal",
    ],
)
def launch_ranks(launch: Launch, workload: Workload) -> Finding:
    """Every rank finds a GPU of its own.

    More ranks than GPUs, or a CUDA_VISIBLE_DEVICES that leaves fewer, end when the job starts:
    "invalid device ordinal" or NCCL's "Duplicate GPU detected".
    """
    if not workload.knows("local_ranks"):
        return skip("the number of ranks is not said")
    ranks, told = workload.local_ranks, workload.told_by["local_ranks"]
    # AMD's device nodes are passed in all together.
    all_of_amd = launch.form in CONTAINERS and launch.gpu_vendor == "amd"
    asked = launch.gpus if launch.gpus and launch.gpus > 0 and not all_of_amd else None
    few = asked is not None and asked < ranks
    more = [GpuDevices(launch.gpu_vendor or "nvidia", ranks)] if few else []
    for name in VISIBLE:
        value = launch.environment.get(name)
        if value is None or not launch.knows(f"environment.{name}"):
            continue
        count = _count(value)
        if count < ranks and (launch.gpus or count):
            summary = f"{ranks} ranks, and {name}={value[:24]} leaves {count} of the GPUs"
            evidence = [f"ranks: {told}" + (f"; {count} would find a GPU each" if count else "")]
            fix = Fix(EnvUnset(name), *more)
            return fail(summary, fix, evidence=evidence, basis="vendor")
    if asked is None:
        return ok(f"{ranks} by {told}; how many GPUs it will find is not known")
    summary = f"{ranks} ranks by {told}, {asked} GPUs asked for"
    return fail(summary, Fix(*more), basis="vendor") if few else ok(summary)


VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def _count(value: str) -> int:
    """How many GPUs a list names, up to the word that ends it."""
    words = [word.strip() for word in value.split(",")] if value.strip() else []
    ends = [n for n, word in enumerate(words) if not re.match(r"\d|GPU-|MIG-", word)]
    return ends[0] if ends else len(words)
