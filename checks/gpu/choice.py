"""Which GPUs, and how many: what was promised, what is there, what variables leave of it."""

from collections.abc import Sequence

from gpudoctor import (
    Allocation,
    Container,
    CudaInit,
    DeviceNodes,
    EnvSet,
    EnvUnset,
    Expectations,
    Finding,
    Fix,
    Gpu,
    GpuDevices,
    Gpus,
    HipInit,
    PciBus,
    PciGpu,
    Setting,
    Workload,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    warn,
)
from gpudoctor.rules import stops
from gpudoctor.rules.per_gpu import NO_GPU, is_closed, which
from gpudoctor.rules.selection import Selection, hip_variable, promised, select, vendor_of

DUPLICATE = [
    r"Duplicate GPU detected",
    r"Multiple Ranks are using the same GPU",
    r"invalid device ordinal",
]
# Each task that these start may have GPUs of its own, which this one does not see.
STARTS_TASKS = ("SLURM_", "OMPI_", "MPI_")
MEMORY_APART = 0.1  # of the largest: less is ECC or a reserve of the driver


@check(
    owner="node",
    symptoms=[*DUPLICATE, r"GPU is lost", r"GPU has fallen off the bus", r"nvidia-smi.*No devices"],
)
def gpu_count(
    gpus: Gpus,
    pci_bus: PciBus | None,
    allocation: Allocation | None,
    expectations: Expectations | None,
    workload: Workload | None,
    device_nodes: DeviceNodes | None,
    container: Container | None,
    cuda_init: CudaInit | None,
) -> Finding:
    """All GPUs that were promised are there.

    A node with 7 of its 8 GPUs looks well until the last rank starts: "invalid device ordinal",
    "Duplicate GPU detected", and the other nodes wait for it until NCCL's timeout.
    """
    if not gpus.devices:
        return skip(NO_GPU)
    chosen = select(gpus.devices, allocation.visible if allocation else {})
    shared = _is_shared(container, device_nodes)
    # A device cgroup may close GPUs that nobody promised.
    given = [gpu for gpu in chosen.among if not (shared and is_closed(gpu))]
    alive = [gpu for gpu in given if not gpu.lost]
    expected, told_by = promised(allocation, expectations)
    units = sum(gpu.mig_devices or 1 if gpu.mig_enabled else 1 for gpu in alive)
    if lost := [gpu for gpu in given if gpu.lost]:
        return _lost(lost, chosen, gpus.remarks)
    if not shared and (missing := _missing(gpus, pci_bus)):
        return _unknown_to_driver(missing, len(chosen.among), gpus.remarks)
    if expected is not None and units < expected:
        return _fewer(f"{count_of(units, 'GPU')}, {expected} by {told_by}", gpus, expected, shared)
    if cuda_init and 0 < cuda_init.devices < len(chosen.gpus) == units and chosen.certain:
        summary = f"{count_of(units, 'GPU')} by the driver, CUDA counts {cuda_init.devices}"
        text = "Look at the kernel's log for the GPU that CUDA leaves out"
        return fail(summary, stops.ask_kernel("nvidia", text), basis="measured")
    if workload and _torchrun(workload) and workload.local_ranks > units:
        return _too_many_ranks(workload, units)
    wanted = f", {expected} by {told_by}" if expected is not None else ""
    return ok(f"{count_of(units, 'GPU')}{wanted}", gpus.remarks)


def _is_shared(container: Container | None, nodes: DeviceNodes | None) -> bool:
    """Whether this job may be given some of the node's GPUs only."""
    kept = nodes is not None and any(node.error.startswith("EPERM") for node in nodes.nodes)
    return kept or stops.is_inside(container) or (container is not None and container.slurm)


def _lost(lost: Sequence[Gpu], chosen: Selection, remarks: Sequence[str]) -> Finding:
    summary = f"no answer from {len(lost)} of {count_of(len(chosen.among), 'GPU')}"
    evidence = [*(f"{which(gpu)}: {gpu.lost}" for gpu in lost), *remarks]
    text = "Keep jobs off the node and reboot it; if the GPU is lost again, it is broken"
    fix = stops.ask_kernel(lost[0].vendor, text, "reboot")
    if chosen.variables and not any(gpu in lost for gpu in chosen.gpus):
        return warn(f"{summary}; this job uses others", fix, evidence=evidence, basis="measured")
    return fail(summary, fix, evidence=evidence, basis="measured")


