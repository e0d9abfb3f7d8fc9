"""docker run and podman run."""

import shutil
import subprocess

import pytest

from gpudoctor.launch.settings import (
    Capability,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    Memlock,
    Memory,
    Mount,
    NoFile,
    Pids,
    RdmaDevices,
    ShmSize,
)

from .examples import EVERY, GIB, HOSTILE, MIB, TOGETHER, spelled, words

BOTH = [
    ("shm", ["--shm-size=8g"]),
    ("ipc host", ["--ipc=host"]),
    ("memlock unlimited", ["--ulimit", "memlock=-1:-1"]),
    ("memlock", ["--ulimit", "memlock=34359738368:34359738368"]),
    ("nofile", ["--ulimit", "nofile=131072:131072"]),
    ("nofile unlimited", ["--ulimit", "nofile=1048576:1048576"]),
    ("nproc unlimited", ["--ulimit", "nproc=-1:-1"]),
    ("stack", ["--ulimit", "stack=67108864:67108864"]),
    ("pids unlimited", ["--pids-limit=-1"]),
    ("pids", ["--pids-limit=4096"]),
    ("memory", ["--memory=64g"]),
    ("memory unlimited", ["--memory=0"]),
    ("cpus", ["--cpus=8"]),
    ("rdma", ["--device", "/dev/infiniband"]),
    ("host network", ["--network=host"]),
    ("capability", ["--cap-add=SYS_NICE"]),
    ("group", ["--group-add", "109"]),
    ("env", ["--env", "NCCL_SOCKET_IFNAME=eth0"]),
    ("env, hostile", ["--env", f"TEXT={HOSTILE}"]),
    ("tmpfs", ["--tmpfs", "/tmp:exec,mode=1777,size=4g"]),
    ("plain tmpfs", ["--tmpfs", "/my cache:mode=1777"]),
    ("bind", ["--volume", "/srv/my data:/data"]),
    ("bind read-only", ["--volume", "/srv/data:/data:ro"]),
]
AMD = ["--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", "44"]
UNCONFINED = ["--security-opt", "seccomp=unconfined"]
CDI = ["--device", "nvidia.com/gpu=all", "--security-opt", "label=disable"]


@pytest.mark.parametrize("program", ["docker", "podman"])
@pytest.mark.parametrize(
    ("name", "flags"),
    [*BOTH, ("amd gpus", [*AMD, "--group-add", "109", *UNCONFINED])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flags(program, name, flags):
    said = words(spelled(program, EVERY[name]).lines)

    assert said == [program, "run", *flags, "IMAGE", "COMMAND"]


@pytest.mark.parametrize(
    ("program", "setting", "flags"),
    [
        ("docker", GpuDevices(), ["--gpus", "all"]),
        ("docker", GpuDevices(count=2), ["--gpus", "2"]),
        ("podman", GpuDevices(), CDI),
        ("podman", GpuDevices(count=1), ["--device", "nvidia.com/gpu=0", *CDI[2:]]),
    ],
)
def test_nvidia_gpus(program, setting, flags):
    said = words(spelled(program, setting).lines)

    assert said == [program, "run", *flags, "IMAGE", "COMMAND"]


def test_podman_needs_a_description_of_the_gpus():
    assert "nvidia-ctk cdi generate" in spelled("podman", GpuDevices()).node_lines[0]
    assert not spelled("podman", GpuDevices("amd")).node_lines


def test_unknown_groups_of_amd_are_asked_of_the_host():
    said = words(spelled("docker", GpuDevices("amd")).lines)

    assert said[2:8] == AMD


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_unset(program):
    said = words(spelled(program, EnvUnset("A"), EnvUnset("B")).lines)

    assert said == [program, "run", "IMAGE", "env", "-u", "A", "-u", "B", "COMMAND"]


@pytest.mark.parametrize("program", ["docker", "podman"])
@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        pytest.param([ShmSize(GIB), ShmSize(2 * GIB)], ["--shm-size=2g"], id="larger"),
        pytest.param([Memlock(MIB), Memlock()], ["--ulimit", "memlock=-1:-1"], id="unlimited"),
        pytest.param([Pids(100), Pids()], ["--pids-limit=-1"], id="no limit"),
        pytest.param([Memory(), Memory(GIB)], ["--memory=0"], id="no memory limit"),
        pytest.param([NoFile(2048), NoFile(1024)], ["--ulimit", "nofile=2048:2048"], id="files"),
        pytest.param([EnvUnset("A"), EnvSet("A", "1")], ["--env", "A=1"], id="set after unset"),
        pytest.param([EnvSet("A", "1"), EnvUnset("A")], ["--env", "A=1"], id="unset after set"),
        pytest.param([Capability("X"), Capability("X")], ["--cap-add=X"], id="same capability"),
        pytest.param(
            [Group(44), GpuDevices("amd", groups=(44,))],
            ["--group-add", "44", *AMD[:4], *UNCONFINED],
            id="a group twice",
        ),
        pytest.param(
            [Mount("/dev/shm", tmpfs_bytes=GIB), ShmSize(MIB)], ["--shm-size=1g"], id="shm as tmpfs"
        ),
    ],
)
def test_merged(program, settings, flags):
    said = words(spelled(program, *settings).lines)

    assert said == [program, "run", *flags, "IMAGE", "COMMAND"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8 * GIB, "8g"),
        (1024 * GIB, "1024g"),
        (1536 * MIB, "1536m"),
        (GIB + 4096, "1048580k"),
        (GIB + 1, "1073741825"),
    ],
)
def test_sizes_are_exact(count, text):
    assert f"--shm-size={text}" in words(spelled("docker", ShmSize(count)).lines)


def test_long_commands_are_wrapped():
    lines = spelled("docker", ShmSize(8 * GIB), Memlock(), Pids(), NoFile(131072)).lines

    assert lines == (
        "docker run --shm-size=8g --ulimit memlock=-1:-1 --pids-limit=-1 \\",
        "  --ulimit nofile=131072:131072 IMAGE COMMAND",
    )


def test_the_real_parser_takes_the_flags():
    """Docker's client refuses a wrong flag before it looks for its daemon."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    # Device flags are read only once the daemon's operating system is known.
    settings = [s for s in TOGETHER if not isinstance(s, RdmaDevices | GpuDevices)]
    said = words(spelled("docker", *settings, GpuDevices()).lines)
    flags = said[2 : said.index("IMAGE")]
    command = ["docker", "-H", "unix:///nonexistent", "create", *flags, "image", "true"]

    ended = subprocess.run(command, capture_output=True, text=True)

    assert "unix:///nonexistent" in ended.stderr
