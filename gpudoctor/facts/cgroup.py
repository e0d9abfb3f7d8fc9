"""What the cgroups of this process allow: memory, CPU, processes."""

from gpudoctor.snapshot import Fact


class Cgroup(Fact, frozen=True, kw_only=True):
    """The tightest limits on the way from this process's cgroup to the root.

    Limits set above a private cgroup namespace cannot be seen. None: no limit, or (for
    what is used) not known. Where several cgroups limit the same, the numbers are those of
    the one whose limit is reached first.
    """

    version: int  # 1 or 2; a hybrid counts as what its memory controller is
    memory_limit_bytes: int | None = None
    memory_high_bytes: int | None = None  # v2: throttled from here on
    memory_used_bytes: int | None = None
    memory_reclaimable_bytes: int | None = None  # page cache that an allocation can evict
    oom_kills: int | None = None
    cpu_quota: float | None = None  # CPUs
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    cpuset_cpus: int | None = None
    pids_limit: int | None = None
    pids_used: int | None = None
    unseen: tuple[str, ...] = ()  # of memory, cpu, cpuset, pids: limits that nobody can see here

    @property
    def memory_free_bytes(self) -> int | None:
        """What can still be charged before the kernel kills; None: no limit."""
        if self.memory_limit_bytes is None:
            return None
        kept = (self.memory_used_bytes or 0) - (self.memory_reclaimable_bytes or 0)
        return max(0, self.memory_limit_bytes - max(0, kept))
