"""checks/container.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Capability,
    Container,
    Environment,
    EnvSet,
    HostNetwork,
    IpcHost,
    JobPython,
    Privileges,
    Status,
    Syscalls,
    Workload,
)
from gpudoctor.registry import get


def docker(ipc_private: bool | None = True, ranks_outside: int = 0) -> Container:
    return Container(
        runtime="docker", launcher="docker", ipc_private=ipc_private, ranks_outside=ranks_outside
    )


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        pytest.param(Container(), Status.SKIP, "no container", id="host"),
        pytest.param(Container(slurm=True), Status.SKIP, "no container", id="host under Slurm"),
        pytest.param(docker(), Status.PASS, "no rank", id="docker default"),
        pytest.param(
            docker(ipc_private=False),
            Status.PASS,
            "the host's",
            id="docker --ipc=host",
        ),
        pytest.param(
            Container(runtime="containerd", launcher="kubernetes", ipc_private=True),
            Status.PASS,
            "no rank",
            id="pod",
        ),
        pytest.param(
            Container(runtime="enroot", launcher="pyxis", ipc_private=False, slurm=True),
            Status.PASS,
            "the host's",
            id="pyxis",
        ),
        pytest.param(
            docker(ranks_outside=7),
            Status.WARN,
            "7 more ranks of this node in containers of their own",
            id="a container for each of 8 ranks",
        ),
        pytest.param(docker(ranks_outside=1), Status.WARN, "1 more rank of", id="for each of 2"),
        pytest.param(
            docker(ipc_private=False, ranks_outside=7),
            Status.PASS,
            "7 more ranks",
            id="for each, with --ipc=host",
        ),
        pytest.param(
            docker(ipc_private=None, ranks_outside=7),
            Status.ERROR,
            "cannot be read",
            id="namespaces hidden",
        ),
    ],
)
def test_ipc(found, status, says):
    finding = get("container-ipc")(found)

    assert finding.status is status
    assert says in finding.summary + finding.reason
    if status is Status.WARN:
        assert finding.fix.settings == (IpcHost(), HostNetwork())


ALL = (1 << 41) - 1
DOCKERS = 0xA80425FB
WORKS = Syscalls(answers=dict.fromkeys(("get_mempolicy", "mbind", "process_vm_readv"), ""))
NO_NUMA = Syscalls(answers={"get_mempolicy": "EPERM", "mbind": "EPERM", "clone3": "ENOSYS"})
NO_KERNEL_NUMA = Syscalls(answers={"get_mempolicy": "ENOSYS", "mbind": "ENOSYS"})
NO_COPY = Syscalls(answers={"process_vm_readv": "EPERM", "clone3": "EINVAL"})
OLD_LIBC = Syscalls(answers={"clone3": "EPERM"})
NO_THREADS = Syscalls(answers={"clone3": "EPERM"}, thread_error="can't start new thread")
TOO_MANY = Syscalls(answers={"clone3": "EINVAL"}, thread_error="can't start new thread")

ROOT = Privileges(capabilities=ALL)
USER = Privileges(no_new_privileges=True)
IN_DOCKER = Privileges(capabilities=DOCKERS, seccomp=2)
IN_DOCKER_AS_USER = Privileges(seccomp=2)
WITH_SYS_NICE = Privileges(capabilities=DOCKERS | 1 << 23, seccomp=2)
ROOTLESS = Privileges(capabilities=DOCKERS, seccomp=2, user_namespace=True)

ONE = Workload()
EIGHT = Workload().told({"local_ranks": 8}, "LOCAL_WORLD_SIZE")
TWO_NODES = Workload().told({"nodes": 2}, "--nnodes")
BY_MPI = Workload().told({"local_ranks": 8}, "OMPI_COMM_WORLD_LOCAL_SIZE")


def nccl(version: str) -> JobPython:
    packages = {"nvidia-nccl-cu12": version} if version else {}
    return JobPython(path="p", chosen_by="PATH", packages=packages)


@pytest.mark.parametrize(
    ("rights", "calls", "job", "version", "status", "says"),
    [
        pytest.param(ROOT, WORKS, EIGHT, "2.25.1", Status.PASS, "no seccomp", id="root on a host"),
        pytest.param(USER, WORKS, EIGHT, "2.25.1", Status.PASS, "0 capa", id="user on a host"),
        pytest.param(USER, NO_KERNEL_NUMA, EIGHT, "2.25.1", Status.PASS, "", id="no NUMA kernel"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.27.3", Status.PASS, "refused", id="docker"),
        pytest.param(IN_DOCKER_AS_USER, NO_NUMA, EIGHT, "2.27.3", Status.PASS, "", id="as a user"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "", Status.PASS, "refused", id="NCCL not known"),
        pytest.param(ROOTLESS, NO_NUMA, EIGHT, "2.28.3", Status.PASS, "refused", id="rootless"),
        pytest.param(WITH_SYS_NICE, WORKS, EIGHT, "2.25.1", Status.PASS, "15 capa", id="SYS_NICE"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.23.4", Status.PASS, "", id="NCCL before 2.24"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.24.3", Status.WARN, "NUMA", id="NCCL 2.24"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.26.2", Status.WARN, "NUMA", id="NCCL 2.26.2"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.26.4", Status.WARN, "NUMA", id="NCCL 2.26.4"),
        pytest.param(IN_DOCKER, NO_NUMA, EIGHT, "2.26.5", Status.PASS, "", id="NCCL 2.26.5"),
        pytest.param(IN_DOCKER, NO_NUMA, ONE, "2.25.1", Status.PASS, "", id="one rank"),
        pytest.param(IN_DOCKER, NO_NUMA, TWO_NODES, "2.25.1", Status.WARN, "", id="two nodes"),
        pytest.param(IN_DOCKER, NO_COPY, BY_MPI, "", Status.WARN, "process_vm_readv", id="MPI"),
        pytest.param(IN_DOCKER, NO_COPY, EIGHT, "", Status.PASS, "", id="the same by torchrun"),
        pytest.param(IN_DOCKER, OLD_LIBC, EIGHT, "", Status.PASS, "", id="clone3 is not used"),
        pytest.param(IN_DOCKER, NO_THREADS, ONE, "", Status.FAIL, "clone3", id="old docker"),
        pytest.param(IN_DOCKER, TOO_MANY, ONE, "", Status.PASS, "", id="no threads for a limit"),
    ],
)
def test_privileges(rights, calls, job, version, status, says):
    finding = get("container-privileges")(rights, calls, job, nccl(version), None)

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("rights", "setting"),
    [
        pytest.param(IN_DOCKER, Capability("SYS_NICE"), id="the capability is missing"),
        pytest.param(WITH_SYS_NICE, EnvSet("NCCL_CUMEM_HOST_ENABLE", "0"), id="it does not help"),
        pytest.param(ROOT, EnvSet("NCCL_CUMEM_HOST_ENABLE", "0"), id="no filter of a container"),
    ],
)
def test_what_lets_an_older_nccl_run(rights, setting):
    finding = get("container-privileges")(rights, NO_NUMA, EIGHT, nccl("2.25.1"), None)

    assert finding.fix.settings == (setting,)


def test_an_older_nccl_that_was_told_passes():
    told = Environment(values={"NCCL_CUMEM_HOST_ENABLE": "0"})

    finding = get("container-privileges")(IN_DOCKER, NO_NUMA, EIGHT, nccl("2.25.1"), told)

    assert finding.status is Status.PASS


def test_mpi_asks_for_ptrace():
    finding = get("container-privileges")(IN_DOCKER, NO_COPY, BY_MPI, None, None)

    assert finding.fix.settings == (Capability("SYS_PTRACE"),)


def test_the_node_must_act_on_an_old_docker():
    finding = get("container-privileges")(IN_DOCKER, NO_THREADS, ONE, None, None)

    assert finding.owner == "node"
    assert "20.10.10" in finding.fix.text


def test_evidence_lists_what_matters():
    rights = Privileges(
        capabilities=1 << 14,
        user_namespace=True,
        no_new_privileges=True,
        security_label="docker-default (enforce)",
    )

    evidence = "\n".join(get("container-privileges")(rights, NO_NUMA, ONE, None, None).evidence)

    for word in ("get_mempolicy", "user namespace", "CAP_IPC_LOCK", "no_new_privs", "enforce"):
        assert word in evidence
