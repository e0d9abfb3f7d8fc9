"""An end of the way, as a finding of its own or as a rung of the ladder."""

from collections.abc import Sequence

from msgspec import Struct

from gpudoctor.facts.container import Container
from gpudoctor.finding import Finding, Fix, Owner, Rung, fail, warn

LOG = {"nvidia": "NVRM|Xid", "amd": "amdgpu|kfd"}


class Stop(Struct, frozen=True):
    """Where it ends, why, what to do, and who."""

    summary: str
    fix: Fix
    owner: Owner
    evidence: tuple[str, ...] = ()

    def finding(self, ladder: Sequence[Rung] = (), remarks: Sequence[str] = ()) -> Finding:
        """As a finding of its own, or at the end of a ladder."""
        return fail(
            self.summary,
            self.fix,
            evidence=(*self.evidence, *remarks),
            basis="measured",
            owner=self.owner,
            ladder=ladder,
        )

    def warning(self) -> Finding:
        """As a finding where the job may come through all the same."""
        return warn(
            self.summary, self.fix, evidence=self.evidence, basis="measured", owner=self.owner
        )


def is_inside(container: Container | None) -> bool:
    """Whether a container, whose launch decides over devices, surrounds us."""
    return container is not None and container.runtime != "none"


def install_libraries(version: str) -> Fix:
    """The user libraries that belong to the loaded module."""
    branch = version.partition(".")[0]
    return Fix(
        text=f"Install the driver's user libraries of version {version or 'loaded'}",
        commands=[
            f"apt-get install libnvidia-compute-{branch}  # RHEL, SUSE: nvidia-driver-cuda-libs"
        ],
        needs_root=True,
    )


def ask_kernel(vendor: str, text: str, *more: str) -> Fix:
    """For what only the kernel's log explains."""
    return Fix(
        text=text, commands=[f"dmesg | grep -iE '{LOG[vendor]}' | tail -20", *more], needs_root=True
    )
