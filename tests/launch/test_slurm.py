"""Batch scripts of Slurm, plain and with pyxis."""

import pytest

from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Memlock,
    Memory,
    Mount,
    NoFile,
    ShmSize,
    Stack,
)

from .examples import EVERY, GIB, MIB, TOGETHER, spelled, words

BOTH = [
    ("memory", ("#SBATCH --mem=64G",)),
    ("memory unlimited", ("#SBATCH --mem=0",)),
    (
        "cpus",
        (
            "# With several tasks per node, divide --cpus-per-task by their number.",
            "#SBATCH --cpus-per-task=8",
            'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
        ),
    ),
    ("memlock unlimited", ("ulimit -S -l unlimited",)),
    ("memlock", ("ulimit -S -l 33554432",)),
    ("IPC_LOCK", ("ulimit -S -l unlimited",)),
    ("nofile", ("ulimit -S -n 131072",)),
    ("nproc", ("ulimit -S -u 4096",)),
    ("stack", ("ulimit -S -s 65536",)),
    ("amd gpus", ("#SBATCH --exclusive",)),
]


@pytest.mark.parametrize("launcher", ["slurm", "pyxis"])
@pytest.mark.parametrize(("name", "lines"), BOTH, ids=lambda v: v if isinstance(v, str) else "")
def test_both(launcher, name, lines):
    assert spelled(launcher, EVERY[name]).lines == lines


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("gpus", ("#SBATCH --gres=gpu:2",)),
        ("all gpus", ("#SBATCH --exclusive",)),
        ("env", ("export NCCL_SOCKET_IFNAME=eth0",)),
        ("env unset", ("unset NCCL_P2P_DISABLE",)),
    ],
)
def test_slurm(name, lines):
    assert spelled("slurm", EVERY[name]).lines == lines


SRUN = ["srun", "--container-image=IMAGE"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("env", [*SRUN, "--container-env=NCCL_SOCKET_IFNAME", "COMMAND"]),
        ("env unset", [*SRUN, "env", "-u", "NCCL_P2P_DISABLE", "COMMAND"]),
        ("tmpfs", [*SRUN, "--container-mounts=tmpfs:/tmp:exec+mode=1777+size=4g", "COMMAND"]),
        ("bind", [*SRUN, "--container-mounts=/srv/my data:/data", "COMMAND"]),
        ("bind read-only", [*SRUN, "--container-mounts=/srv/data:/data:ro", "COMMAND"]),
    ],
)
def test_pyxis_command(name, command):
    assert words(spelled("pyxis", EVERY[name]).lines) == command


def test_pyxis_needs_the_variables_of_the_hooks():
    assert spelled("pyxis", EVERY["gpus"], EVERY["rdma"]).lines == (
        "#SBATCH --gres=gpu:2",
        "export NVIDIA_VISIBLE_DEVICES=all",
        "export NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "export MELLANOX_VISIBLE_DEVICES=all",
    )


def test_pyxis_mounts_stand_in_one_option():
    said = words(spelled("pyxis", Mount("/a", "/x"), Mount("/b", "/y"), EnvSet("C", "1")).lines)

    assert said == [*SRUN, "--container-mounts=/x:/a,/y:/b", "--container-env=C", "COMMAND"]


def test_options_come_before_commands():
    """sbatch stops reading options at the first command."""
    lines = spelled("slurm", *TOGETHER).lines
    commands = [n for n, line in enumerate(lines) if not line.startswith("#")]
    options = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]

    assert max(options) < min(commands)


@pytest.mark.parametrize("launcher", ["slurm", "pyxis"])
def test_slurmd_hands_its_limits_on(launcher):
    lines = spelled(launcher, Memlock(), NoFile(131072), Stack(64 * MIB)).node_lines

    assert lines == (
        "mkdir -p /etc/systemd/system/slurmd.service.d",
        "printf '%s\\n' '[Service]' LimitMEMLOCK=infinity LimitNOFILE=131072 \\",
        "  > /etc/systemd/system/slurmd.service.d/gpudoctor.conf",
        "systemctl daemon-reload && systemctl restart slurmd",
        "# In slurm.conf on all nodes, so that a login's limits do not replace these:",
        "# PropagateResourceLimitsExcept=MEMLOCK,NOFILE",
    )


@pytest.mark.parametrize("launcher", ["slurm", "pyxis"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("shm", "mount -o remount,rw,nosuid,nodev,size=8g /dev/shm"),
        ("pids unlimited", "TasksMax=infinity"),
        ("group", "usermod -aG 109 USER"),
        ("amd gpus", "usermod -aG 44,109 USER"),
    ],
)
def test_node(launcher, name, line):
    assert line in "\n".join(spelled(launcher, EVERY[name]).node_lines)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ipc host", "uses the host's /dev/shm"),
        ("host network", "uses the host's network"),
        ("capability", "cannot be given CAP_SYS_NICE"),
    ],
)
def test_what_needs_nothing_is_said(name, says):
    words = spelled("slurm", EVERY[name])

    assert says in words.text
    assert not words.lines


def test_a_limit_and_the_capability_that_lifts_it_are_one_thing():
    found = spelled("slurm", Memlock(GIB), Capability("IPC_LOCK"))

    assert found.lines == ("ulimit -S -l unlimited",)


@pytest.mark.parametrize(
    ("count", "text"),
    [(64 * GIB, "64G"), (2048 * GIB, "2T"), (1536 * MIB, "1536M"), (GIB + 1, "1048577K")],
)
def test_memory_is_never_less(count, text):
    assert spelled("slurm", Memory(count)).lines == (f"#SBATCH --mem={text}",)


def test_merged_script():
    found = spelled(
        "slurm",
        ShmSize(GIB),
        GpuDevices(count=4),
        GpuDevices(count=8),
        Cpus(16),
        EnvUnset("A"),
        EnvUnset("B"),
    )

    assert found.lines[1:] == (
        "#SBATCH --gres=gpu:8",
        "#SBATCH --cpus-per-task=16",
        'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
        "unset A",
        "unset B",
    )
