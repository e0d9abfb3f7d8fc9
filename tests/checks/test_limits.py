"""checks/limits.py: tables of facts -> status."""

import pytest

from gpudoctor import (
    Devices,
    Environment,
    JobPython,
    Limit,
    Limits,
    Memlock,
    NoFile,
    NProc,
    Privileges,
    Processes,
    Stack,
    Status,
    System,
    User,
    Workload,
    file_need,
    thread_need,
)
from gpudoctor.judge import judge_one
from gpudoctor.registry import get
from gpudoctor.snapshot import Absent, Snapshot

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
ONE = Workload()
ONE_ALONE = ONE.told({"local_ranks": 1, "nodes": 1}, "profile single-gpu")
EIGHT = Workload().told({"local_ranks": 8}, "8 GPU device nodes")
EIGHT_ONE_NODE = EIGHT.told({"nodes": 1}, "--nnodes")
MANY_NODES = EIGHT.told({"nodes": 16}, "SLURM_NNODES")
MANY_WORKERS = EIGHT.told({"workers": 32, "prefetch": 4}, "gpudoctor.toml")

NO_RDMA = Devices(nvidia=(0, 1))
RDMA = Devices(nvidia=(0, 1), rdma=("uverbs0", "uverbs1"), rdma_in_sysfs=("mlx5_0", "mlx5_1"))
RDMA_OUTSIDE = Devices(
    nvidia=(0,), rdma_in_sysfs=("mlx5_0",), rdma_from_environment=("NCCL_IB_HCA",)
)
NO_CAPS = Privileges()
IPC_LOCK = Privileges(capabilities=1 << 14)
IPC_LOCK_IN_USERNS = Privileges(capabilities=1 << 14, user_namespace=True)

UNLIMITED = Limit(None, None)


def limits(**given: Limit) -> Limits:
    usual = {  # a login on a bare host
        "memlock": Limit(8 * MIB, 8 * MIB),
        "stack": Limit(8 * MIB, None),
        "nofile": Limit(1024, 524288),
        "nproc": Limit(256000, 256000),
        "address_space": UNLIMITED,
    }
    return Limits(**{**usual, **given})


def machine(ram: int = 512 * GIB, cpus: int = 8) -> System:
    return System(
        hostname="n1",
        kernel="6.1",
        architecture="x86_64",
        memory_bytes=ram,
        cpus=cpus,
        cpus_usable=cpus,
    )


def python(nccl: str) -> JobPython:
    return JobPython(path="p", chosen_by="PATH", packages={"nvidia-nccl-cu12": nccl})


@pytest.mark.parametrize(
    ("found", "devices", "job", "privileges", "ram", "status", "says"),
    [
        pytest.param(8 * MIB, NO_RDMA, EIGHT, NO_CAPS, TIB, "pass", "only with RDMA", id="host"),
        pytest.param(64 * KIB, NO_RDMA, EIGHT, NO_CAPS, TIB, "pass", "none is here", id="docker"),
        pytest.param(
            64 * KIB, RDMA_OUTSIDE, EIGHT, NO_CAPS, TIB, "pass", "not in here", id="no device node"
        ),
        pytest.param(None, RDMA, EIGHT, NO_CAPS, TIB, "pass", "unlimited", id="unlimited"),
        pytest.param(8 * MIB, RDMA, EIGHT, NO_CAPS, TIB, "fail", "2 RDMA devices", id="systemd's"),
        pytest.param(64 * KIB, RDMA, EIGHT, NO_CAPS, TIB, "fail", "64 KiB", id="64 KiB"),
        pytest.param(8 * MIB, RDMA, EIGHT, None, None, "fail", "8 MiB", id="nothing else known"),
        pytest.param(8 * MIB, RDMA, EIGHT, IPC_LOCK, TIB, "pass", "CAP_IPC_LOCK", id="capability"),
        pytest.param(
            8 * MIB, RDMA, EIGHT, IPC_LOCK_IN_USERNS, TIB, "fail", "8 MiB", id="rootless capability"
        ),
        pytest.param(8 * MIB, RDMA, EIGHT_ONE_NODE, NO_CAPS, TIB, "warn", "8 MiB", id="one node"),
        pytest.param(16 * GIB, RDMA, EIGHT, NO_CAPS, 32 * GIB, "pass", "16 GiB", id="half of RAM"),
        pytest.param(15 * GIB, RDMA, EIGHT, NO_CAPS, 32 * GIB, "fail", "15 GiB", id="below half"),
        pytest.param(64 * GIB, RDMA, EIGHT, NO_CAPS, 2 * TIB, "warn", "64 GiB", id="64 of 2048"),
        pytest.param(63 * GIB, RDMA, EIGHT, NO_CAPS, 2 * TIB, "fail", "63 GiB", id="63 of 2048"),
    ],
)
def test_memlock(found, devices, job, privileges, ram, status, says):
    system = machine(ram) if ram else None
    given = limits(memlock=Limit(found, found))

    finding = get("limits-memlock")(given, devices, job, privileges, system)

    assert finding.status.value == status
    assert says in finding.summary
    if status in ("fail", "warn"):
        assert finding.fix.settings == (Memlock(None),)


