"""checks/launch/line.py: tables of launch -> status."""

import pytest

from gpudoctor import Drop, EnvUnset, GpuDevices, Launch, LaunchMount, Status, Workload
from gpudoctor.registry import get

PASS, WARN, FAIL, SKIP = Status.PASS, Status.WARN, Status.FAIL, Status.SKIP


def docker(**said) -> Launch:
    return Launch(form="docker run", launcher="docker", **{"image": "image", **said})


def podman(**said) -> Launch:
    return Launch(form="podman run", launcher="podman", **{"image": "image", **said})


def ranks(count: int | None) -> Workload:
    return Workload().told({"local_ranks": count}, "torchrun") if count else Workload()


@pytest.mark.parametrize(
    ("launch", "status", "says", "settings"),
    [
        pytest.param(
            docker(unknown=("--sh",)),
            FAIL,
            "does not know --sh",
            (Drop("unknown", "--sh"),),
            id="--sh",
        ),
        pytest.param(
            docker(refused={"--gpus device=0,1": "quotes"}),
            FAIL,
            "--gpus device=0,1",
            (Drop("refused", "--gpus device=0,1"),),
            id="refused",
        ),
        pytest.param(
            docker(refused={"--shm-size 8x": "no size"}),
            FAIL,
            "does not take --shm-size 8x",
            (),
            id="refused, nobody knows what is meant",
        ),
        pytest.param(
            docker(late=("--ipc", "--shm-size")),
            FAIL,
            "--ipc, --shm-size behind the image",
            (Drop("late", "--ipc"), Drop("late", "--shm-size")),
            id="late",
        ),
        pytest.param(docker(torn=True), FAIL, "a backslash", (Drop("torn"),), id="torn"),
        pytest.param(docker(image=""), FAIL, "without an image", (), id="no image"),
        pytest.param(
            docker(image="", open_fields=("image",)), PASS, "", (), id="image in a variable"
        ),
        pytest.param(docker(), PASS, "", (), id="healthy"),
        pytest.param(
            Launch(form="compose service", launcher="compose", unknown=("shm-size",)),
            FAIL,
            "this compose service does not know shm-size",
            (Drop("unknown", "shm-size"),),
            id="a key of compose",
        ),
    ],
)
def test_flags(launch, status, says, settings):
    finding = get("launch-flags")(launch)

    assert finding.status is status
    assert says in finding.summary
    assert (finding.fix.settings if finding.fix else ()) == settings


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--sh", "--shm-size is meant?"),
        ("--shm_size", "--shm-size is meant?"),
        ("--gpu", "--gpus is meant?"),
        ("--zzzz", "nothing like it is known"),
        ("-Z", "nothing like it is known"),
    ],
)
def test_flags_says_what_is_meant(word, says):
    finding = get("launch-flags")(docker(unknown=(word,)))

    assert finding.evidence == (f"{word}: {says}",)


@pytest.mark.parametrize(
    ("launch", "status"),
    [
        pytest.param(docker(ipc="host", shm_bytes=8 << 30), WARN, id="docker ignores it"),
        pytest.param(podman(ipc="host", shm_bytes=8 << 30), FAIL, id="podman refuses it"),
        pytest.param(docker(ipc="container:x", shm_bytes=8 << 30), WARN, id="another container's"),
        pytest.param(docker(ipc="private", shm_bytes=8 << 30), PASS, id="private"),
        pytest.param(docker(ipc="host"), PASS, id="host alone"),
        pytest.param(docker(shm_bytes=8 << 30), PASS, id="size alone"),
        pytest.param(docker(), PASS, id="neither"),
    ],
)
def test_ipc(launch, status):
    finding = get("launch-ipc")(launch)

    assert finding.status is status
    assert not finding.fix or finding.fix.settings == (Drop("shm_bytes"),)


@pytest.mark.parametrize(
    ("launch", "status"),
    [
        pytest.param(docker(groups=("video", "render")), WARN, id="render"),
        pytest.param(docker(groups=("keep-groups",)), WARN, id="podman's word in docker"),
        pytest.param(podman(groups=("keep-groups",)), PASS, id="keep-groups"),
        pytest.param(docker(groups=("video", "109")), PASS, id="numbers"),
        pytest.param(docker(), PASS, id="none"),
        pytest.param(
            docker(
                groups=("render",), mounts=(LaunchMount(target="/etc/group", source="/etc/group"),)
            ),
            PASS,
            id="the host's names",
        ),
        pytest.param(
            Launch(form="Kubernetes container", launcher="kubernetes"), SKIP, id="Kubernetes"
        ),
    ],
)
def test_groups(launch, status):
    finding = get("launch-groups")(launch)

    assert finding.status is status
    assert not finding.fix or GpuDevices("amd") in finding.fix.settings


