"""What the container or job may use at most: processes, memory, CPUs."""

from gpudoctor import (
    GIB,
    Cgroup,
    Cpus,
    Environment,
    Finding,
    Fix,
    Memory,
    Owner,
    Pids,
    System,
    Workload,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    thread_need,
    warn,
)

RANK_LEAST = 1 * GIB  # torch with a CUDA context, before any model or data; rule of thumb
RANK_USUAL = 4 * GIB  # with a small model and its loaders; rule of thumb
RANK_ASKED = 16 * GIB  # what to ask for when nothing is known of the model; rule of thumb
HIGH_SHARE = 0.95  # of memory.high: from here on the kernel slows the job down
CPUS_FEW, CPUS_LEAST, CPUS_ASKED = 2, 1, 4  # of a rank: training loop and NCCL; its loaders too
THROTTLED_SHARE = 0.05  # of scheduler periods
THROTTLED_PERIODS = 100  # 10 s; fewer say nothing
# Launchers whose tasks can each have CPUs of their own.
BINDS_TASKS = ("SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
UNSEEN = "the limits of this process's {} cgroup cannot be seen from here"


@check(
    owner="launch",
    symptoms=[
        r"pthread_create failed.*Resource temporarily unavailable",
        r"can't start new thread",
        r"fork: retry",
        r"cgroup: fork rejected by pids controller",
    ],
)
def cgroup_pids(
    cgroup: Cgroup, workload: Workload, system: System | None, environment: Environment | None
) -> Finding:
    """The container's process limit leaves room for this job.

    It counts threads, not only processes. At the limit the job ends in "pthread_create failed
    ... Resource temporarily unavailable", "can't start new thread" or "fork: retry". Podman
    allows 2048 unless told otherwise.
    """
    if "pids" in cgroup.unseen:
        return skip(UNSEEN.format("pids"))
    if cgroup.pids_limit is None:
        return ok("no limit")
    used = cgroup.pids_used or 0
    need = thread_need(workload, system, environment)
    free = cgroup.pids_limit - used
    needs = f"{need.least} to {need.most}" if need.most > need.least else f"{need.least}"
    in_use = "" if cgroup.pids_used is None else f", {used} in use"
    summary = f"{cgroup.pids_limit}{in_use}, this job needs {needs}"
    if free >= need.most:
        return ok(summary, need.arithmetic)
    worry = fail if free < need.least else warn
    return worry(summary, Fix(Pids(None)), evidence=need.arithmetic, basis="rule-of-thumb")


@check(
    owner="launch",
    symptoms=[
        r"OOMKilled",
        r"Memory cgroup out of memory",
        r"Detected \d+ oom.kill event",
        r"Signal 9 \(SIGKILL\) received by PID",
        r"exitcode\s*: -9",
    ],
)
def cgroup_memory(cgroup: Cgroup, workload: Workload, system: System | None) -> Finding:
    """The memory limit leaves room for every rank.

    Host memory of all ranks, their DataLoader workers, /dev/shm and loaded checkpoints counts
    together. At the limit the kernel kills a rank: exit code 137 or -9, "OOMKilled", "Signal 9
    (SIGKILL) received by PID"; the others then wait for it until NCCL times out.
    """
    if "memory" in cgroup.unseen:
        return skip(UNSEEN.format("memory"))
    limit, high = cgroup.memory_limit_bytes, cgroup.memory_high_bytes
    if limit is None and high is None:
        return ok("no limit")
    ceiling = min(bound for bound in (limit, high) if bound is not None)
    kept = max(0, (cgroup.memory_used_bytes or 0) - (cgroup.memory_reclaimable_bytes or 0))
    free = max(0, ceiling - kept)
    ranks, load = workload.local_ranks, workload.checkpoint_bytes
    least, usual = ranks * RANK_LEAST, ranks * (RANK_USUAL + load)
    fix = Fix(Memory(_asked(ceiling, ranks * (RANK_ASKED + load), system)))
    summary = f"{size(free)} of {size(ceiling)} free for {count_of(ranks, 'rank')}"
    evidence = [
        f"least: {ranks} x {size(RANK_LEAST)} = {size(least)}, to start at all",
        f"usual: {ranks} x {size(RANK_USUAL + load)} = {size(usual)}",
        "the checkpoint counts once for each rank" if load else "the model's size is not known",
    ]
    if limit is not None and limit - kept < least:
        return fail(summary, fix, evidence=evidence, basis="rule-of-thumb")
    if limit is not None and cgroup.oom_kills:
        summary = f"{count_of(cgroup.oom_kills, 'process', 'processes')} killed at {size(limit)}"
        return warn(f"{summary} already", fix, evidence=evidence, basis="measured")
    if high is not None and kept > HIGH_SHARE * high:
        return warn(f"{size(kept)} used, slowed down from {size(high)} on", fix, basis="measured")
    if free < least or ceiling < usual:
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return ok(summary, evidence)


@check(
    owner="launch",
    symptoms=[
        r"This DataLoader will create \d+ worker processes in total",
        r"excessive worker creation might get DataLoader running slow",
    ],
)
def cgroup_cpu(cgroup: Cgroup, workload: Workload, system: System) -> Finding:
    """Every rank gets enough CPU time.

    A rank needs a CPU for the training loop and one for NCCL, and its loaders need theirs.
    With less the GPUs wait, step times jump, and a quota halts all threads of the job at once.
    torch may say "This DataLoader will create N worker processes in total. Our suggested max
    number of worker in current system is M"; a quota is not even seen by it.
    """
    if "cpu" in cgroup.unseen:
        return skip(UNSEEN.format("cpu"))
    ranks = workload.local_ranks
    shares = [(system.cpus_usable / _sharing(cgroup, workload, system), "CPU affinity")]
    if cgroup.cpuset_cpus is not None:
        shares.append((cgroup.cpuset_cpus / ranks, "cpuset"))
    if cgroup.cpu_quota is not None:
        shares.append((cgroup.cpu_quota / ranks, "quota"))
    owner: Owner = "launch"
    share, name = min(shares)
    wanted = max(ranks * CPUS_ASKED, int(2 * (cgroup.cpu_quota or 0)))
    fix = Fix(Cpus(min(wanted, system.cpus)))
    if share * ranks >= system.cpus:
        owner, share, name = "job", system.cpus / ranks, "all of this machine"
        fix = Fix(text="Use a machine with more CPUs, or start fewer ranks on it")
    total = share * ranks
    summary = f"{total:.3g} CPU{'' if total == 1 else 's'} for {count_of(ranks, 'rank')} ({name})"
    if share < CPUS_FEW:
        # What the launch took away it can give back; a small machine is slow, not broken.
        worry = fail if share < CPUS_LEAST and owner == "launch" else warn
        return worry(summary, fix, basis="rule-of-thumb", owner=owner)
    periods, throttled = cgroup.cpu_periods or 0, cgroup.cpu_throttled_periods or 0
    if periods >= THROTTLED_PERIODS and throttled > THROTTLED_SHARE * periods:
        evidence = [f"{throttled} of {periods} periods throttled", summary]
        percent = f"halted in {100 * throttled / periods:.0f} % of the time slices"
        summary = f"quota of {cgroup.cpu_quota or 0:.3g} CPUs, {percent}"
        return warn(summary, fix, evidence=evidence, basis="rule-of-thumb")
    return ok(summary)


def _asked(ceiling: int, wanted: int, system: System | None) -> int:
    """At least twice what there is now, but not more than the machine has."""
    wanted = max(2 * ceiling, wanted)
    memory = system.memory_bytes if system else None
    return wanted if memory is None else max(ceiling, min(wanted, memory // GIB * GIB))


def _sharing(cgroup: Cgroup, workload: Workload, system: System) -> int:
    """How many ranks share the CPUs that this process is bound to: one, if it is bound alone."""
    binds = workload.told_by.get("local_ranks") in BINDS_TASKS
    bound = system.cpus_usable < (cgroup.cpuset_cpus or system.cpus)
    return 1 if binds and bound else workload.local_ranks
