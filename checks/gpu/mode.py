"""What GPUs are set to, and who uses them: MIG, partitions, compute mode, persistence, memory."""

from gpudoctor import (
    Allocation,
    Container,
    Expectations,
    Finding,
    Fix,
    Gpu,
    Gpus,
    Status,
    Workload,
    check,
    count_of,
    ok,
    size,
    skip,
    warn,
)
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, address, reset, unread, which, worst
from gpudoctor.rules.selection import promised, select

MIG_OFF = "sudo nvidia-smi -i {} -mig 0  # then reset it, or reboot"
ASSUMED = ("", "GPU device nodes")  # who told the number of ranks, where nobody did


def _of_job(gpus: Gpus, allocation: Allocation | None) -> tuple[Gpu, ...]:
    """The GPUs that answer and that the job will use."""
    return select(gpus.alive, allocation.visible if allocation else {}).gpus


@check(
    owner="node",
    symptoms=[
        r"Duplicate GPU detected",
        r"Multiple Ranks are using the same GPU/Partition",
        r"No CUDA GPUs are available",
        r"CUDA error: invalid device ordinal",
    ],
)
def gpu_mig(gpus: Gpus, allocation: Allocation | None, workload: Workload | None) -> Finding:
    """MIG does not split a GPU that the job needs whole.

    With MIG on, CUDA shows a process one slice at most, and none where no slice was made. NCCL
    does not connect slices: "Duplicate GPU detected", "invalid device ordinal".
    """
    job = _of_job(gpus, allocation)
    if not job:
        return skip(NO_GPU)
    known = [gpu for gpu in job if gpu.mig_enabled is not None]
    if gap := unread(job, "mig_enabled", "mig_devices"):
        return gap
    if not known:
        return skip("these GPUs have no MIG")
    split = [gpu for gpu in known if gpu.mig_enabled]
    troubles = [trouble for gpu in known if (trouble := _mig(gpu))]
    ranks = workload.local_ranks if workload else 1
    if ranks > 1:
        told = workload is not None and workload.told_by.get("local_ranks", "") not in ASSUMED
        troubles += [
            Trouble(
                status=Status.FAIL if told else Status.WARN,
                gpu=gpu,
                words=f"split by MIG, and the job has {ranks} ranks on this node",
                text="Give jobs of several ranks GPUs without MIG",
                commands=(MIG_OFF.format(address(gpu)),),
            )
            for gpu in split
            if gpu.mig_devices != 0
        ]
    if troubles:
        return worst(troubles)
    if split:
        return ok(f"{count_of(sum(gpu.mig_devices or 1 for gpu in split), 'slice')} of MIG")
    return ok(f"off on {count_of(len(known), 'GPU')}")


def _mig(gpu: Gpu) -> Trouble | None:
    if gpu.mig_enabled and gpu.mig_devices == 0:
        return Trouble(
            status=Status.FAIL,
            gpu=gpu,
            words="MIG is on, and no slice was made: CUDA sees nothing",
            text="Make a slice, or turn MIG off",
            commands=(f"sudo nvidia-smi mig -i {address(gpu)} -lgip", MIG_OFF.format(address(gpu))),
        )
    if gpu.mig_pending is not None and gpu.mig_pending != gpu.mig_enabled:
        turned = "on" if gpu.mig_pending else "off"
        return Trouble(
            status=Status.WARN,
            gpu=gpu,
            words=f"MIG will be {turned} after the next reset",
            text="Reset the GPU while nobody uses it, or take the change back",
            commands=(
                reset(gpu),
                f"sudo nvidia-smi -i {address(gpu)} -mig {int(bool(gpu.mig_enabled))}  # as it was",
            ),
        )
    return None


