"""Settings -> how a docker run line changes; what results is read again, by bash and by us."""

import subprocess

import pytest

from gpudoctor import (
    GIB,
    MIB,
    Capability,
    Cpus,
    Drop,
    EnvSet,
    EnvUnset,
    GpuDevices,
    HostNetwork,
    IpcHost,
    Memlock,
    Memory,
    Mount,
    NoFile,
    Pids,
    RdmaDevices,
    Setting,
    ShmSize,
    Stack,
)
from gpudoctor.launch import merge
from gpudoctor.lint.containers import read
from gpudoctor.lint.source import Source, edited


def changed(text: str, *settings: Setting) -> str:
    source = Source("run.sh", text)
    (found,) = read(source)
    return edited(source, found.edits(merge(settings)))


@pytest.mark.parametrize(
    ("before", "settings", "after"),
    [
        pytest.param("docker run i c", [ShmSize(GIB)], "docker run --shm-size=1g i c", id="added"),
        pytest.param(
            "docker run --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=0 i c",
            [GpuDevices("nvidia", 4)],
            "docker run --runtime=nvidia --gpus 4 i c",
            id="GPUs by a variable",
        ),
        pytest.param(
            "docker run --shm_size 1g -it i c",
            [Drop("unknown", "--shm_size")],
            "docker run --shm-size 1g -it i c",
            id="misspelt",
        ),
        pytest.param(
            "docker run --rm i --shm-size=1g --ipc private c",
            [Drop("late", "--shm-size"), Drop("late", "--ipc")],
            "docker run --rm --shm-size=1g --ipc private i c",
            id="behind the image",
        ),
        pytest.param(
            "docker run i --shm-size=1g",
            [Drop("late", "--shm-size")],
            "docker run --shm-size=1g i ",
            id="behind the image, and nothing else",
        ),
        pytest.param(
            "docker run --shm-size 64m -it i c",
            [ShmSize(GIB)],
            "docker run --shm-size=1g -it i c",
            id="in its place",
        ),
        pytest.param(
            "docker run --shm-size=1g --ipc private i",
            [IpcHost()],
            "docker run --ipc=host i",
            id="instead of another",
        ),
        pytest.param(
            "docker run --ulimit nofile=1024 --ulimit memlock=65536 i",
            [Memlock(), Stack(64 * MIB)],
            "docker run --ulimit nofile=1024 --ulimit memlock=-1:-1"
            " --ulimit stack=67108864:67108864 i",
            id="limits",
        ),
        pytest.param(
            "docker run -p 80:80 --net bridge -p 29500:29500 i",
            [HostNetwork()],
            "docker run --network=host i",
            id="host network without ports",
        ),
        pytest.param(
            "docker run -itp 80:80 i",
            [HostNetwork()],
            "docker run -it --network=host i",
            id="letters",
        ),
        pytest.param(
            "docker run -e A=1 i", [EnvUnset("A")], "docker run i", id="variable taken out"
        ),
        pytest.param(
            "docker run i python x", [EnvUnset("A")], "docker run i env -u A python x", id="image's"
        ),
        pytest.param("docker run i", [EnvUnset("A")], "docker run i", id="image's own command"),
        pytest.param(
            "docker run -e 'A=1 2' i",
            [EnvSet("A", "x y")],
            "docker run --env 'A=x y' i",
            id="variable set anew",
        ),
        pytest.param("docker run --gpus 4 i", [GpuDevices()], "docker run --gpus all i", id="GPUs"),
        pytest.param(
            "podman run i",
            [GpuDevices(count=1)],
            "podman run --device nvidia.com/gpu=0 --security-opt label=disable i",
            id="podman's GPUs",
        ),
        pytest.param(
            "docker run --device=/dev/kfd --group-add render i",
            [GpuDevices("amd", groups=(44, 109)), Drop("groups", "render")],
            "docker run --device=/dev/kfd --group-add 44 \\\n  --device /dev/dri"
            " --group-add 109 --security-opt seccomp=unconfined \\\n  i",
            id="AMD, what is there stays",
        ),
        pytest.param(
            "docker run --sh i b", [Drop("unknown", "--sh")], "docker run i b", id="unknown word"
        ),
        pytest.param(
            "docker run --gpus=device=0,1 i",
            [Drop("refused", "--gpus device=0,1")],
            "docker run --gpus '\"device=0,1\"' i",
            id="a list of GPUs",
        ),
        pytest.param(
            "docker run --shm-size 8g --ipc=host i",
            [Drop("shm_bytes")],
            "docker run --ipc=host i",
            id="size",
        ),
        pytest.param(
            "docker run --cpus=1 -m 1g --memory-swap 2g --pids-limit 9 i",
            [Cpus(8), Memory(8 * GIB), Pids()],
            "docker run --cpus=8 --memory=8g --pids-limit=-1 i",
            id="cgroup",
        ),
        pytest.param(
            "docker run -v /a:/tmp --tmpfs /x i",
            [Mount("/x", tmpfs_bytes=GIB)],
            "docker run -v /a:/tmp --tmpfs /x:mode=1777,size=1g i",
            id="tmpfs",
        ),
        pytest.param(
            "docker run --device /dev/infiniband i",
            [RdmaDevices(), Capability("IPC_LOCK")],
            "docker run --device /dev/infiniband --cap-add=IPC_LOCK i",
            id="what is said already",
        ),
        pytest.param(
            "docker run \\\n    --rm \\\n    i \\\n    c",
            [ShmSize(GIB), NoFile(4096)],
            "docker run \\\n    --rm \\\n    --shm-size=1g \\\n    --ulimit nofile=4096:4096 \\\n"
            "    i \\\n    c",
            id="lines of their own",
        ),
        pytest.param(
            "docker run \\\n  --shm-size=1g \\\n  --ipc=host \\\n  i",
            [Drop("shm_bytes")],
            "docker run \\\n  --ipc=host \\\n  i",
            id="a line goes",
        ),
        pytest.param(
            "docker run --rm \\ # why\n  --sh \\ # what\n  i",
            [Drop("torn"), Drop("unknown", "--sh")],
            "docker run --rm \\\n  i",
            id="comments behind backslashes",
        ),
        pytest.param(
            "docker run --sh", [Drop("unknown", "--sh")], "docker run ", id="nothing behind it"
        ),
        pytest.param(
            "docker run --rm", [ShmSize(GIB)], "docker run --shm-size=1g --rm", id="no image"
        ),
        pytest.param("x; docker run i; y", [ShmSize(GIB)], "x; docker run --shm-size=1g i; y"),
    ],
)
def test_edits(before, settings, after):
    assert changed(before, *settings) == after


@pytest.mark.parametrize("flags", ["--rm -v a:b", "-itv a:b -e A=1", "--ipc=host --shm-size 8g"])
def test_what_was_changed_once_needs_no_change(flags):
    settings = (ShmSize(GIB), HostNetwork(), Memlock(), EnvUnset("A"), GpuDevices())

    once = changed(f"docker run {flags} image", *settings)

    assert changed(once, *settings) == once


def test_a_long_line_is_broken_as_bash_reads_it():
    before = f"docker run --name {'n' * 80} image python train.py"
    after = changed(before, ShmSize(8 * GIB), HostNetwork(), Memlock())

    words = subprocess.run(
        ["bash", "-c", f'docker() {{ echo "$@"; }}; {after}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert max(map(len, after.splitlines())) < 120
    assert words.split() == [
        *("run", "--name", "n" * 80, "--shm-size=8g", "--network=host", "--ulimit"),
        *("memlock=-1:-1", "image", "python", "train.py"),
    ]
