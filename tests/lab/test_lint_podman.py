"""What `lint` predicts of a container, and what the same checks find in it when it runs."""

import shlex
import subprocess

import msgspec
import pytest

from gpudoctor import Status
from gpudoctor.lint.containers import read
from gpudoctor.lint.predict import predict
from gpudoctor.lint.source import Source
from gpudoctor.report import Report
from gpudoctor.snapshot import Absent

JOB = ["--nproc-per-node=4", "--nnodes=1"]
FACTS = {
    "shm": ("exists", "total_bytes", "filesystem"),
    "cgroup": ("memory_limit_bytes", "pids_limit", "cpu_quota"),
    "container": ("runtime", "ipc_private", "net_private"),
    "environment": ("values",),
}
LINES = [
    "",
    "--shm-size=64m",
    "--shm-size=512m",
    "--shm-size 1g --memory 512m",
    "--shm-size=256MB -m 1g",
    "--shm-size=1073741824",
    "--ipc=host",
    "--ipc=private",
    "--ipc=none",
    "--ipc=shareable --shm-size=2g",
    "--pids-limit=40",
    "--pids-limit=-1",
    "--pids-limit 0 --shm-size=1g",
    "--memory=200m --pids-limit=5000",
    "--cpus=1.5",
    "--cpus 2 --shm-size=2g --memory=8g",
    "--cpu-quota=50000",
    "--ulimit stack=-1:-1 --shm-size=1g",
    "--ulimit stack=67108864",
    "--ulimit nofile=256:512",
    "--ulimit nofile=1024 --ulimit stack=8388608:8388608",
    "--tmpfs /dev/shm:rw,size=200m",
    "--tmpfs=/scratch:size=64m --shm-size=1g",
    "--mount type=tmpfs,target=/dev/shm,tmpfs-size=128m",
    "-e NCCL_DEBUG=INFO -e NCCL_SOCKET_IFNAMES=eth0 --env=OMP_NUM_THREADS=4",
    "-e NCCL_IB_DISABLE=true --shm-size=1g",
    "-e CUDA_VISIBLE_DEVICES=0 --shm-size=1g",
    "--cap-add=SYS_NICE --user 0:0 --group-add 44 --shm-size=1g",
    "--init --hostname node --workdir /tmp --read-only=false --shm-size=1g",
    "-v /etc:/mnt:ro -w / --rm=true --shm-size=1g",
]


@pytest.fixture(params=LINES, ids=lambda line: line or "defaults", scope="module")
def line(request) -> str:
    return f"podman run --network=none {request.param} image torchrun --nproc-per-node=4 t.py"


@pytest.fixture(scope="module")
def live(line, examine_in_podman) -> Report:
    """The report of the container that really ran."""
    _, _, _, *flags = shlex.split(line)  # the lab's containers have no network anyway
    return examine_in_podman(flags[: flags.index("image")], *JOB)


def test_facts_agree(line, live):
    (found,) = read(Source("run.sh", line))
    predicted, seen = predict(found.launch, "x").facts, live.nodes[0].facts

    for fact, fields in FACTS.items():
        if isinstance(predicted[fact], Absent):
            continue
        for field in fields:
            told, real = getattr(predicted[fact], field), seen[fact][field]
            if field == "values":  # the image has more, and torchrun adds to them
                told = {name: told[name] for name in told if name in found.launch.environment}
                real = {name: real[name] for name in told}
            assert told == real, (fact, field)


def test_findings_agree(line, live, gpudoctor):
    command = [gpudoctor, "lint", "-f", "json", *JOB, "-"]
    ended = subprocess.run(command, input=line, capture_output=True, text=True, timeout=60)
    report = msgspec.json.decode(ended.stdout, type=Report)

    told = {r.id: r.status for r in report.results if r.status is not Status.SKIP}
    real = {r.id: r.status for r in live.results}
    assert {"shm-size", "cgroup-pids", "container-ipc"} & told.keys()
    assert {name: real[name] for name in told if name in real} == {
        name: status for name, status in told.items() if name in real
    }