@check(owner="node", symptoms=[r"HIP out of memory", r"hipErrorOutOfMemory", r"partition mode"])
def gpu_partition(
    gpus: Gpus, allocation: Allocation | None, expectations: Expectations | None
) -> Finding:
    """AMD GPUs are not split into partitions that the job does not expect.

    In CPX an MI300X is eight small GPUs with an eighth of the memory each: "HIP out of memory"
    in a job that fits a whole one, and eight times as many ranks as planned.
    """
    job = _of_job(gpus, allocation)
    if not job:
        return skip(NO_GPU)
    known = [gpu for gpu in job if gpu.partition_compute]
    if gap := unread(job, "partition_compute"):
        return gap
    if not known:
        return skip("these GPUs cannot be partitioned")
    modes = {(gpu.partition_compute or "", gpu.partition_memory or "") for gpu in known}
    said = ", ".join(sorted("/".join(filter(None, mode)) for mode in modes))
    split = [gpu for gpu in known if gpu.partition_compute != "SPX"]
    if not split and len(modes) == 1:
        return ok(f"{said} on {count_of(len(known), 'GPU')}")
    if len(modes) == 1 and promised(allocation, expectations)[0] == len(gpus.alive):
        return ok(f"{said}: {count_of(len(known), 'partition')}, as expected")
    memory = min((gpu.memory_bytes for gpu in split if gpu.memory_bytes), default=0)
    each = f" of {size(memory)} each" if memory else ""
    summary = f"{said}: {count_of(len(split), 'partition')}{each}"
    if not split or len(modes) > 1:
        summary = f"GPUs of one job in different modes: {said}"
    fix = Fix(
        text="Where the job is meant for whole GPUs, set them back while nobody uses them",
        commands=["sudo amd-smi set --gpu all --compute-partition SPX"],
        needs_root=True,
    )
    evidence = [f"{which(g)}: {g.partition_compute} {g.partition_memory or ''}" for g in known]
    return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")


@check(
    owner="node",
    symptoms=[
        r"all CUDA-capable devices are busy or unavailable",
        r"CUDA-capable device\(s\) is/are busy or unavailable",
        r"CUDA_ERROR_DEVICE_UNAVAILABLE|cudaErrorDevicesUnavailable",
    ],
)
def gpu_compute_mode(
    gpus: Gpus, allocation: Allocation | None, workload: Workload | None
) -> Finding:
    """Every process of the job may use its GPU.

    A GPU in mode "prohibited" takes no process; in "exclusive process" it takes one, and every
    further one ends with "all CUDA-capable devices are busy or unavailable" (46).
    """
    job = _of_job(gpus, allocation)
    if not job:
        return skip(NO_GPU)
    known = [gpu for gpu in job if gpu.compute_mode]
    if gap := unread(job, "compute_mode"):
        return gap
    if not known:
        return skip("these GPUs have no compute mode")
    crowded = workload is not None and workload.local_ranks > len(job)
    troubles = [_narrow(gpu, crowded) for gpu in known if gpu.compute_mode != "default"]
    return worst(troubles) if troubles else ok(f"default on {count_of(len(known), 'GPU')}")


def _narrow(gpu: Gpu, crowded: bool) -> Trouble:
    closed = gpu.compute_mode == "prohibited"
    words = f'compute mode "{gpu.compute_mode}"'
    if gpu.processes and not closed:
        words += f", and pid {gpu.processes[0].pid} has it"
    elif not closed:
        words += ": a second process on it ends in error 46"
    return Trouble(
        status=Status.FAIL if closed or gpu.processes or crowded else Status.WARN,
        gpu=gpu,
        words=words,
        text="Let several processes use the GPU",
        commands=(f"sudo nvidia-smi -i {address(gpu)} -c DEFAULT",),
    )


@check(owner="node", symptoms=[r"first CUDA call is slow", r"Persistence-M.*Off"])
def gpu_persistence(gpus: Gpus, container: Container | None) -> Finding:
    """The driver of a server keeps its GPUs ready while nobody uses them.

    Without persistence the driver lets a GPU go when the last process ends, and brings it up
    again for the next one: the first CUDA call of each process takes seconds per GPU, and settings
    such as power limits are lost in between.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    known = [gpu for gpu in gpus.alive if gpu.persistence is not None]
    if gap := unread(gpus.alive, "persistence"):
        return gap
    if not known:
        return skip("these GPUs have no persistence mode")
    off = [gpu for gpu in known if not gpu.persistence]
    if not off:
        return ok(f"on for {count_of(len(known), 'GPU')}")
    if container and container.wsl2:
        return skip("WSL2: it is up to Windows")
    if len(known) == 1 and not _is_server(known[0]):
        return ok("off, as on desktops")
    fix = Fix(
        text="Start the persistence daemon; where there is none, nvidia-smi sets it until reboot",
        commands=["systemctl enable --now nvidia-persistenced || nvidia-smi -pm 1"],
        needs_root=True,
    )
    evidence = [which(gpu) for gpu in off]
    summary = f"off on {len(off)} of {count_of(len(known), 'GPU')}"
    return warn(summary, fix, evidence=evidence, basis="vendor")


def _is_server(gpu: Gpu) -> bool:
    model = gpu_model(gpu.name)
    return model is not None and model.data_centre
