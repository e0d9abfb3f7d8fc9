"""The limits of a process (setrlimit), which nearly every launcher can set."""

from msgspec import Struct

from gpudoctor.launch.settings import Memlock, NoFile, NProc, Setting, Stack

# There is no "unlimited" for open files: the kernel refuses more than fs.nr_open.
NOFILE_MOST = 1 << 20  # its default


class Rlimit(Struct, frozen=True):
    """One limit. `value` None is unlimited; `unit` is that of ulimit and limits.d."""

    name: str
    letter: str
    unit: int
    value: int | None

    @property
    def coarse(self) -> str:
        """The value for ulimit and limits.d, rounded up to their unit."""
        return "unlimited" if self.value is None else str(-(-self.value // self.unit))


def rlimit(setting: Setting) -> Rlimit | None:
    """The limit that a setting is about, if it is about one."""
    match setting:
        case Memlock(value=value):
            return Rlimit("memlock", "l", 1024, value)
        case NoFile(value=value):
            return Rlimit("nofile", "n", 1, NOFILE_MOST if value is None else value)
        case NProc(value=value):
            return Rlimit("nproc", "u", 1, value)
        case Stack(bytes=value):
            return Rlimit("stack", "s", 1024, value)
    return None