@pytest.mark.parametrize(
    ("soft", "job", "job_python", "status", "says"),
    [
        pytest.param(8 * MIB, EIGHT, None, "pass", "8 MiB", id="the usual"),
        pytest.param(64 * MIB, EIGHT, python("2.18.3"), "pass", "64 MiB", id="NVIDIA's advice"),
        pytest.param(None, EIGHT, python("2.27.5"), "warn", "only 2 MiB", id="unlimited, 2.27"),
        pytest.param(None, EIGHT, None, "warn", "only 2 MiB", id="unlimited, unknown"),
        pytest.param(None, EIGHT, python("2.28.9"), "pass", "NCCL 2.28", id="unlimited, 2.28"),
        pytest.param(None, ONE, None, "warn", "only 2 MiB", id="unlimited, one rank assumed"),
        pytest.param(None, ONE_ALONE, None, "pass", "one rank", id="unlimited, one rank told"),
        pytest.param(4 * MIB, EIGHT, python("2.28.9"), "warn", "4 MiB", id="small"),
    ],
)
def test_stack(soft, job, job_python, status, says):
    finding = get("limits-stack")(limits(stack=Limit(soft, None)), job, job_python)

    assert finding.status.value == status
    assert says in finding.summary
    if status == "warn":
        assert finding.fix.settings == (Stack(64 * MIB),)


@pytest.mark.parametrize(
    ("soft", "hard", "job", "status", "says"),
    [
        pytest.param(1024, 524288, ONE, "pass", "1024", id="laptop, one rank"),
        pytest.param(1024, 524288, ONE_ALONE, "pass", "1024", id="laptop, one rank told"),
        pytest.param(1048576, 1048576, EIGHT, "pass", "1048576", id="docker 20.10"),
        pytest.param(20000, 20000, EIGHT, "pass", "20000", id="cloud VM"),
        pytest.param(65536, 65536, MANY_NODES, "pass", "65536", id="cluster"),
        pytest.param(1024, 524288, EIGHT, "warn", "about 592", id="eight ranks, little to spare"),
        pytest.param(1024, 524288, MANY_NODES, "fail", "about 4432", id="128 ranks"),
        pytest.param(1024, 524288, MANY_WORKERS, "fail", "about 1664", id="many workers"),
        pytest.param(256, 256, EIGHT, "fail", "256", id="very low"),
        pytest.param(1073741816, 1073741816, EIGHT, "warn", "hang", id="docker 23"),
        pytest.param(None, None, EIGHT, "warn", "unlimited", id="asked for -1"),
    ],
)
def test_nofile(soft, hard, job, status, says):
    finding = get("limits-nofile")(limits(nofile=Limit(soft, hard)), job, None)

    assert finding.status.value == status
    assert says in finding.summary


@pytest.mark.parametrize(
    ("soft", "hard", "commands", "settings"),
    [
        pytest.param(256, 524288, ("ulimit -n 524288",), (), id="the job can raise it"),
        pytest.param(256, None, ("ulimit -n 1048576",), (), id="hard is unlimited"),
        pytest.param(256, 256, (), (NoFile(1048576),), id="the launch must"),
        pytest.param(256, 700, (), (NoFile(1048576),), id="hard is too low as well"),
    ],
)
def test_nofile_is_raised_by_who_can(soft, hard, commands, settings):
    finding = get("limits-nofile")(limits(nofile=Limit(soft, hard)), EIGHT, None)

    assert finding.fix.commands == commands
    assert finding.fix.settings == settings
    assert finding.owner == ("job" if commands else "launch")


def test_nofile_shows_its_arithmetic():
    finding = get("limits-nofile")(limits(), MANY_WORKERS, None)

    assert any("32 workers x (4 + 4 batches x 8 tensors) = 1152" in e for e in finding.evidence)
    assert any("assumed, not told: nodes" in line for line in finding.evidence)


def test_nofile_of_the_whole_machine():
    full = Processes(own_threads=1, all_threads=1, files_used=900, files_max=1000)

    finding = get("limits-nofile")(limits(nofile=Limit(65536, 65536)), EIGHT, full)

    assert finding.status is Status.WARN
    assert finding.owner == "node"
    assert finding.fix.needs_root
    assert finding.fix.commands == ("sysctl -w fs.file-max=2000",)


def threads(own: int = 100, all_: int = 500, threads_max: int = 400000, pid_max: int = 4194304):
    return Processes(own_threads=own, all_threads=all_, threads_max=threads_max, pid_max=pid_max)


USER = User(uid=1000, gid=1000)
ROOT = User(uid=0, gid=0)
ROOTLESS = Privileges(capabilities=0x800405FB, user_namespace=True)
SYS_RESOURCE = Privileges(capabilities=1 << 24)


