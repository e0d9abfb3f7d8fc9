"""docker run and podman run lines -> what they say, and where."""

import pytest

from gpudoctor import GIB, MIB, Launch, LaunchMount, Ulimit
from gpudoctor.lint.containers import read
from gpudoctor.lint.source import Source


def launches(text: str) -> list[Launch]:
    return [found.launch for found in read(Source("run.sh", text))]


def launch(flags: str, image: str = "image", program: str = "docker run") -> Launch:
    (found,) = launches(f"{program} {flags} {image}")
    return found


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        pytest.param("--shm-size=8g", {"shm_bytes": 8 * GIB}, id="size"),
        pytest.param("--shm-size 512MiB", {"shm_bytes": 512 * MIB}, id="size, MiB"),
        pytest.param("--ipc=host", {"ipc": "host"}, id="ipc"),
        pytest.param("--net host", {"network": "host"}, id="network by its former name"),
        pytest.param("-p 29500:29500 -p 80", {"ports": ("29500:29500", "80")}, id="ports"),
        pytest.param("-itp 80:80", {"ports": ("80:80",)}, id="letters together"),
        pytest.param("--gpus all", {"gpus": -1, "gpu_vendor": "nvidia"}, id="all GPUs"),
        pytest.param("--gpus=2", {"gpus": 2}, id="two GPUs"),
        pytest.param("--gpus '\"device=0,3\"'", {"gpus": 2}, id="GPUs by number"),
        pytest.param("--gpus device=0", {"gpus": 1}, id="one GPU by number"),
        pytest.param(
            '--gpus \'"device=0","capabilities=utility,compute"\'', {"gpus": 1}, id="capabilities"
        ),
        pytest.param("--device nvidia.com/gpu=all", {"gpus": -1}, id="CDI"),
        pytest.param(
            "--device nvidia.com/gpu=0 --device nvidia.com/gpu=1", {"gpus": 2}, id="CDI, two"
        ),
        pytest.param("--device /dev/nvidia0", {"gpus": 1, "gpu_vendor": "nvidia"}, id="nodes"),
        pytest.param(
            "--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=0,1", {"gpus": 2}, id="by the runtime"
        ),
        pytest.param("--runtime=nvidia", {"gpus": None}, id="by the image, perhaps"),
        pytest.param(
            "--device=/dev/kfd --device /dev/dri:/dev/dri",
            {"devices": ("/dev/kfd", "/dev/dri"), "gpu_vendor": "amd", "gpus": None},
            id="AMD",
        ),
        pytest.param("-v /dev/infiniband:/dev/infiniband", {"devices": ("/dev/infiniband",)}),
        pytest.param("--group-add video --group-add 109", {"groups": ("video", "109")}),
        pytest.param("--cap-add CAP_IPC_LOCK --cap-add=all", {"capabilities": ("IPC_LOCK", "ALL")}),
        pytest.param("--security-opt seccomp:unconfined", {"security": ("seccomp=unconfined",)}),
        pytest.param("--privileged", {"privileged": True}, id="privileged"),
        pytest.param("--privileged=false", {"privileged": False}, id="not privileged"),
        pytest.param("-u 1000:1000", {"user": "1000:1000"}, id="user"),
        pytest.param("--ulimit memlock=-1", {"ulimits": {"memlock": Ulimit(None, None)}}),
        pytest.param("--ulimit nofile=1:2", {"ulimits": {"nofile": Ulimit(1, 2)}}, id="two limits"),
        pytest.param("-m 16g", {"memory_bytes": 16 * GIB}, id="memory"),
        pytest.param("--cpus 1.5", {"cpus": 1.5}, id="CPUs"),
        pytest.param("--cpu-quota 200000", {"cpus": 2.0}, id="quota"),
        pytest.param("--pids-limit=-1", {"pids": -1}, id="no limit of processes"),
        pytest.param("-eA=1 --env B='x y'", {"environment": {"A": "1", "B": "x y"}}, id="env"),
        pytest.param(
            "-v /data:/data:ro",
            {"mounts": (LaunchMount(target="/data", source="/data", read_only=True),)},
        ),
        pytest.param(
            "-v $(pwd):/work", {"mounts": (LaunchMount(target="/work", source="$(pwd)"),)}
        ),
        pytest.param(
            "--tmpfs /dev/shm:rw,size=2g",
            {"mounts": (LaunchMount(target="/dev/shm", tmpfs=True, tmpfs_bytes=2 * GIB),)},
        ),
        pytest.param(
            "--mount type=tmpfs,dst=/tmp,tmpfs-size=64m",
            {"mounts": (LaunchMount(target="/tmp", tmpfs=True, tmpfs_bytes=64 * MIB),)},
        ),
        pytest.param("--sh", {"unknown": ("--sh",), "image": "image"}, id="unknown"),
        pytest.param(
            "--shm 8g --rm", {"unknown": ("--shm",), "image": "image"}, id="unknown, value"
        ),
        pytest.param("-Z", {"unknown": ("-Z",)}, id="unknown letter"),
    ],
)
def test_flags(flags, fields):
    found = launch(flags)

    assert {name: getattr(found, name) for name in fields} == fields
    assert found.image == "image"
    assert not found.open_words or "$(pwd)" in flags


