"""The Python that will train, read without running it."""

import re
import shlex
from collections.abc import Mapping

from gpudoctor.snapshot import Fact


class JobPython(Fact, frozen=True, kw_only=True):
    """An interpreter and the packages beside it that matter to training.

    `packages` maps distribution names, in lower case with hyphens, to versions.
    """

    path: str
    chosen_by: str  # "--python", "VIRTUAL_ENV", "CONDA_PREFIX", "PATH", "gpudoctor's own"
    version: str = ""  # "3.12"
    packages: Mapping[str, str] = {}

    @property
    def pip(self) -> str:
        """Its pip, as a command begins."""
        return f"{shlex.quote(self.path)} -m pip"

    @property
    def nccl(self) -> tuple[int, int] | None:
        """NCCL's version by its wheel, (2, 27); None when it comes from elsewhere."""
        for name, version in self.packages.items():
            if name.startswith("nvidia-nccl-cu") and (found := re.match(r"(\d+)\.(\d+)", version)):
                return int(found[1]), int(found[2])
        return None


class Packages(Fact, frozen=True, kw_only=True):
    """All distributions of the job's Python.

    Looked for only where nodes are compared or a profile demands packages. `versions` is as
    JobPython's packages; an empty version is not told by the files.
    """

    versions: Mapping[str, str] = {}


def normal(name: str) -> str:
    """A distribution's name as pip compares it: "Flash_Attn" is "flash-attn"."""
    return re.sub(r"[-_.]+", "-", name).lower()
