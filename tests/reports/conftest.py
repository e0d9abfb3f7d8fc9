"""Reports to render: literal, so that what is printed depends on the formats alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpudoctor import Rung, Status
from gpudoctor.report import (
    Ignored,
    Node,
    Place,
    Report,
    Result,
    Run,
    SpelledFix,
    Step,
    Tool,
    counts,
    exit_code,
    verdict,
)

PYTHON = "job's Python /opt/venv/bin/python (3.12)"
SHM_WHY = """DataLoader workers and NCCL pass tensors through /dev/shm. When it is full the job dies
minutes later with "Bus error" or "unable to allocate shared memory"."""


def result(check_id: str, status: str, said: str, **more: Any) -> Result:
    """A result; `said` is the reason of one that saw nothing, else the summary."""
    where = "reason" if status in ("skip", "error") else "summary"
    more.setdefault("title", f"What {check_id} looks at is as it should be")
    return Result(
        id=check_id,
        topic=check_id.partition("-")[0],
        status=Status(status),
        owner=more.pop("owner", "launch"),
        **{where: said, **more},
    )


def fix(launcher: str, *commands: str, text: str = "", needs_root: bool = False) -> SpelledFix:
    return SpelledFix(launcher=launcher, text=text, commands=commands, needs_root=needs_root)


def report(*nodes: Node, steps: tuple[Step, ...] = (), **run: Any) -> Report:
    results = tuple(found for node in nodes for found in node.results)
    status = verdict(results)
    strict = run.get("strict", False)
    return Report(
        tool=Tool("gpudoctor", "0.1.0"),
        run=Run(
            id="0123456789ab",
            started="2026-11-20T14:02:11Z",
            seconds=run.pop("seconds", 0.0642),
            argv=("check",),
            profile=run.pop("profile", "train"),
            **run,
        ),
        status=status,
        exit_code=exit_code(status, strict=strict),
        counts=counts(results),
        nodes=nodes,
        next_steps=steps,
    )


HEALTHY = (
    result("cgroup-cpu", "pass", "no CPU limit; 192 CPUs for 8 ranks"),
    result("cgroup-memory", "pass", "no memory limit"),
    result("cgroup-pids", "pass", "512 of 61440 processes"),
    result("clock-sane", "pass", "2026-11-20 14:02 UTC"),
    result("clock-sync", "pass", "synchronised, off by at most 2 ms"),
    result("container-ipc", "skip", "not in a container"),
    result("container-privileges", "skip", "not in a container"),
    result("env-leftovers", "pass", "no variable of another job"),
    result("env-typos", "pass", "14 variables, all known"),
    result("limits-memlock", "pass", "unlimited"),
    result("limits-nofile", "pass", "1048576 open files"),
    result("limits-stack", "pass", "8 MiB"),
    result(
        "shm-size",
        "pass",
        "1008 GiB, this job needs 3.2 GiB",
        evidence=("loaders: 8 ranks x 10 batches x 1 MiB = 80 MiB", "other: 64 MiB"),
    ),
    result("shm-write", "pass", "16 MiB allocated, written and read back"),
    result("shm-cgroup", "skip", "no memory limit"),
    result("storage-mounts", "skip", "no network mounts"),
    result("storage-space", "pass", "/tmp 3.1 TiB free, /scratch 41 TiB free"),
    result("storage-writable", "pass", "5 directories take files"),
)

SHM_SIZE = result(
    "shm-size",
    "fail",
    "64 MiB, this job needs 662 MiB",
    title="/dev/shm is large enough for this job",
    why=SHM_WHY,
    basis="measured",
    evidence=(
        "loaders: 8 ranks x 1 x (4 workers x 2 + 2) batches x 1 MiB = 80 MiB",
        "NCCL newest proxy: 8 x 32.6 MiB",
        "NCCL without P2P: 14 edges x 2 channels x 9.1 MiB = 257 MiB",
        "other: 64 MiB",
    ),
    symptoms=(r"DataLoader worker .* killed by signal: Bus error", r"shared memory\(shm\)"),
    fixes=(
        fix("docker", "docker run --shm-size=8g IMAGE"),
        fix("kubernetes", "volumes:\n- name: dshm\n  emptyDir: {medium: Memory, sizeLimit: 8Gi}"),
        fix("host", "mount -o remount,size=8g /dev/shm", needs_root=True),
    ),
)
MEMLOCK = result(
    "limits-memlock",
    "fail",
    "64 KiB soft and hard, with 8 RDMA devices",
    title="Memory can be locked for RDMA",
    why='RDMA registers its buffers, which locks them. The job ends with "Cannot allocate memory" '
    "from ibv_reg_mr.",
    basis="vendor",
    evidence=("mlx5_0 to mlx5_7 in /sys/class/infiniband",),
    symptoms=("ibv_reg_mr.*Cannot allocate memory",),
    fixes=(fix("docker", "docker run --ulimit memlock=-1:-1 IMAGE"),),
)
STALE = result(
    "shm-free",
    "warn",
    "300 MiB in 2 files of dead processes",
    owner="node",
    title="/dev/shm is not filled by what earlier jobs left behind",
    why="A job that crashed leaves its segments, and the next job finds the space gone.",
    basis="rule-of-thumb",
    evidence=("torch_77_1_0: 200 MiB, 3 d old, uid 0", "nccl-Ab12: 100 MiB, 3 d old, uid 0"),
    fixes=(
        fix(
            "any",
            "rm -f /dev/shm/torch_77_1_0 /dev/shm/nccl-Ab12 "
            "/dev/shm/a-name-so-long-that-the-line-is-wider-than-any-terminal-will-ever-show-it",
            text="Remove what crashed jobs left in /dev/shm",
            needs_root=True,
        ),
    ),
)
CONTAINER = (
    result("clock-sync", "pass", "synchronised, off by at most 2 ms"),
    result("container-ipc", "pass", "an IPC namespace of its own"),
    result("env-typos", "pass", "14 variables, all known"),
    MEMLOCK,
    result("limits-nofile", "pass", "1048576 open files"),
    SHM_SIZE,
    STALE,
    result("shm-cgroup", "skip", "no memory limit"),
    result("storage-mounts", "skip", "no network mounts"),
)
CONTAINER_STEPS = (
    Step(
        owner="launch",
        launcher="docker",
        text="Start the container with these options",
        command="docker run --shm-size=8g --ulimit memlock=-1:-1 \\\n  IMAGE COMMAND",
    ),
    Step(
        owner="node",
        launcher="any",
        text=STALE.fixes[0].text,
        command=STALE.fixes[0].commands[0],
        needs_root=True,
    ),
)
STUCK = "gpu_driver: no answer in 5 s; its process 4181 (state D) cannot be killed"
UNKNOWN = (
    result("clock-sync", "pass", "synchronised, off by at most 2 ms"),
    result("driver-loads", "error", STUCK, title="The driver answers"),
    result("driver-version", "error", STUCK),
    result("driver-xid", "error", STUCK),
    result("limits-nofile", "warn", "1024 open files", fixes=(fix("host", "ulimit -n 65536"),)),
    result("plugin-site", "error", "ImportError: No module named 'site_rules'"),
    result("shm-cgroup", "skip", "no memory limit"),
    result("storage-mounts", "skip", "no network mounts"),
    result(
        "storage-space",
        "fail",
        "/tmp 1.2 GiB free",
        ignored=Ignored("/tmp is not used here, INFRA-311", "2027-01-31"),
    ),
)
NO_GPU = result(
    "gpu-visible",
    "fail",
    "no device nodes of 8 NVIDIA GPUs in this container",
    why='The job only says "No CUDA GPUs are available".',
    ladder=(
        Rung("PCI bus", Status.PASS, "8 NVIDIA GPUs"),
        Rung("kernel driver", Status.PASS, "nvidia 570.172.08, with words that go on and on here"),
        Rung("device nodes", Status.FAIL, "no /dev/nvidia0 to /dev/nvidia7"),
        Rung("CUDA", Status.SKIP, "not reached"),
    ),
    fixes=(fix("docker", "docker run --gpus all IMAGE COMMAND"),),
)
ESCAPE = (
    "\x1b]0;title\x07\x1b[31mred\x9b2J\u202egnp.exe\r\nFAIL everything\x00"
    "<script>alert(1)</script><img src=http://example.org/x onerror=alert(2)>\"'&amp;"
)
HOSTILE = (
    result(
        "env-typos",
        "fail",
        f"summary {ESCAPE}",
        why=f"why {ESCAPE}",
        ladder=(Rung(f"rung {ESCAPE}", Status.FAIL, f"detail {ESCAPE}"),),
        evidence=(f"evidence {ESCAPE}", "wide 中文字符" * 30, "x" * 500),
        symptoms=(ESCAPE,),
        fixes=(fix("host", f"unset A{ESCAPE}\nunset B", text=f"text {ESCAPE}"),),
    ),
    result("env-names", "pass", f"passed {ESCAPE}"),
    result("env-broken", "error", f"error {ESCAPE}"),
    result("env-skipped", "skip", f"skipped {ESCAPE}"),
)

SAMPLES = {
    "healthy": report(
        Node(name="gpu-a-017", view=("host", "uid 1000, not root", PYTHON), results=HEALTHY)
    ),
    "container": report(
        Node(
            name="9f2c1b7d",
            view=("docker container", "root", PYTHON),
            results=CONTAINER,
            facts={
                "system": {
                    "hostname": "9f2c1b7d",
                    "kernel": "6.8.0",
                    "memory_bytes": 2 << 40,
                    "cpus": 192,
                    "cpus_usable": 192,
                },
                "shm_files": {"absent": "there is no /dev/shm", "broken": False},
            },
            probes={"system": 0.0004, "shm_files": 0.0123},
        ),
        steps=CONTAINER_STEPS,
        launcher="docker",
    ),
    "unknown": report(
        Node(name="gpu-a-018", view=("host", "root"), results=UNKNOWN),
        seconds=5.21,
        remarks=("the ignore of clock-sync expired on 2026-10-31: it counts again (INFRA-7)",),
    ),
    "interrupted": report(
        Node(
            name="gpu-a-019",
            view=("host", "root"),
            results=(
                result("shm-size", "pass", "1008 GiB, this job needs 3.2 GiB"),
                result("storage-mounts", "error", "network_mounts: interrupted"),
            ),
        ),
        seconds=12.3,
        complete=False,
    ),
    "two-nodes": report(
        Node(name="gpu-a-017", view=("host", "root"), results=HEALTHY),
        Node(name="gpu-a-018", view=("host", "root"), results=(*HEALTHY[:12], SHM_SIZE, MEMLOCK)),
        Node(name="gpu-a-019", view=("host", "root"), results=(*HEALTHY[:9], MEMLOCK, STALE)),
        steps=CONTAINER_STEPS[:1],
        launcher="docker",
    ),
    "nothing": report(Node(name="laptop", results=(result("shm-size", "skip", "no /dev/shm"),))),
    "ladder": report(Node(name="9f2c1b7d", results=(NO_GPU,)), launcher="docker"),
    "lint": report(
        Node(
            name="jobs/train, 50%.sh:3 docker run",
            results=(
                replace(SHM_SIZE, place=Place("jobs/train, 50%.sh", 3)),
                replace(MEMLOCK, place=Place("jobs/train, 50%.sh", 4)),
                result("limits-nofile", "skip", "not known before it runs"),
                result("launch-flags", "pass", "9 flags, all known"),
            ),
        ),
        launcher="docker",
    ),
    "no-node": report(),
    "strict": report(
        Node(name="gpu-a-020", view=("host",), results=(STALE,)),
        steps=CONTAINER_STEPS[1:],
        strict=True,
    ),
    "hostile": report(
        Node(
            name=f"node {ESCAPE}",
            view=(f"view {ESCAPE}",),
            results=HOSTILE,
            facts={"x": {"y": ESCAPE}},
        ),
        steps=(Step(owner="job", launcher="host", text=f"step {ESCAPE}", command=f"a{ESCAPE}\nb"),),
        remarks=(f"remark {ESCAPE}",),
    ),
}


@pytest.fixture(scope="session")
def samples() -> dict[str, Report]:
    return SAMPLES


@pytest.fixture
def as_in_golden() -> Callable[[str, str], bool]:
    """Whether a page is, to the letter, the one of that name in golden/; or writes it anew."""

    def compare(printed: str, name: str) -> bool:
        golden = Path(__file__).with_name("golden") / name
        if os.environ.get("UPDATE_GOLDEN"):
            golden.write_text(printed, encoding="utf-8")
        assert printed == golden.read_text(encoding="utf-8")
        return True

    return compare


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a `report` is run with every sample."""
    if "report" in metafunc.fixturenames:
        metafunc.parametrize("report", SAMPLES.values(), ids=SAMPLES.keys())