def _fewer(summary: str, gpus: Gpus, expected: int, shared: bool) -> Finding:
    vendor = vendor_of(gpus.devices)
    if shared:
        more = Fix(GpuDevices(vendor, expected))
        return fail(summary, more, evidence=gpus.remarks, basis="measured", owner="launch")
    text = "Look why the others are missing, and reboot; or ask for fewer"
    fix = stops.ask_kernel(vendor, text)
    return fail(summary, fix, evidence=gpus.remarks, basis="measured")


def _missing(gpus: Gpus, bus: PciBus | None) -> list[PciGpu]:
    """GPUs on the bus that the driver should have brought up.

    A GPU for the display may be of a kind that the driver leaves alone on purpose.
    """
    known = {gpu.bus_id for gpu in gpus.devices}
    on_bus = bus.gpus if bus else ()
    kinds = {gpu.device_id for gpu in on_bus if gpu.bus_id in known}
    vendors = {gpu.vendor for gpu in gpus.devices}
    return [
        gpu
        for gpu in on_bus
        if gpu.bus_id not in known
        and gpu.vendor in vendors
        and (gpu.driver == "nvidia" or (gpu.driver in ("", "amdgpu") and gpu.device_id in kinds))
    ]


def _unknown_to_driver(missing: Sequence[PciGpu], known: int, remarks: Sequence[str]) -> Finding:
    summary = f"{known} of {known + len(missing)} GPUs on the bus work"
    evidence = [f"{gpu.bus_id} ({gpu.device_id}): the driver did not start it" for gpu in missing]
    fix = stops.ask_kernel(
        missing[0].vendor, "Look why the driver could not start the GPU, and reboot"
    )
    return fail(summary, fix, evidence=[*evidence, *remarks], basis="measured")


def _torchrun(workload: Workload) -> bool:
    """Whether the ranks are told, and all will be started here, with the same GPUs."""
    told = workload.told_by.get("local_ranks", "")
    return bool(told) and not told.startswith((*STARTS_TASKS, "GPU device nodes"))


def _too_many_ranks(workload: Workload, gpus: int) -> Finding:
    told = workload.told_by["local_ranks"]
    summary = f"{workload.local_ranks} ranks on this node ({told}), {count_of(gpus, 'GPU')}"
    text = "Start one rank for each GPU"
    fix = Fix(text=text, commands=[f"torchrun --nproc-per-node={gpus} TRAIN.py"])
    return fail(summary, fix, basis="vendor", owner="launch")


@check(
    owner="launch",
    symptoms=[*DUPLICATE, r"No CUDA GPUs are available", r"no CUDA-capable device is detected"],
)
def gpu_selection(
    gpus: Gpus,
    allocation: Allocation,
    workload: Workload | None,
    cuda_init: CudaInit | None,
    hip_init: HipInit | None,
) -> Finding:
    """The variables that choose GPUs name GPUs that are there, enough for the job.

    CUDA_VISIBLE_DEVICES ends in silence at the first word that names no GPU. The job finds fewer
    GPUs than it was given, or none: "No CUDA GPUs are available", "invalid device ordinal", or
    two ranks share one: "Duplicate GPU detected".
    """
    if not gpus.devices:
        return skip(NO_GPU)
    chosen = select(gpus.devices, allocation.visible)
    started = hip_init if chosen.among[0].vendor == "amd" else cuda_init
    seen = started.devices if started and started.code == 0 else 0
    count = seen if seen and (not chosen.certain or seen > len(chosen.gpus)) else len(chosen.gpus)
    said = " and ".join(chosen.variables) or "no variable chooses"
    if not count:
        return stops.hidden(chosen).finding()
    if chosen.certain and chosen.stopped_by and count == len(chosen.gpus):
        return _stopped(chosen)
    if not chosen.certain and not seen:
        return skip(f"what {said} names cannot be told from here")
    if trouble := _for_ranks(count, said, chosen, allocation, workload):
        return trouble
    if chosen.among[0].vendor == "amd" and (doubled := _doubled(allocation)):
        return doubled
    return ok(f"{count} of {count_of(len(chosen.among), 'GPU')}: {said}")


def _stopped(chosen: Selection) -> Finding:
    name, last = chosen.stopped_by, len(chosen.among) - 1
    summary = f"{name} ends at {chosen.stopped_at!r}, which is no GPU here"
    evidence = [*chosen.variables, f"GPUs here: 0 to {last}, left: {len(chosen.gpus)}"]
    return fail(summary, Fix(EnvUnset(name)), evidence=evidence, basis="vendor")


