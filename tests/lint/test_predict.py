"""What a launch says -> the facts that the checks will find."""

import pytest

from gpudoctor import (
    GIB,
    MIB,
    Absent,
    Cgroup,
    Container,
    Devices,
    Environment,
    Launch,
    LaunchMount,
    Limit,
    Limits,
    Shm,
    Ulimit,
    Workload,
)
from gpudoctor.lint.predict import predict, shareable


def docker(**said) -> Launch:
    return Launch(form="docker run", launcher="docker", **{"gpus": 2, **said})


def podman(**said) -> Launch:
    return Launch(form="podman run", launcher="podman", **{"gpus": 2, **said})


def pod(**said) -> Launch:
    more = {"gpus": 2, **said}
    return Launch(form="Kubernetes container", launcher="kubernetes", **more)


@pytest.mark.parametrize(
    ("launch", "size"),
    [
        pytest.param(docker(), 64 * MIB, id="docker's default"),
        pytest.param(podman(), 65_536_000, id="podman's default"),
        pytest.param(pod(), 64 * MIB, id="containerd's default"),
        pytest.param(docker(shm_bytes=8 * GIB), 8 * GIB, id="said"),
        pytest.param(docker(ipc="shareable"), 64 * MIB, id="shareable"),
        pytest.param(
            pod(mounts=(LaunchMount(target="/dev/shm/", tmpfs=True, tmpfs_bytes=GIB),)),
            GIB,
            id="mounted",
        ),
        pytest.param(docker(ipc="host"), None, id="the host's"),
        pytest.param(docker(ipc="container:x"), None, id="another container's"),
        pytest.param(docker(open_fields=("shm_bytes",), open_words=("$S",)), None, id="$S"),
        pytest.param(docker(open_fields=("*",), open_words=("$FLAGS",)), None, id="any flags"),
        pytest.param(
            docker(mounts=(LaunchMount(target="/dev/shm", source="/dev/shm"),)), None, id="bind"
        ),
        pytest.param(
            pod(mounts=(LaunchMount(target="/dev/shm", tmpfs=True),)), None, id="without a size"
        ),
        pytest.param(
            Launch(form="torchrun", launcher="host", ranks=2), None, id="no container at all"
        ),
    ],
)
def test_shm(launch, size):
    shm = predict(launch, "n").get(Shm)

    if size is None:
        assert isinstance(shm, Absent)
        assert not shm.broken
    else:
        assert (shm.total_bytes, shm.free_bytes, shm.filesystem) == (size, size, "tmpfs")


def test_ipc_none_has_no_shm():
    assert not predict(docker(ipc="none"), "n").get(Shm).exists


@pytest.mark.parametrize(
    ("launch", "limits"),
    [
        (docker(ulimits={"stack": Ulimit(None, None)}), Limits(stack=Limit(None, None))),
        (docker(ulimits={"memlock": Ulimit(1, 2)}), Limits(memlock=Limit(1, 2))),
        (docker(ulimits={"core": Ulimit(0, 0)}), None),
        (docker(), None),
    ],
    ids=["stack", "memlock", "another", "none"],
)
def test_limits(launch, limits):
    found = predict(launch, "n").get(Limits)

    assert found == limits or (limits is None and isinstance(found, Absent))


@pytest.mark.parametrize(
    ("launch", "cgroup"),
    [
        (docker(), Cgroup(version=2)),
        (podman(), Cgroup(version=2, pids_limit=2048)),
        (podman(pids=-1), Cgroup(version=2)),
        (
            docker(memory_bytes=GIB, cpus=2.5),
            Cgroup(version=2, memory_limit_bytes=GIB, cpu_quota=2.5),
        ),
        (pod(), Cgroup(version=2, unseen=("pids",))),
        (docker(open_fields=("memory_bytes",)), None),
        (Launch(form="sbatch script", launcher="slurm", gpus=1), None),
    ],
    ids=["docker", "podman", "podman, no limit", "limits", "pod", "open", "slurm"],
)
def test_cgroup(launch, cgroup):
    found = predict(launch, "n").get(Cgroup)

    assert found == cgroup or (cgroup is None and isinstance(found, Absent))


