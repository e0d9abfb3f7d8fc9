"""Resource limits that a process inherits: locked memory, stack, files, processes."""

from gpudoctor import (
    GIB,
    MIB,
    Absent,
    Devices,
    Environment,
    Finding,
    Fix,
    JobPython,
    Limit,
    Limits,
    Memlock,
    NoFile,
    NProc,
    Owner,
    Privileges,
    Processes,
    Setting,
    Stack,
    System,
    User,
    Workload,
    check,
    count_of,
    fail,
    file_need,
    ok,
    size,
    skip,
    thread_need,
    unknown,
    warn,
)

MEMLOCK_ENOUGH = 64 * GIB  # more than NCCL and MPI register; half of RAM where that is less
CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 14, 21, 24  # linux/capability.h
STACK_LEAST = 8 * MIB  # the kernel's default
STACK_ASKED = 64 * MIB  # NVIDIA's advice for its containers
STACK_MENDED = (2, 28)  # NCCL's documentation, "Stack size"
FILES_ASKED = 1 << 20  # fs.nr_open, the most that a kernel allows by default
FILES_ABSURD = 16 * FILES_ASKED  # 1073741816 in the containers of moby issue 45534
FILES_USED_SHARE = 0.8
ADDRESS_SPACE_ALL = 1 << 47  # all that a process has on x86-64
NOT_SAID = "the launch file does not say: the limit is the engine's own"


@check(
    owner="launch",
    symptoms=[
        r"ibv_reg_mr\w* failed",
        r"ibv_create_(?:qp|cq).* failed",
        r"ibv_create_cq.*Cannot allocate memory",
    ],
)
def limits_memlock(
    limits: Limits,
    devices: Devices,
    workload: Workload,
    privileges: Privileges | None,
    system: System | None,
) -> Finding:
    """Enough memory may be locked for RDMA.

    InfiniBand and RoCE register their buffers by locking them. Under a low limit NCCL fails
    when the first connection is made: "Call to ibv_reg_mr_iova2 failed with error Cannot
    allocate memory" or "ibv_create_qp failed".
    """
    if limits.memlock is None:
        return skip(NOT_SAID)
    limit = limits.memlock.soft
    if limit is None:
        return ok("unlimited")
    if not devices.rdma:
        seen = "its device nodes are not in here" if devices.rdma_in_sysfs else "none is here"
        return ok(f"{size(limit)}; matters only with RDMA, and {seen}")
    # RDMA asks for the capability of the machine itself, not of a user namespace.
    if privileges and privileges.has(CAP_IPC_LOCK) and not privileges.user_namespace:
        return ok(f"{size(limit)}, which CAP_IPC_LOCK lifts")
    half = system.memory_bytes // 2 if system and system.memory_bytes else MEMLOCK_ENOUGH
    summary = f"{size(limit)} with {count_of(len(devices.rdma), 'RDMA device')}"
    evidence = [f"RDMA devices: {', '.join(devices.rdma)}"]
    fix = Fix(Memlock(None))
    if limit >= half:
        return ok(summary, evidence)
    one_node = workload.knows("nodes") and workload.nodes == 1  # NCCL then leaves RDMA alone
    if limit >= MEMLOCK_ENOUGH or one_node:
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return fail(summary, fix, evidence=evidence, basis="rule-of-thumb")


@check(owner="launch", symptoms=[r"Fatal Python error: Segmentation fault"])
def limits_stack(limits: Limits, workload: Workload, job_python: JobPython | None) -> Finding:
    """The stack limit suits NCCL's threads.

    "Unlimited" does the opposite of what it says: the C library then gives new threads 2 MiB.
    NCCL before 2.28 needs more, and ends in "Fatal Python error: Segmentation fault" while it
    starts. A stack below the usual 8 MiB has the same end.
    """
    if limits.stack is None:
        return skip(NOT_SAID)
    limit = limits.stack.soft
    nccl = job_python.nccl if job_python else None
    fix = Fix(Stack(STACK_ASKED))
    if limit is not None and limit < STACK_LEAST:
        return warn(f"{size(limit)}, less than the usual 8 MiB", fix, basis="rule-of-thumb")
    if limit is not None:
        return ok(size(limit))
    if nccl is not None and nccl >= STACK_MENDED:
        return ok(f"unlimited, which NCCL {nccl[0]}.{nccl[1]} knows to handle")
    known = workload.knows("local_ranks") and workload.knows("nodes")
    if known and workload.local_ranks * workload.nodes == 1:
        return ok("unlimited; matters only with NCCL, and there is one rank")
    version = f"NCCL is {nccl[0]}.{nccl[1]}" if nccl else "NCCL's version is not known"
    return warn("unlimited: threads get only 2 MiB", fix, evidence=[version], basis="vendor")


@check(
    owner="launch",
    symptoms=[r"Too many open files", r"received 0 items of ancdata", r"No file descriptors avail"],
)
def limits_nofile(limits: Limits, workload: Workload, processes: Processes | None) -> Finding:
    """A rank may open the files that it needs.

    Every tensor that a DataLoader worker hands over is a descriptor, and so is every socket of
    NCCL. At the limit the job ends in "OSError: [Errno 24] Too many open files" or "received 0
    items of ancdata". A limit of a billion, as some container engines set it, makes programs
    that close every possible descriptor hang at 100 % CPU.
    """
    if limits.nofile is None:
        return skip(NOT_SAID)
    limit, need = limits.nofile.soft, file_need(workload)
    if limit is None or limit > FILES_ABSURD:
        summary = f"{limit or 'unlimited'}: programs that close every descriptor hang"
        return warn(summary, Fix(NoFile(FILES_ASKED)), basis="rule-of-thumb")
    summary = f"{limit}, a rank of this job needs about {need.count}"
    if limit < 2 * need.count:
        fix = _raise(limits.nofile, 2 * need.count, "n", NoFile(FILES_ASKED), FILES_ASKED)
        owner: Owner = "job" if fix.commands else "launch"
        worry = fail if limit < need.count else warn
        return worry(summary, fix, evidence=need.arithmetic, basis="rule-of-thumb", owner=owner)
    used, most = (processes.files_used, processes.files_max) if processes else (None, None)
    if used and most and used > FILES_USED_SHARE * most:
        fix = Fix(
            text="Let the kernel open more files",
            commands=[f"sysctl -w fs.file-max={2 * most}"],
            needs_root=True,
        )
        summary = f"{used} of {most} files open on the whole machine"
        return warn(summary, fix, basis="rule-of-thumb", owner="node")
    return ok(summary, need.arithmetic)


