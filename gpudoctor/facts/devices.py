"""Device nodes that a job opens: GPUs and RDMA."""

from gpudoctor.snapshot import Fact


class Devices(Fact, frozen=True, kw_only=True):
    """What stands in /dev, and RDMA devices that only /sys shows."""

    nvidia: tuple[int, ...] = ()  # N of /dev/nvidiaN
    amd_render: tuple[str, ...] = ()  # renderD128, ... of AMD, when /dev/kfd is there
    rdma: tuple[str, ...] = ()  # uverbs0, ... in /dev/infiniband
    rdma_in_sysfs: tuple[str, ...] = ()  # mlx5_0, ... in /sys/class/infiniband
    rdma_from_environment: tuple[str, ...] = ()  # variables that ask for RDMA

    @property
    def gpus(self) -> int:
        """GPUs by their device nodes."""
        return len(self.nvidia) or len(self.amd_render)
