"""Tell which container runtime surrounds us, by evidence; read our rights; try system calls."""

import errno
import os
import re
import sys
from collections.abc import Iterator

from gpudoctor.facts.container import Clue, Container, Privileges, Syscalls
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.runtimes import clues
from gpudoctor.probes.workload import workload
from gpudoctor.snapshot import Absent

SURE = 4  # points that a verdict needs to be called certain,
LEAD = 2  # and by how many it must lead
KUBERNETES = 2  # points; an inherited variable alone has one

# include/linux/proc_ns.h; mnt had the first dynamic one before it got its own.
FIRST = {
    "pid": ("4026531836",),
    "ipc": ("4026531839",),
    "uts": ("4026531838",),
    "user": ("4026531837",),
    "cgroup": ("4026531835",),
    "mnt": ("4026531832", "4026531840", "4026531841"),
}
# Of the whole machine, so in the first network namespace only: net/ipv4/sysctl_net_ipv4.c.
FIRST_SYSCTLS = ("inet_peer_threshold", "tcp_mem", "udp_mem")
# Which word of gpudoctor.launch spells the fixes for a runtime.
WORDS = {
    "docker": "docker",
    "podman": "podman",
    "containerd": "docker",  # nerdctl takes docker's flags
    "cri-o": "kubernetes",
    "enroot": "pyxis",
    "apptainer": "apptainer",
}
# Variables that say how many ranks run on this node, and the names of what starts them.
STARTERS = {
    "SLURM_STEP_TASKS_PER_NODE": "slurmstepd",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "orte|prte|mpirun|mpiexec",
    "MPI_LOCALNRANKS": "hydra|mpirun|mpiexec|pmi_proxy",
}


@probe()
def container(machine: Machine) -> Container:
    """The runtime with the best sum of points over all clues."""
    wsl2 = "microsoft" in (machine.text("/proc/sys/kernel/osrelease") or "").lower()
    if _mounted(machine):
        seen = Clue("none", SURE, "a machine's tree seen from elsewhere")
        return Container(wsl2=wsl2, clues=(seen,))
    private = {kind: _private(machine, kind) for kind in FIRST}
    evidence = tuple(clues(machine, private, wsl2=wsl2))
    points = tally(evidence)
    kubernetes = points.pop("kubernetes", 0) >= KUBERNETES
    if kubernetes and "podman" in points:  # CRI-O makes its containers as podman does
        points["cri-o"] = points.get("cri-o", 0) + points.pop("podman")
    runtime, certain = verdict(points)
    kubernetes = kubernetes and runtime != "none"
    slurm = "SLURM_JOB_ID" in machine.env or bool(_slurm_cgroup(machine))
    return Container(
        runtime=runtime,
        certain=certain,
        launcher=_launcher(machine, runtime, points, kubernetes, slurm),
        kubernetes=kubernetes,
        slurm=slurm,
        wsl2=wsl2,
        rootless=None if runtime == "none" else _rootless(machine),
        ipc_private=private["ipc"],
        pid_private=private["pid"],
        net_private=_net_private(machine),
        ranks_outside=0 if runtime == "none" else _ranks_outside(machine),
        clues=evidence,
    )


def tally(evidence: tuple[Clue, ...]) -> dict[str, int]:
    """The sum of points of each runtime."""
    points: dict[str, int] = {}
    for clue in evidence:
        points[clue.runtime] = points.get(clue.runtime, 0) + clue.points
    return points


def verdict(points: dict[str, int]) -> tuple[str, bool]:
    """The runtime with most points, and whether it leads far enough to be called certain."""
    # Of equals the one that says most wins.
    order = sorted(points, key=lambda name: (-points[name], name == "none", name == "other"))
    if not order:
        return "none", False
    best = order[0]
    # That there is some container does not speak against any kind of it.
    rivals = [points[name] for name in order[1:] if name != "other" or best == "none"]
    return best, points[best] >= SURE and points[best] - max(rivals, default=0) >= LEAD


def _launcher(
    machine: Machine, runtime: str, points: dict[str, int], kubernetes: bool, slurm: bool
) -> str:
    if runtime == "gvisor":  # a runtime below another one's surface
        named = sorted((name for name in points if name in WORDS), key=lambda name: -points[name])
        runtime = named[0] if named else runtime
    if kubernetes and runtime not in ("enroot", "apptainer"):
        return "kubernetes"
    if runtime in WORDS:
        return WORDS[runtime]
    if slurm:
        return "slurm"
    return "systemd" if _in_service(machine) else "host"


def _in_service(machine: Machine) -> bool:
    """Whether a unit of the system started us; shells of a login are in scopes of a user."""
    if "INVOCATION_ID" not in machine.env:
        return False
    groups = machine.text("/proc/self/cgroup") or ""
    service = re.search(r":(name=systemd)?:/system\.slice/.*\.service$", groups, re.MULTILINE)
    return service is not None


def _slurm_cgroup(machine: Machine) -> re.Match[str] | None:
    return re.search(r"slurm.*/job_\d+", machine.text("/proc/self/cgroup") or "")