@pytest.mark.parametrize(
    ("nproc", "processes", "job", "user", "privileges", "status", "says"),
    [
        pytest.param(256000, threads(), EIGHT, USER, NO_CAPS, "pass", "256000", id="login"),
        pytest.param(
            31000, threads(own=900), ONE, USER, NO_CAPS, "pass", "900 in use", id="laptop"
        ),
        pytest.param(
            None, threads(), EIGHT, USER, NO_CAPS, "pass", "whole machine", id="unlimited"
        ),
        pytest.param(None, None, EIGHT, USER, NO_CAPS, "pass", "no limit", id="nothing limits"),
        pytest.param(200, threads(), EIGHT, USER, NO_CAPS, "fail", "200 for this user", id="low"),
        pytest.param(
            4096, threads(own=4000), EIGHT, USER, NO_CAPS, "fail", "4000 in use", id="used up"
        ),
        pytest.param(500, threads(), EIGHT, USER, NO_CAPS, "warn", "336 to 616", id="tight"),
        pytest.param(200, threads(), EIGHT, ROOT, NO_CAPS, "pass", "whole machine", id="root"),
        pytest.param(
            200, threads(), EIGHT, USER, SYS_RESOURCE, "pass", "whole machine", id="capability"
        ),
        pytest.param(
            200, threads(), EIGHT, ROOT, ROOTLESS, "fail", "200 for this user", id="rootless root"
        ),
        pytest.param(200, threads(), EIGHT, None, None, "fail", "200 for", id="user not known"),
        pytest.param(200, None, EIGHT, USER, NO_CAPS, "fail", "200 for this user,", id="uncounted"),
        pytest.param(9999, None, EIGHT, USER, NO_CAPS, "error", "", id="uncounted, may be enough"),
        pytest.param(
            None,
            threads(all_=32700, pid_max=32768),
            EIGHT,
            USER,
            NO_CAPS,
            "fail",
            "32768 on the whole machine, 32700 in use",
            id="the kernel's own limit",
        ),
    ],
)
def test_nproc(nproc, processes, job, user, privileges, status, says):
    given = limits(nproc=Limit(nproc, nproc))

    finding = get("limits-nproc")(given, job, processes, machine(), None, privileges, user)

    assert finding.status.value == status
    assert says in finding.summary


def test_nproc_is_raised_by_who_can():
    def fix(soft, hard, **kernel):
        given = limits(nproc=Limit(soft, hard))
        return get("limits-nproc")(given, EIGHT, threads(**kernel), machine(), None, NO_CAPS, USER)

    assert fix(200, 200).fix.settings == (NProc(None),)
    assert fix(200, 60000).fix.commands == ("ulimit -u 60000",)
    assert fix(200, None).fix.commands == ("ulimit -u unlimited",)
    assert fix(None, None, all_=32700, pid_max=32768).owner == "node"


def test_nproc_counts_smaller_thread_pools_when_told():
    told = Environment(values={"OMP_NUM_THREADS": "1"})
    need = thread_need(EIGHT, machine(cpus=128), told)

    assert need.most == need.least
    assert thread_need(EIGHT, machine(cpus=128)).most > 8 * 5 * 60


def test_boundaries_are_the_needs():
    files, tasks = file_need(EIGHT).count, thread_need(EIGHT, machine())

    def nofile(soft):
        return get("limits-nofile")(limits(nofile=Limit(soft, soft)), EIGHT, None).status

    def nproc(soft):
        given = limits(nproc=Limit(soft, soft))
        return get("limits-nproc")(
            given, EIGHT, threads(own=0), machine(), None, NO_CAPS, USER
        ).status

    assert [nofile(files - 1), nofile(files), nofile(2 * files)] == ["fail", "warn", "pass"]
    assert [nproc(tasks.least - 1), nproc(tasks.least)] == ["fail", "warn"]
    assert nproc(tasks.most) == "pass"


@pytest.mark.parametrize(
    ("soft", "hard", "devices", "status", "says"),
    [
        pytest.param(None, None, NO_RDMA, "pass", "unlimited", id="unlimited"),
        pytest.param(1 << 48, 1 << 48, NO_RDMA, "pass", "256 TiB", id="as good as"),
        pytest.param(64 * GIB, None, NO_RDMA, "fail", "64 GiB", id="limited"),
        pytest.param(64 * GIB, 64 * GIB, NO_RDMA, "fail", "64 GiB", id="limited for good"),
        pytest.param(64 * GIB, None, Devices(), "warn", "no GPU here", id="login node"),
    ],
)
def test_address_space(soft, hard, devices, status, says):
    given = limits(address_space=Limit(soft, hard))

    finding = get("limits-address-space")(given, devices)

    assert finding.status.value == status
    assert says in finding.summary
    if status != "pass":
        assert finding.fix.needs_root == (hard is not None)
        assert finding.fix.commands


@pytest.mark.parametrize(
    "check_id",
    ["limits-memlock", "limits-stack", "limits-nofile", "limits-nproc", "limits-address-space"],
)
def test_skips_where_no_process_was_seen(check_id):
    snapshot = Snapshot("n", {"limits": Absent("not known from --root")}).replace(NO_RDMA, ONE)

    finding = judge_one(get(check_id), snapshot)

    assert finding.status is Status.SKIP
    assert finding.reason == "not known from --root"