def _for_ranks(
    count: int, said: str, chosen: Selection, allocation: Allocation, workload: Workload | None
) -> Finding | None:
    """Ranks that find no GPU of their own among those that are left."""
    name = chosen.variables[-1].partition("=")[0] if chosen.variables else ""
    settings: list[Setting] = [EnvUnset(name)] if name else []
    rank = allocation.local_rank
    alike = workload is None or _torchrun(workload)  # else each task may have GPUs of its own
    if rank is not None and rank >= count and (alike or count > 1):
        summary = f"local rank {rank}, but {count_of(count, 'GPU')}: {said}"
        if count == 1:
            text = "Let all ranks see all GPUs; or, with one GPU each, use device 0 in each"
            return warn(summary, Fix(*settings, text=text), basis="rule-of-thumb")
        return fail(summary, Fix(*settings, text="Start one rank for each GPU"), basis="vendor")
    if not workload or not alike or workload.local_ranks <= count or rank is not None:
        return None
    if count < len(chosen.among):
        told = workload.told_by["local_ranks"]
        summary = f"{workload.local_ranks} ranks ({told}), {count_of(count, 'GPU')}: {said}"
        return fail(summary, Fix(*settings), basis="vendor")
    return None  # there are no more: see gpu-count


def _doubled(allocation: Allocation) -> Finding | None:
    """HIP reads one of two variables that say different things."""
    names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    hip, cuda = (allocation.visible.get(name, "") for name in names)
    if not hip or not cuda or hip == cuda:
        return None
    used = hip_variable(allocation.visible)
    summary = f"HIP reads {used}={hip}, not CUDA_VISIBLE_DEVICES={cuda}"
    return warn(summary, Fix(EnvUnset("CUDA_VISIBLE_DEVICES")), basis="vendor")


@check(owner="launch", symptoms=[r"out of memory", r"no kernel image is available", *DUPLICATE])
def gpu_same_model(gpus: Gpus, allocation: Allocation | None, workload: Workload | None) -> Finding:
    """All GPUs of the job are of one model.

    The slowest GPU sets the pace of all, and the one with the least memory is where "CUDA out of
    memory" comes first. A processor's own GPU among them may not be able to train at all.
    """
    visible = allocation.visible if allocation else {}
    chosen = select([gpu for gpu in gpus.devices if not gpu.lost], visible)
    job = chosen.gpus
    if not chosen.among:
        return skip(NO_GPU)
    named = [gpu for gpu in job if gpu.name]
    if len(named) < 2:
        return skip("the job uses one GPU" if len(job) < 2 else "the models are not known")
    models: dict[str, list[Gpu]] = {}
    for gpu in named:
        models.setdefault(gpu.name, []).append(gpu)
    memory = [gpu.memory_bytes for gpu in job if gpu.memory_bytes]
    apart = bool(memory) and max(memory) - min(memory) > MEMORY_APART * max(memory)
    if len(models) == 1 and not apart:
        return ok(f"{len(named)} x {named[0].name}")
    evidence = [f"{which(g)}: {g.name}, {_memory(g)}" for g in job]
    if job[0].vendor == "nvidia" and "CUDA_DEVICE_ORDER" not in visible:
        evidence.append("without CUDA_DEVICE_ORDER=PCI_BUS_ID, CUDA's GPU 0 is the fastest one")
    summary = f"{count_of(len(models), 'model')} of GPU: {', '.join(models)}"
    if len(models) == 1:
        summary = f"{named[0].name} with {size(min(memory))} and with {size(max(memory))}"
    fix = Fix(*_only(max(models.values(), key=_worth)), text="Give the job GPUs of one model")
    ranks = workload.local_ranks if workload and _torchrun(workload) else 1
    if apart and ranks > len(max(models.values(), key=len)):
        return fail(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")


def _memory(gpu: Gpu) -> str:
    return size(gpu.memory_bytes) if gpu.memory_bytes else "memory not known"


def _worth(gpus: Sequence[Gpu]) -> tuple[bool, int]:
    return not gpus[0].integrated, sum(gpu.memory_bytes or 0 for gpu in gpus)


def _only(gpus: Sequence[Gpu]) -> list[Setting]:
    """The job's variable with these alone; UUIDs mean the same in every order."""
    if gpus[0].vendor == "amd":
        return [EnvSet("HIP_VISIBLE_DEVICES", ",".join(str(gpu.index) for gpu in gpus))]
    names = [gpu.uuid or str(gpu.index) for gpu in gpus]
    return [EnvSet("CUDA_VISIBLE_DEVICES", ",".join(names))]
