"""/dev/shm, through which DataLoader workers, NCCL and MPI pass their data."""

from shlex import quote

from gpudoctor import (
    MIB,
    Cgroup,
    Container,
    Environment,
    Finding,
    Fix,
    Gpus,
    JobPython,
    Memory,
    Mount,
    Shm,
    ShmFiles,
    ShmNeed,
    ShmSize,
    ShmWrite,
    Workload,
    check,
    count_of,
    fail,
    ok,
    power_of_two,
    shm_need,
    size,
    skip,
    warn,
)

BUS_ERROR = [
    r"DataLoader worker .* killed by signal: Bus error",
    r"unexpected bus error encountered in worker",
    r"unable to allocate shared memory\(shm\)",
    r"unable to write to file </torch_",
]
NCCL_SHM = [
    r"failed to extend /dev/shm/nccl-",
    r"Error while creating shared memory segment",
    r"Call to posix_fallocate failed",
]
STALE_BYTES = 100 * MIB  # less is not worth a word
STALE_SHARE = 0.1


@check(owner="launch", symptoms=[*BUS_ERROR, *NCCL_SHM, r"unhandled system error"])
def shm_size(
    shm: Shm,
    workload: Workload,
    job_python: JobPython | None,
    cgroup: Cgroup | None,
    gpus: Gpus | None = None,
    environment: Environment | None = None,
) -> Finding:
    """/dev/shm is large enough for this job.

    DataLoader workers and NCCL pass tensors through /dev/shm. When it is full the job dies
    minutes later with "Bus error", "unable to allocate shared memory" or NCCL's "failed to
    extend /dev/shm/nccl-...: No space left on device".
    """
    need = _need(workload, job_python, gpus, environment)
    fix = Fix(ShmSize(_recommended(need, cgroup)))
    if not shm.exists:
        return fail("there is no /dev/shm", fix, evidence=need.arithmetic, basis="measured")
    summary = f"{size(shm.total_bytes)}, this job needs {size(need.bytes)}"
    if shm.total_bytes >= need.bytes:
        return ok(summary, need.arithmetic)
    # One rank may have no workers at all; several surely talk through NCCL or gloo.
    if workload.local_ranks == 1 and not workload.knows("workers"):
        summary = f"{size(shm.total_bytes)}, enough only without DataLoader workers"
        return warn(summary, fix, evidence=need.arithmetic, basis="rule-of-thumb")
    return fail(summary, fix, evidence=need.arithmetic, basis="measured")


@check(
    owner="launch",
    symptoms=[*NCCL_SHM, r"unable to open shared memory object", r"Read-only file system"],
)
def shm_write(shm_write: ShmWrite, shm: Shm) -> Finding:
    """/dev/shm takes data and gives it back.

    A /dev/shm that is mounted read-only, belongs to somebody else or is full looks fine by
    its size, and fails the first worker that opens a segment: "unable to open shared memory
    object </torch_...> in read-write mode".
    """
    if not shm_write.error:
        return ok(f"{size(shm_write.tried_bytes)} allocated, written and read back")
    summary = f"allocating {size(shm_write.tried_bytes)} failed: {shm_write.error}"
    if shm_write.error.startswith("ENOSPC"):
        free = f"free: {size(shm.free_bytes)} of {size(shm.total_bytes)}"
        fix = Fix(ShmSize(max(1 << 30, power_of_two(2 * shm.total_bytes))))
        return fail(summary, fix, evidence=[free], basis="measured")
    mount = Mount("/dev/shm", tmpfs_bytes=max(1 << 30, shm.total_bytes))
    return fail(summary, Fix(mount), basis="measured")