@pytest.mark.parametrize(
    ("flags", "field", "word"),
    [
        pytest.param("--shm-size=$SHM", "shm_bytes", "$SHM", id="size"),
        pytest.param("--gpus '\"device='$GPUS'\"'", "gpus", "$GPUS", id="GPUs"),
        pytest.param("-e A=$A", "environment.A", "$A", id="a variable"),
        pytest.param("-e A", "environment.A", None, id="the caller's variable"),
        pytest.param("--env-file .env", "environment.B", None, id="variables of a file"),
        pytest.param("-v $MOUNT", "mounts", "$MOUNT", id="mount"),
        pytest.param("--runtime=nvidia", "gpus", None, id="the runtime's choice"),
        pytest.param("$FLAGS --rm", "shm_bytes", "$FLAGS", id="any flags"),
        pytest.param('"${FLAGS[@]}"', "network", "${FLAGS[@]}", id="an array of flags"),
        pytest.param("--ulimit memlock=$L", "ulimits.memlock", "$L", id="limit"),
        pytest.param("--memory=${M:-8g}", "memory_bytes", "${M:-8g}", id="default"),
    ],
)
def test_what_only_the_launch_knows(flags, field, word):
    found = launch(flags)

    assert not found.knows(field)
    assert found.knows("user") or "*" in found.open_fields
    assert word is None or word in found.open_words


@pytest.mark.parametrize(
    ("flags", "refused", "why"),
    [
        pytest.param("--gpus device=0,1", "--gpus device=0,1", "quotes of its own", id="GPUs"),
        pytest.param("--gpus none", "--gpus none", "none", id="no count"),
        pytest.param("--shm-size=8x", "--shm-size 8x", "8x", id="size"),
        pytest.param("--ulimit memlock=64k", "--ulimit memlock=64k", "SOFT", id="limit"),
        pytest.param("--cpus=abc", "--cpus abc", "abc", id="CPUs"),
    ],
)
def test_what_the_engine_refuses(flags, refused, why):
    found = launch(flags)

    assert list(found.refused) == [refused]
    assert why in found.refused[refused]


@pytest.mark.parametrize(
    ("words", "late", "command"),
    [
        pytest.param("--shm-size=1g a", ("--shm-size",), ("a",), id="one"),
        pytest.param("--ipc host --shm-size 1g a", ("--ipc", "--shm-size"), ("a",), id="two"),
        pytest.param("a --shm-size=1g", (), ("a", "--shm-size=1g"), id="the program's own"),
        pytest.param("--gpus 8", (), ("--gpus", "8"), id="an entrypoint's own"),
        pytest.param(
            "--ulimit=a --model x", (), ("--ulimit=a", "--model", "x"), id="among an entrypoint's"
        ),
    ],
)
def test_flags_behind_the_image(words, late, command):
    (found,) = launches(f"docker run image {words}")

    assert (found.image, found.late, found.command) == ("image", late, command)


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        pytest.param("--shm_size=1g", 1 << 30, id="value in the word"),
        pytest.param("--shm_size 1g", 1 << 30, id="value in the next"),
        pytest.param("--sh 1g", None, id="what it means is not clear"),
    ],
)
def test_a_misspelt_flag_says_what_it_means(flags, size):
    (found,) = launches(f"docker run {flags} image")

    assert (found.unknown, found.shm_bytes) == ((flags[: flags.index("1") - 1],), size)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("docker run image", 1, id="docker"),
        pytest.param("sudo -E docker run image", 1, id="sudo"),
        pytest.param("A=1 exec nohup docker run image &", 1, id="exec"),
        pytest.param("srun -N2 docker run image", 1, id="srun"),
        pytest.param("/usr/bin/podman --log-level debug run image", 1, id="flags of podman"),
        pytest.param("docker -H tcp://x container create image", 1, id="create"),
        pytest.param("nvidia-docker run image", 1, id="nvidia-docker"),
        pytest.param("if ! docker run image; then docker run image; fi", 2, id="two"),
        pytest.param("echo docker run image", 0, id="echo"),
        pytest.param("docker ps; docker exec a run; docker build .; docker compose run a", 0),
        pytest.param("# docker run image", 0, id="comment"),
        pytest.param("cat <<E\ndocker run image\nE", 0, id="here document"),
        pytest.param("ssh host 'docker run image'", 0, id="another host's"),
        pytest.param(f"docker run {'a ' * 3000}", 0, id="longer than any"),
    ],
)
def test_finds_launches(text, count):
    assert len(launches(text)) == count


def test_image_command_and_places():
    text = (
        "docker run \\\n  --rm \\\n  --shm-size=1g \\\n  -e A=1 nvcr.io/x:1 torchrun \\\n  train.py"
    )

    (found,) = read(Source("run.sh", text))

    assert found.launch.image == "nvcr.io/x:1"
    assert found.launch.command == ("torchrun", "train.py")
    assert found.line == 1
    assert found.launch.lines["shm_bytes"] == 3
    assert found.launch.lines["environment.A"] == 4
    assert text[found.start : found.end] == text


def test_engine_is_the_launcher():
    assert launch("", program="podman run").launcher == "podman"
    assert launch("", program="docker run").form == "docker run"
    assert launch("", program="nvidia-docker run").gpus == -1


def test_the_entrypoint_comes_first():
    assert launch("--entrypoint torchrun", "image train.py").command == ("torchrun", "train.py")
