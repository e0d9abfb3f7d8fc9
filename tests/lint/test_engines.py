"""What we say of docker's and podman's words, beside what docker and podman say themselves."""

import os
import re
import shutil
import subprocess

import pytest

from gpudoctor.data import table
from gpudoctor.lint.containers import read
from gpudoctor.lint.source import Source

# Nobody listens there: a command that is understood ends without a container.
NOWHERE = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock", "COLUMNS": "200"}
NOT_TAKEN = r"unknown flag|unknown shorthand flag|invalid argument|at least 1 argument"


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_flags_take_values_as_its_help_says(engine, require):
    require(shutil.which(engine), f"{engine} is not installed")
    ended = subprocess.run(
        [engine, "run", "--help"], capture_output=True, text=True, check=True, env=NOWHERE
    )
    row = table("run_flags")[engine]

    helped = re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)(?: (\S+))?(?:  |$)", ended.stdout, re.M)

    assert len(helped) > 80
    assert not [n for n, value in helped if value and n in row["switches"]]
    assert not [n for n, value in helped if not value and n in row["valued"]]


@pytest.mark.parametrize(
    "line",
    [
        "docker run --rm image",
        "docker run --sh image",
        "docker run -itZ image",
        "docker run -itd --gpus all --shm-size=8g -eA=1 -v/a:/b -p 80:80 image --sh",
        "docker run --shm-size '8 GB' image",
        "docker run --shm-size 8x image",
        "docker run --gpus none image",
        "docker run --gpus '\"device=0,1\"' image",
        "docker run --gpus capabilities=utility,count=2 image",
        "docker run --ulimit memlock=-1 --ulimit nofile=1024:2048 image",
        "docker run --ulimit memlock=64k image",
        "docker run --cpus=1.5 --pids-limit -1 -m 1g image",
        "docker run --cpus abc image",
        "docker run --pids-limit many image",
        "docker run --rm",
        "docker run --net=host --privileged=false image",
        "docker container create --name x image",
    ],
)
def test_what_docker_takes(line, require):
    require(shutil.which("docker"), "docker is not installed")
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=NOWHERE, timeout=60
    )

    (found,) = read(Source("run.sh", line))

    refuses = bool(found.launch.unknown or found.launch.refused or not found.launch.image)
    assert bool(re.search(NOT_TAKEN, ended.stderr)) is refuses, ended.stderr