@pytest.mark.parametrize(
    ("launch", "ranks", "nodes"),
    [
        pytest.param(docker(ranks=8, nodes=2, starter="torchrun"), 8, 2, id="torchrun"),
        pytest.param(docker(gpus=4), 4, None, id="one rank for each GPU"),
        pytest.param(docker(gpus=1), None, None, id="one GPU"),
        pytest.param(docker(gpus=-1), None, None, id="all GPUs"),
        pytest.param(
            docker(environment={"PET_NPROC_PER_NODE": "4", "PET_NNODES": "3"}), 4, 3, id="PET"
        ),
        pytest.param(
            docker(environment={"NPROC_PER_NODE": "8", "NNODES": "2"}), 8, 2, id="a script's"
        ),
        pytest.param(docker(gpus=1, environment={"PET_NNODES": "1:4"}), None, None, id="elastic"),
    ],
)
def test_workload(launch, ranks, nodes):
    job = predict(launch, "n").get(Workload)

    assert (job.local_ranks if job.knows("local_ranks") else None) == ranks
    assert (job.nodes if job.knows("nodes") else None) == nodes


def test_container():
    shared = predict(docker(ipc="host", network="host"), "n").get(Container)
    own = predict(podman(), "n").get(Container)

    assert (shared.runtime, shared.ipc_private, shared.net_private) == ("docker", False, False)
    assert (own.runtime, own.ipc_private, own.net_private) == ("podman", True, True)


def test_devices():
    assert predict(docker(devices=("/dev/infiniband",)), "n").get(Devices).rdma
    assert not predict(docker(), "n").get(Devices).rdma
    assert isinstance(predict(docker(privileged=True), "n").get(Devices), Absent)


def test_environment_tells_no_secrets():
    launch = docker(
        environment={"NCCL_DEBUG": "INFO", "WANDB_API_KEY": "abcdef", "NCCL_FOO": "secret"},
        command=("python", "x.py", "--api-key", "hunter2", "https://me:pass@host/x"),
        open_words=("$(curl https://me:pass@host)",),
        open_fields=("shm_bytes",),
    )

    snapshot = predict(launch, "n")
    environment = snapshot.get(Environment)

    assert environment.values == {"NCCL_DEBUG": "INFO"}
    assert snapshot.get(Launch).command == (
        *("python", "x.py", "--api-key", "***"),
        "https://***@host/x",
    )
    assert environment.names == ("NCCL_DEBUG", "NCCL_FOO")
    for secret in ("abcdef", "secret", "hunter2", "me:pass"):
        assert secret not in repr(snapshot)


def test_torchrun_sets_threads():
    launch = docker(ranks=8, starter="torchrun")

    assert predict(launch, "n").get(Environment).values == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "launch",
    [
        pytest.param(docker(gpus=None, image="postgres:16"), id="a database"),
        pytest.param(docker(image="ollama/ollama:latest"), id="no torch"),
        pytest.param(docker(gpus=None, image="python:3.12", command=("pytest",)), id="CI"),
        pytest.param(docker(only_looks=True), id="nvidia-smi"),
        pytest.param(docker(gpus=None), id="nothing said"),
    ],
)
def test_what_is_no_job_has_no_facts_of_one(launch):
    snapshot = predict(launch, "n")

    assert isinstance(snapshot.get(Launch), Launch)
    assert all(isinstance(snapshot.get(kind), Absent) for kind in (Workload, Shm, Cgroup, Limits))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-e MY_PASS=hunter2 x", "-e MY_PASS=*** x"),
        ("-e MY_PASS='hunter 2' x", "-e MY_PASS=*** x"),
        ('-e "MY_PASS=hunter2" x', '-e "MY_PASS=***" x'),
        ("PASSPHRASE: hunter2", "PASSPHRASE: ***"),
        ("-e AWS_SECRET_ACCESS_KEY=$KEY", "-e AWS_SECRET_ACCESS_KEY=$KEY"),
        ('--token "${HF_TOKEN}" x', '--token "${HF_TOKEN}" x'),
        ("--token '$HF_TOKEN' x", "--token *** x"),
        ("--token hunter2 x", "--token *** x"),
        ("-e TOKENIZERS_PARALLELISM=false", "-e TOKENIZERS_PARALLELISM=false"),
        ("-e MAX_TOKENS=2048 -e MONKEY=1", "-e MAX_TOKENS=2048 -e MONKEY=1"),
    ],
)
def test_shareable(text, told):
    assert shareable(text) == told
