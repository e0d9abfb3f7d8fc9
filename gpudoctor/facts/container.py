"""Which container runtime surrounds us, how sure that is, and what it took away."""

from collections.abc import Mapping

from msgspec import Struct

from gpudoctor.snapshot import Fact


class Clue(Struct, frozen=True):
    """A piece of evidence for a runtime, or for "kubernetes", and its weight."""

    runtime: str
    points: int
    seen: str


class Container(Fact, frozen=True, kw_only=True):
    """The verdict over all clues.

    `runtime` is "none", "docker", "podman", "containerd", "cri-o", "enroot", "apptainer",
    "lxc", "systemd-nspawn", "gvisor" or "other". `launcher` is the word of `gpudoctor.launch`
    that spells fixes here.
    """

    runtime: str = "none"
    certain: bool = True
    launcher: str = "host"
    kubernetes: bool = False
    slurm: bool = False
    wsl2: bool = False
    rootless: bool | None = None
    ipc_private: bool | None = None  # own IPC namespace: not started with --ipc=host
    pid_private: bool | None = None
    net_private: bool | None = None
    ranks_outside: int = 0  # ranks on this node that the launcher started in other containers
    clues: tuple[Clue, ...] = ()


class Privileges(Fact, frozen=True, kw_only=True):
    """Rights of this process, from /proc/self/status and uid_map."""

    capabilities: int = 0  # CapEff
    capabilities_bounding: int = 0  # CapBnd
    seccomp: int = 0  # 0 none, 1 strict, 2 filter
    no_new_privileges: bool = False
    user_namespace: bool = False  # uid_map is not the identity
    security_label: str = ""  # AppArmor or SELinux, as in attr/current

    def has(self, bit: int) -> bool:
        """Whether a capability is effective, by its number."""
        return bool(self.capabilities >> bit & 1)


class Syscalls(Fact, frozen=True, kw_only=True):
    """What is answered to system calls that training makes: by the kernel, or by seccomp before it.

    `answers` has for each call the name of the error, "EPERM"; empty: it works.
    """

    answers: Mapping[str, str] = {}
    thread_error: str = ""  # what starting a thread raised

    def refused(self, *calls: str) -> bool:
        """Whether one of the calls is not permitted."""
        return any(self.answers.get(call) == "EPERM" for call in calls)