@check(owner="job", symptoms=[*BUS_ERROR, *NCCL_SHM])
def shm_free(
    shm: Shm,
    shm_files: ShmFiles,
    workload: Workload,
    job_python: JobPython | None,
    gpus: Gpus | None = None,
    environment: Environment | None = None,
) -> Finding:
    """/dev/shm is not filled by what earlier jobs left behind.

    A job that crashed leaves its segments: nobody uses them, nobody removes them, and they
    count until the container or the machine restarts. The next job finds the space gone.
    """
    if not shm.exists:
        return skip("there is no /dev/shm")
    need = _need(workload, job_python, gpus, environment)
    if shm.total_bytes < need.bytes:
        return skip("it is too small even when empty: see shm-size")
    dead = [f for f in shm_files.files if f.owner == "dead" and f.name.startswith(LEFT_BEHIND)]
    stale = sum(file.bytes for file in dead)
    evidence = [f"{f.name}: {size(f.bytes)}, {_age(f.age_seconds)} old, uid {f.uid}" for f in dead]
    commands = ["rm -f " + " ".join(f"/dev/shm/{quote(file.name)}" for file in dead[:20])]
    summary = f"{size(shm.free_bytes)} of {size(shm.total_bytes)} free"
    if shm.free_bytes < need.bytes:
        summary += f", this job needs {size(need.bytes)}"
        if dead and shm.free_bytes + stale >= need.bytes:
            fix = Fix(text="Remove what crashed jobs left in /dev/shm", commands=commands)
        else:
            evidence = [f"{f.name}: {size(f.bytes)}, uid {f.uid}" for f in shm_files.files]
            fix = Fix(
                text="End what uses /dev/shm, or give this job one of its own",
                commands=["ls -lS /dev/shm | head -20"],
            )
        return fail(summary, fix, evidence=evidence[:10], basis="measured")
    if stale > STALE_BYTES or stale > STALE_SHARE * shm.total_bytes:
        summary = f"{size(stale)} in {count_of(len(dead), 'file')} of dead processes"
        fix = Fix(text="Remove what crashed jobs left in /dev/shm", commands=commands)
        return warn(summary, fix, evidence=evidence[:10], basis="rule-of-thumb")
    return ok(summary)


@check(owner="launch", symptoms=[r"OOMKilled", r"Memory cgroup out of memory", r"signal 9"])
def shm_cgroup(
    shm: Shm,
    cgroup: Cgroup,
    workload: Workload,
    job_python: JobPython | None,
    container: Container | None,
    gpus: Gpus | None = None,
    environment: Environment | None = None,
) -> Finding:
    """The memory limit leaves room for what the job puts into /dev/shm.

    Pages of /dev/shm count against the container's memory limit. When that is reached the
    kernel kills a rank (exit code 137, "OOMKilled") or a worker gets "Bus error", although
    `df /dev/shm` still shows free space.
    """
    limit, free = cgroup.memory_limit_bytes, cgroup.memory_free_bytes
    if limit is None or free is None:
        return ok("no memory limit")
    need = _need(workload, job_python, gpus, environment)
    wanted = Fix(Memory(power_of_two(limit + need.bytes)))
    if need.bytes > free:
        summary = f"{size(free)} of {size(limit)} left to charge, /dev/shm needs {size(need.bytes)}"
        return fail(summary, wanted, evidence=need.arithmetic, basis="measured")
    shared = container is not None and container.ipc_private is False
    if shm.total_bytes > limit and not shared and shm.filesystem == "tmpfs":
        summary = f"/dev/shm may hold {size(shm.total_bytes)}, the memory limit is {size(limit)}"
        smaller = Fix(ShmSize(_recommended(need, cgroup)))
        return warn(summary, smaller, basis="rule-of-thumb")
    return ok(f"{size(free)} of {size(limit)} left to charge, /dev/shm needs {size(need.bytes)}")


# What NCCL, torch, Python and MPI leave; anything else in /dev/shm may be meant to stay.
LEFT_BEHIND = ("nccl-", "torch_", "sem.", "psm_", "cuda.shm.", "vader_segment", "psm2_shm")


# NCCL and RCCL use direct access over these; over a host bridge not by themselves.
DIRECT = ("NVLink", "XGMI", "PCIe switch")


def _need(
    workload: Workload,
    job_python: JobPython | None,
    gpus: Gpus | None,
    environment: Environment | None,
) -> ShmNeed:
    pairs = gpus.pairs if gpus else ()
    p2p = bool(pairs) and all(pair.p2p == "ok" and pair.path in DIRECT for pair in pairs)
    told = environment.values if environment else {}
    if told.get("NCCL_P2P_DISABLE", "0") != "0" or "NCCL_P2P_LEVEL" in told:
        p2p = False
    return shm_need(workload, job_python.nccl if job_python else None, p2p=p2p)


def _recommended(need: ShmNeed, cgroup: Cgroup | None) -> int:
    """The usual recommendation, but not more than the memory limit can ever back."""
    limit = cgroup.memory_limit_bytes if cgroup else None
    if limit is None or need.recommended <= limit // 2:
        return need.recommended
    return max(power_of_two(need.bytes), power_of_two(limit // 2 + 1) // 2)


def _age(seconds: int) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