NO_THREADS = [
    r"pthread_create failed.*Resource temporarily unavailable",
    r"can't start new thread",
    r"fork: retry",
    r"BlockingIOError: \[Errno 11\]",
]


@check(owner="launch", symptoms=NO_THREADS)
def limits_nproc(
    limits: Limits,
    workload: Workload,
    processes: Processes | Absent | None,
    system: System | None,
    environment: Environment | None,
    privileges: Privileges | None,
    user: User | None,
) -> Finding:
    """This user may start the threads that the job needs.

    The limit counts threads, of all processes of the user. At the limit the job ends in
    "pthread_create failed ... Resource temporarily unavailable", "can't start new thread" or
    "fork: retry".
    """
    if limits.nproc is None:
        return skip(NOT_SAID)
    seen = processes if isinstance(processes, Processes) else None
    need = thread_need(workload, system, environment)
    limit = None if _is_exempt(privileges, user) else limits.nproc.soft
    rooms: list[tuple[int, str, Fix, Owner]] = []
    if limit is not None:
        used = seen.own_threads if seen else 0
        fix = _raise(limits.nproc, used + 2 * need.most, "u", NProc(None), None)
        words = f"{limit} for this user" + (f", {used} in use" if seen else "")
        rooms.append((limit - used, words, fix, "job" if fix.commands else "launch"))
    if seen and (machine := _least(seen.threads_max, seen.pid_max)) is not None:
        words = f"{machine} on the whole machine, {seen.all_threads} in use"
        rooms.append((machine - seen.all_threads, words, RAISE_KERNEL, "node"))
    if not rooms:
        return ok("no limit for this user")
    free, summary, fix, owner = min(rooms, key=lambda room: room[0])
    summary += f", this job needs {need.least} to {need.most}"
    if free < need.most:
        worry = fail if free < need.least else warn
        return worry(summary, fix, evidence=need.arithmetic, basis="rule-of-thumb", owner=owner)
    if limit is not None and seen is None:
        beforehand = isinstance(processes, Absent) and not processes.broken
        reason = f"how much of {limit} this user has in use could not be counted"
        return skip(reason) if beforehand else unknown(reason)
    return ok(summary, need.arithmetic)


@check(
    owner="node",
    symptoms=[r"failed to map segment from shared object", r"mmap.*Cannot allocate memory"],
)
def limits_address_space(limits: Limits, devices: Devices) -> Finding:
    """Address space is not limited.

    CUDA and ROCm reserve far more addresses than the memory that they use. Under `ulimit -v`
    the first call to the GPU can fail as if memory were short: "out of memory" or "Cannot
    allocate memory".
    """
    if limits.address_space is None:
        return skip(NOT_SAID)
    limit = limits.address_space.soft
    if limit is None or limit >= ADDRESS_SPACE_ALL:
        return ok(size(limit))
    hard = limits.address_space.hard
    if hard is None or hard >= ADDRESS_SPACE_ALL:
        value = "unlimited" if hard is None else hard // 1024
        fix = Fix(text=IN_THE_SHELL, commands=[f"ulimit -v {value}"])
    else:
        fix = Fix(
            text="Lift the limit on the node, then log in again",
            commands=["echo '* - as unlimited' > /etc/security/limits.d/99-gpudoctor-as.conf"],
            needs_root=True,
        )
    owner: Owner = "node" if fix.needs_root else "job"
    if devices.gpus:
        return fail(size(limit), fix, basis="rule-of-thumb", owner=owner)
    summary = f"{size(limit)}, too little for CUDA; there is no GPU here"
    return warn(summary, fix, basis="rule-of-thumb", owner=owner)


IN_THE_SHELL = "Raise the soft limit in the shell that starts the job"

# pid_max is 2^22 at most on 64 bits; threads-max follows RAM unless it is set.
RAISE_KERNEL = Fix(
    text="Let the kernel run more threads",
    commands=["sysctl -w kernel.pid_max=4194304 kernel.threads-max=4194304"],
    needs_root=True,
)


def _raise(limit: Limit, wanted: int, letter: str, setting: Setting, most: int | None) -> Fix:
    """The job raises the soft limit itself as far as the hard one allows; else the launcher."""
    if limit.hard is None or limit.hard >= wanted:
        value = _least(limit.hard, most)
        words = "unlimited" if value is None else str(value)
        return Fix(text=IN_THE_SHELL, commands=[f"ulimit -{letter} {words}"])
    return Fix(setting)


def _is_exempt(privileges: Privileges | None, user: User | None) -> bool:
    """Whether RLIMIT_NPROC does not count, as kernel/fork.c has it: for the machine's own root."""
    if privileges is None or privileges.user_namespace:
        return False
    root = user is not None and user.uid == 0
    return root or privileges.has(CAP_SYS_ADMIN) or privileges.has(CAP_SYS_RESOURCE)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)
