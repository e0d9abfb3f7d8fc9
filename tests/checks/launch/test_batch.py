"""checks/launch/batch.py."""

import pytest

from gpudoctor import Drop, Launch, Status
from gpudoctor.registry import get


def slurm(**said) -> Launch:
    return Launch(form="sbatch script", launcher="slurm", **said)


def apptainer(**said) -> Launch:
    return Launch(form="apptainer run", launcher="apptainer", **said)


DOCKER = Launch(form="docker run", launcher="docker", starter="torchrun", ranks=8, tasks=8)


@pytest.mark.parametrize(
    ("launch", "status"),
    [
        pytest.param(slurm(starter="torchrun", ranks=8, tasks=8), Status.FAIL, id="each task"),
        pytest.param(
            Launch(form="srun step", launcher="pyxis", starter="torchrun", ranks=2, tasks=2),
            Status.FAIL,
            id="a step",
        ),
        pytest.param(slurm(starter="torchrun", ranks=8, tasks=1), Status.PASS, id="one task"),
        pytest.param(slurm(starter="torchrun", ranks=8), Status.PASS, id="the default"),
        pytest.param(slurm(starter="torchrun", ranks=1, tasks=8), Status.PASS, id="one rank each"),
        pytest.param(slurm(starter="torchrun", tasks=8), Status.SKIP, id="ranks not known"),
        pytest.param(slurm(ranks=8, tasks=8), Status.SKIP, id="srun starts the ranks"),
        pytest.param(
            slurm(starter="torchrun", ranks=8, open_fields=("tasks",), open_words=("$N",)),
            Status.SKIP,
            id="tasks not known",
        ),
        pytest.param(
            slurm(starter="torchrun", ranks=8, nodes=2, unstepped=True),
            Status.FAIL,
            id="on the first node only",
        ),
        pytest.param(DOCKER, Status.SKIP, id="docker"),
    ],
)
def test_tasks(launch, status):
    found = get("launch-tasks").judge(launch)

    assert found.status is status
    assert len(found.summary) < 80


@pytest.mark.parametrize(
    ("launch", "status"),
    [
        pytest.param(apptainer(gpu_vendor="nvidia"), Status.WARN, id="GPUs asked for"),
        pytest.param(
            apptainer(image="docker://nvcr.io/nvidia/pytorch:25.01-py3"), Status.WARN, id="image"
        ),
        pytest.param(apptainer(image="docker://rocm/pytorch"), Status.PASS, id="image for AMD"),
        pytest.param(apptainer(gpu_vendor="amd", ipc="private"), Status.WARN, id="hidden devices"),
        pytest.param(apptainer(gpus=-1, gpu_vendor="nvidia"), Status.PASS, id="nv"),
        pytest.param(apptainer(gpus=-1, gpu_vendor="amd"), Status.PASS, id="rocm"),
        pytest.param(apptainer(image="blast.sif"), Status.SKIP, id="something else"),
        pytest.param(apptainer(gpu_vendor="nvidia", only_looks=True), Status.SKIP, id="looks"),
        pytest.param(DOCKER, Status.SKIP, id="docker"),
    ],
)
def test_nv(launch, status):
    found = get("launch-nv").judge(launch)

    assert found.status is status
    assert len(found.summary) < 80


def test_rocm_is_for_amd():
    fixes = [
        get("launch-nv").judge(launch).fix.settings[0].vendor
        for launch in (
            apptainer(image="docker://rocm/pytorch", ipc="private"),
            apptainer(gpu_vendor="amd", ipc="private"),
            apptainer(gpu_vendor="nvidia"),
        )
    ]

    assert fixes == ["amd", "amd", "nvidia"]


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        pytest.param(("torchrun", "t.py"), (Drop("unstepped"),), id="plain"),
        pytest.param(("torchrun", "--node-rank=$SLURM_NODEID"), (), id="another word on each node"),
        pytest.param(("A=1", "torchrun"), (), id="an assignment"),
    ],
)
def test_how_srun_starts_it(command, settings):
    launch = slurm(starter="torchrun", ranks=8, nodes=2, unstepped=True, command=command)
    fix = get("launch-tasks").judge(launch).fix

    assert fix.settings == settings
    assert fix.text or fix.settings
