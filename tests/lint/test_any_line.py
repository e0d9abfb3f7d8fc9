"""Command lines thrown together: every one is judged, and what is corrected is well."""

import random

import pytest

from .linted import lint

FLAGS = [
    *("--gpus all", "--gpus 2", "--gpus device=0,1", "--runtime=nvidia", "--privileged"),
    *("--ipc=host", "--ipc none", "--shm-size=1g", "--shm-size $S", "--tmpfs /dev/shm:size=1g"),
    *("-it", "-itp 29500:29500", "-p 80:80", "--net host", "--network bridge", "-v $(pwd):/w"),
    *("-e CUDA_VISIBLE_DEVICES=0", "-e NCCL_P2P_DISABLE=1", "-e A=$B", "--env-file .env"),
    *("--ulimit stack=-1", "--ulimit nofile=10", "--ulimit memlock=65536", "--memory 1g"),
    *("--device /dev/infiniband", "--device=/dev/kfd", "--group-add render", "--pids-limit 10"),
    *("$FLAGS", '"${X[@]}"', "\\\n ", "\\  # why\n  ", "--sh", "--foo bar", "-Z"),
]
IMAGES = ["nvcr.io/nvidia/pytorch:25.01-py3", "rocm/pytorch", "$IMAGE", "image", ""]
COMMANDS = [
    *("torchrun --nproc-per-node=8 --nnodes=2 x.py", "torchrun --nproc-per-node=2 x.py"),
    *("python x.py", "bash", "", "nvidia-smi", "bash -c 'torchrun --nproc-per-node=4 x.py'"),
]


@pytest.mark.parametrize("seed", range(300))
def test_corrected_once_is_well(seed):
    chance = random.Random(seed)
    flags = chance.sample(FLAGS, chance.randrange(9))
    engine = chance.choice(["docker run", "podman run"])
    line = " ".join([engine, *flags, chance.choice(IMAGES), chance.choice(COMMANDS)])

    report, (judged,) = lint(line)
    left = {r.id for r in lint(judged.corrected)[0].results if r.status.value in ("warn", "fail")}

    assert not [result for result in report.results if result.status.value == "error"]
    assert left <= {"launch-flags"}, line  # an image that is missing, a value nobody can guess