PYTORCH = "nvcr.io/nvidia/pytorch:25.01-py3"
TRAIN = ("python", "train.py")


@pytest.mark.parametrize(
    ("launch", "status", "vendor"),
    [
        pytest.param(docker(image="rocm/pytorch", devices=("/dev/kfd",)), FAIL, "amd", id="no dri"),
        pytest.param(docker(image="rocm/pytorch", devices=("/dev/dri",)), FAIL, "amd", id="no kfd"),
        pytest.param(docker(image="rocm/pytorch", command=TRAIN), WARN, "amd", id="AMD, nothing"),
        pytest.param(docker(image=PYTORCH, command=TRAIN), WARN, "nvidia", id="NVIDIA, nothing"),
        pytest.param(docker(image=PYTORCH, command=("bash",)), WARN, "nvidia", id="a shell"),
        pytest.param(docker(image=PYTORCH), WARN, "nvidia", id="the image's own command"),
        pytest.param(
            docker(image="pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime", command=TRAIN),
            WARN,
            "nvidia",
            id="cuda in the tag",
        ),
        pytest.param(docker(image=PYTORCH, gpus=-1, command=TRAIN), PASS, "", id="all GPUs"),
        pytest.param(docker(image=PYTORCH, privileged=True), PASS, "", id="privileged"),
        pytest.param(
            docker(image="rocm/pytorch", devices=("/dev/kfd", "/dev/dri/renderD128")),
            PASS,
            "",
            id="AMD, one GPU",
        ),
        pytest.param(docker(image=PYTORCH, open_fields=("gpus",)), SKIP, "", id="by the runtime"),
        pytest.param(docker(image=PYTORCH, open_fields=("*",)), SKIP, "", id="any flags"),
        pytest.param(docker(image=PYTORCH, command=("pytest", "-q")), SKIP, "", id="CI"),
        pytest.param(docker(image="nvidia/cuda:12", command=("make",)), SKIP, "", id="a build"),
        pytest.param(docker(image="python:3.12", command=TRAIN), SKIP, "", id="CPU image"),
        pytest.param(docker(image="jellyfin", devices=("/dev/dri",)), SKIP, "", id="video"),
        pytest.param(
            Launch(form="Kubernetes container", launcher="kubernetes", image=PYTORCH),
            SKIP,
            "",
            id="Kubernetes",
        ),
    ],
)
def test_devices(launch, status, vendor):
    finding = get("launch-devices")(launch, ranks(1))

    assert finding.status is status
    assert not finding.fix or finding.fix.settings == (GpuDevices(vendor),)


@pytest.mark.parametrize(
    ("count", "said", "status", "setting"),
    [
        pytest.param(8, {"gpus": 4}, FAIL, GpuDevices("nvidia", 8), id="fewer GPUs"),
        pytest.param(8, {"gpus": 8}, PASS, None, id="as many"),
        pytest.param(8, {"gpus": -1}, PASS, None, id="all"),
        pytest.param(2, {}, PASS, None, id="not said"),
        pytest.param(
            8,
            {"gpus": -1, "environment": {"CUDA_VISIBLE_DEVICES": "0"}},
            FAIL,
            EnvUnset("CUDA_VISIBLE_DEVICES"),
            id="only the first",
        ),
        pytest.param(
            2, {"gpus": -1, "environment": {"CUDA_VISIBLE_DEVICES": "0,1"}}, PASS, None, id="enough"
        ),
        pytest.param(
            2,
            {"gpus": -1, "environment": {"CUDA_VISIBLE_DEVICES": "-1"}},
            FAIL,
            EnvUnset("CUDA_VISIBLE_DEVICES"),
            id="none",
        ),
        pytest.param(
            2, {"environment": {"CUDA_VISIBLE_DEVICES": ""}}, PASS, None, id="gloo, on purpose"
        ),
        pytest.param(
            2,
            {
                "gpus": 2,
                "environment": {"CUDA_VISIBLE_DEVICES": "$G"},
                "open_fields": ("environment",),
            },
            PASS,
            None,
            id="in a variable",
        ),
        pytest.param(1, {"environment": {"CUDA_VISIBLE_DEVICES": "0"}}, PASS, None, id="one rank"),
        pytest.param(None, {"gpus": 2}, SKIP, None, id="ranks not said"),
    ],
)
def test_ranks(count, said, status, setting):
    finding = get("launch-ranks")(docker(**said), ranks(count))

    assert finding.status is status
    assert not setting or finding.fix.settings == (setting,)
