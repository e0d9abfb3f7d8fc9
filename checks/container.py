"""What the container, or the service, keeps from the job: shared memory of siblings, rights."""

import re

from gpudoctor import (
    Capability,
    Container,
    Environment,
    EnvSet,
    Finding,
    Fix,
    HostNetwork,
    IpcHost,
    JobPython,
    Privileges,
    Syscalls,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    unknown,
    warn,
)

# NCCL user guide, "cuMem host allocations": from 2.24 on, with a fallback since 2.26.5.
CUMEM_HOST_WITHOUT_FALLBACK = ((2, 24), (2, 26, 4))
NUMA_CALLS = ("get_mempolicy", "set_mempolicy", "mbind")
MPI = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
IPC_LOCK, SYS_NICE = 14, 23  # linux/capability.h


@check(
    owner="launch",
    symptoms=[
        r"Error while attaching to shared memory segment",
        r"system call failed during shared memory initialization",
        r"cudaIpcOpenMemHandle",
    ],
)
def container_ipc(container: Container) -> Finding:
    """The ranks of a node can share memory with each other.

    One container for all ranks of a node has a /dev/shm for all of them. When each rank has a
    container of its own with a private IPC namespace, NCCL sends what should go over NVLink
    or shared memory through the network ("via NET/Socket" in its log), and MPI may stop with
    "A system call failed during shared memory initialization".
    """
    if container.runtime == "none":
        return skip("no container: the ranks share the host's /dev/shm")
    others = container.ranks_outside
    if not others:
        if container.ipc_private is False:
            return ok("the host's IPC namespace, shared with all its containers")
        return ok("no rank was started outside this container")
    if container.ipc_private is None:
        return unknown("the IPC namespace cannot be read, and other ranks are outside")
    if not container.ipc_private:
        return ok(f"the host's IPC namespace, shared with {count_of(others, 'more rank')}")
    summary = f"{count_of(others, 'more rank')} of this node in containers of their own"
    evidence = ["each container has its own IPC namespace and /dev/shm"]
    return warn(summary, Fix(IpcHost(), HostNetwork()), evidence=evidence, basis="rule-of-thumb")


@check(
    owner="launch",
    symptoms=[
        r"pthread_create.*Operation not permitted",
        r"can't start new thread",
        r"(set_mempolicy|mbind): Operation not permitted",
        r"Read -1, expected \d+, errno = 1\b",
        r"cuMem host allocations do not appear to be working",
    ],
)
def container_privileges(
    privileges: Privileges,
    syscalls: Syscalls,
    workload: Workload,
    job_python: JobPython | None,
    environment: Environment | None,
) -> Finding:
    """Nothing that this job needs is forbidden to it.

    Seccomp filters of containers and services refuse system calls. Without clone3 no thread
    starts: "pthread_create failed ... Operation not permitted". Without the calls for NUMA
    memory numactl ends with "set_mempolicy: Operation not permitted", and NCCL 2.24 to 2.26.4
    may fail, because only later versions fall back to /dev/shm. Without process_vm_readv
    Open MPI copies slowly, or reports "Read -1, expected 8192, errno = 1".
    """
    evidence = _evidence(privileges, syscalls)
    if syscalls.refused("clone3") and syscalls.thread_error:
        summary = f"no thread can be started: clone3 is refused ({syscalls.thread_error})"
        return fail(summary, UPGRADE, evidence=evidence, basis="vendor", owner="node")
    numa = syscalls.refused(*NUMA_CALLS)
    if numa and _nccl_has_no_fallback(workload, job_python, environment):
        summary = "NUMA calls are refused, and this NCCL cannot do without"
        allowed = privileges.has(SYS_NICE) or privileges.seccomp != 2
        setting = EnvSet("NCCL_CUMEM_HOST_ENABLE", "0") if allowed else Capability("SYS_NICE")
        return warn(summary, Fix(setting), evidence=evidence, basis="vendor")
    by_mpi = workload.told_by.get("local_ranks") in MPI and workload.local_ranks > 1
    if by_mpi and syscalls.refused("process_vm_readv"):
        summary = "process_vm_readv is refused: MPI cannot copy between its ranks"
        return warn(summary, Fix(Capability("SYS_PTRACE")), evidence=evidence, basis="vendor")
    filtered = "a seccomp filter" if privileges.seccomp == 2 else "no seccomp filter"
    rights = count_of(privileges.capabilities.bit_count(), "capability", "capabilities")
    return ok(f"{rights}, {filtered}{', NUMA calls refused' if numa else ''}", evidence)


UPGRADE = Fix(
    text="Upgrade to Docker 20.10.10 and libseccomp 2.5 or newer; until then start the"
    " container with --security-opt seccomp=unconfined",
    commands=["docker version --format '{{.Server.Version}}'", "runc --version"],
)


def _nccl_has_no_fallback(
    workload: Workload, job_python: JobPython | None, environment: Environment | None
) -> bool:
    """Whether several ranks run an NCCL that needs NUMA calls and does not check for them."""
    alone = workload.local_ranks == 1 and workload.nodes == 1
    if alone or job_python is None:
        return False
    if environment and environment.values.get("NCCL_CUMEM_HOST_ENABLE") == "0":
        return False
    first, last = CUMEM_HOST_WITHOUT_FALLBACK
    wheels = [v for n, v in job_python.packages.items() if n.startswith("nvidia-nccl-cu")]
    versions = [tuple(int(part) for part in re.findall(r"\d+", wheel)[:3]) for wheel in wheels]
    return any(first <= version <= last for version in versions)


def _evidence(privileges: Privileges, syscalls: Syscalls) -> list[str]:
    lines = []
    refused = [name for name, error in syscalls.answers.items() if error == "EPERM"]
    if refused:
        lines.append(f"refused calls: {', '.join(refused)}")
    if syscalls.refused(*NUMA_CALLS):
        lines.append("without NUMA calls numactl fails, and NCCL 2.24 to 2.26.4 too")
    if privileges.user_namespace:
        lines.append("a user namespace: root in here has no rights outside")
        if privileges.has(IPC_LOCK):
            lines.append("CAP_IPC_LOCK of a user namespace does not lift the memlock limit")
    if privileges.no_new_privileges:
        lines.append("no_new_privs: sudo and other setuid programs gain nothing")
    if privileges.security_label and not privileges.security_label.startswith("unconfined"):
        lines.append(f"security label {privileges.security_label}")
    return lines
