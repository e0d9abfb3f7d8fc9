"""What NCCL is told beside the environment, and what it answers when asked itself."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class NcclFile(Struct, frozen=True, kw_only=True):
    """A configuration file that NCCL reads: NAME=value lines; the environment wins over it."""

    path: str
    values: Mapping[str, str] = {}
    others: tuple[str, ...] = ()  # names in it that are not on the allow-list
    error: str = ""  # "EACCES: Permission denied"


class NcclSettings(Fact, frozen=True, kw_only=True):
    """Files in NCCL's order of reading, and where variables of the environment come from."""

    files: tuple[NcclFile, ...] = ()
    origins: Mapping[str, str] = {}  # variable -> "/etc/environment", "~/.bashrc:12", "pid 1"

    def under(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables as NCCL sees them: the environment, then its files; the first one wins."""
        told: dict[str, str] = {}
        for file in reversed(self.files):
            told |= file.values
        return told | dict(environment)


class NcclAnswer(Fact, frozen=True, kw_only=True):
    """The real library, asked in a child: ncclGetUniqueId opens its bootstrap listener."""

    library: str
    version: tuple[int, int, int] | None = None
    interface: str = ""
    address: str = ""
    error: str = ""  # its own words, when it finds no interface