def _rootless(machine: Machine) -> bool:
    """Whether the user himself started it: his own id, and no range, stands in the map."""
    lines = (machine.text("/proc/self/uid_map") or "").splitlines()
    said = machine.text("/run/.containerenv") or ""
    return "rootless=1" in said or any(line.split()[2:] == ["1"] for line in lines)


def _private(machine: Machine, kind: str) -> bool | None:
    """Whether a namespace is not the machine's first; None: it cannot be told."""
    number = machine.link(f"/proc/self/ns/{kind}").partition("[")[2].rstrip("]")
    return number not in FIRST[kind] if number else None


def _net_private(machine: Machine) -> bool | None:
    """The first network namespace had no fixed number for long, but has sysctls of its own."""
    if machine.link("/proc/self/ns/net") == "net:[4026531833]":
        return False
    sysctls = "/proc/sys/net/ipv4"
    if not machine.exists(f"{sysctls}/ip_forward"):  # which every namespace has
        return None
    return not all(machine.exists(f"{sysctls}/{name}") for name in FIRST_SYSCTLS)


def _ranks_outside(machine: Machine) -> int:
    """Ranks beside this one on the node, when what started them all is not in here."""
    job = workload(machine)
    starter = STARTERS.get(job.told_by.get("local_ranks", ""))
    if starter is None or any(re.match(starter, name) for name in _ancestors(machine)):
        return 0
    return job.local_ranks - 1


def _ancestors(machine: Machine) -> Iterator[str]:
    """The names of the processes that we descend from, as far as they can be seen."""
    pid = "self"
    for _ in range(32):
        head, _, tail = (machine.text(f"/proc/{pid}/stat") or "").rpartition(")")
        if not tail.split()[1:]:
            return
        yield head.partition("(")[2]
        pid = tail.split()[1]


def _mounted(machine: Machine) -> bool:
    """Whether the tree is that of a machine that we do not run in.

    There /proc/self is a link, to ourselves or to nothing; a recorded tree has a directory.
    """
    inside = machine.exists("/proc/self") and not machine.link("/proc/self")
    return not machine.live and not inside


@probe()
def privileges(machine: Machine) -> Privileges | Absent:
    """Capabilities, seccomp and the like of this process."""
    if _mounted(machine):
        return Absent("rights are those of a running process: not known from --root")
    fields = dict(re.findall(r"^(\w+):\s*(\S+)", machine.read("/proc/self/status"), re.MULTILINE))
    identities = (machine.text("/proc/self/uid_map") or "0 0 4294967295").split()
    return Privileges(
        capabilities=int(fields.get("CapEff", "0"), 16),
        capabilities_bounding=int(fields.get("CapBnd", "0"), 16),
        seccomp=int(fields.get("Seccomp", "0")),
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        user_namespace=identities != ["0", "0", "4294967295"],
        security_label=(machine.text("/proc/self/attr/current") or "").rstrip("\0"),
    )


# By architecture: the numbers of the calls that are tried.
NUMBERS = {
    "x86_64": {"get_mempolicy": 239, "set_mempolicy": 238, "mbind": 237, "process_vm_readv": 310},
    "aarch64": {"get_mempolicy": 236, "set_mempolicy": 237, "mbind": 235, "process_vm_readv": 270},
}
CLONE3 = 435  # everywhere


@probe(isolated=True, timeout=3.0)
def syscalls(machine: Machine) -> Syscalls | Absent:
    """Make calls that change nothing, in a process of their own, and see what is refused."""
    if not machine.live:
        return Absent("calls can only be tried on this very machine")
    numbers = NUMBERS.get(os.uname().machine)
    if numbers is None or sys.maxsize < 1 << 32:
        return Absent(f"the numbers of system calls on {os.uname().machine} are not known")
    import ctypes  # only in the probe's child
    import threading

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def answer(number: int, *arguments: int) -> str:
        words = [ctypes.c_long(argument) for argument in arguments]
        if libc.syscall(ctypes.c_long(number), *words) >= 0:
            return ""
        return errno.errorcode.get(ctypes.get_errno(), "?")

    word = ctypes.c_long()
    both = (ctypes.c_void_p * 4)(ctypes.addressof(word), 8, ctypes.addressof(word), 8)
    here, there = ctypes.addressof(both), ctypes.addressof(both) + 16
    arguments = {
        "get_mempolicy": (0, 0, 0, 0, 0),
        "set_mempolicy": (0, 0, 0),
        "mbind": (0, 0, 0, 0, 0, 0),
        "process_vm_readv": (os.getpid(), here, 1, there, 1, 0),
    }
    answers = {name: answer(numbers[name], *words) for name, words in arguments.items()}
    # Too short to be accepted: EINVAL, unless a filter refuses before the kernel looks.
    answers["clone3"] = answer(CLONE3, 0, 0)
    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    except RuntimeError as error:
        return Syscalls(answers=answers, thread_error=str(error))
    return Syscalls(answers=answers)
