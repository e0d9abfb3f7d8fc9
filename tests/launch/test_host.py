"""Apptainer, systemd and the bare host."""

import shutil
import subprocess

import pytest

from gpudoctor.launch.settings import Capability, EnvSet, Group, ShmSize

from .examples import EVERY, GIB, HOSTILE, TOGETHER, spelled, words


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("shm", ["--bind", "/dev/shm", "IMAGE", "COMMAND"]),
        ("ipc host", ["--bind", "/dev/shm", "IMAGE", "COMMAND"]),
        ("gpus", ["--nv", "IMAGE", "COMMAND"]),
        ("amd gpus", ["--rocm", "IMAGE", "COMMAND"]),
        ("rdma", ["--bind", "/dev/infiniband", "IMAGE", "COMMAND"]),
        ("capability", ["--add-caps=CAP_SYS_NICE", "IMAGE", "COMMAND"]),
        ("env", ["IMAGE", "COMMAND"]),
        ("env unset", ["IMAGE", "env", "-u", "NCCL_P2P_DISABLE", "COMMAND"]),
        ("tmpfs", ["--scratch=/tmp", "IMAGE", "COMMAND"]),
        ("bind", ["--bind", "/srv/my data:/data", "IMAGE", "COMMAND"]),
        ("bind read-only", ["--bind", "/srv/data:/data:ro", "IMAGE", "COMMAND"]),
    ],
)
def test_apptainer(name, command):
    assert words(spelled("apptainer", EVERY[name]).lines) == ["apptainer", "exec", *command]


@pytest.mark.parametrize("name", ["pids", "memory", "cpus"])
def test_apptainer_has_the_limits_of_its_caller(name):
    found = spelled("apptainer", EVERY[name])

    assert not found.lines
    assert "the caller's" in found.text
    assert "set-property" in found.node_lines[0]


def test_apptainer_passes_any_value():
    lines = spelled("apptainer", EVERY["env, hostile"]).lines
    script = "\n".join([*lines[:-1], 'printf %s "$APPTAINERENV_TEXT"'])

    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)

    assert ended.stdout == HOSTILE


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("ipc host", ["PrivateIPC=no"]),
        ("memlock unlimited", ["LimitMEMLOCK=infinity"]),
        ("memlock", ["LimitMEMLOCK=32G"]),
        ("nofile", ["LimitNOFILE=131072"]),
        ("nofile unlimited", ["LimitNOFILE=1048576"]),
        ("nproc", ["LimitNPROC=4096"]),
        ("pids unlimited", ["TasksMax=infinity"]),
        ("memory", ["MemoryMax=64G"]),
        ("memory unlimited", ["MemoryMax=infinity"]),
        ("stack", ["LimitSTACK=64M:infinity"]),
        ("cpus", ["CPUQuota=800%"]),
        ("gpus", ["PrivateDevices=no", "DevicePolicy=auto"]),
        ("rdma", ["PrivateDevices=no", "DevicePolicy=auto"]),
        ("host network", ["PrivateNetwork=no"]),
        ("capability", ["AmbientCapabilities=CAP_SYS_NICE"]),
        ("group", ["SupplementaryGroups=109"]),
        ("env", ['Environment="NCCL_SOCKET_IFNAME=eth0"']),
        ("env unset", ["UnsetEnvironment=NCCL_P2P_DISABLE"]),
        ("tmpfs", ["TemporaryFileSystem=/tmp:exec,mode=1777,size=4g"]),
        ("bind read-only", ["BindReadOnlyPaths=/srv/data:/data"]),
    ],
)
def test_systemd(name, lines):
    assert spelled("systemd", EVERY[name]).lines == ("[Service]", *lines)


def test_systemd_devices_once():
    found = spelled("systemd", EVERY["gpus"], EVERY["rdma"], EVERY["amd gpus"], Group(44))

    assert found.lines == (
        "[Service]",
        "PrivateDevices=no",
        "DevicePolicy=auto",
        "SupplementaryGroups=44",
        "SupplementaryGroups=109",
    )


def test_systemd_reads_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "train.service"
    words = ["[Service]", "ExecStart=/bin/true", *spelled("systemd", *TOGETHER).lines[1:]]
    unit.write_text("\n".join([*words, ""]))

    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True)

    assert "train.service" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("memlock unlimited", ["ulimit -S -l unlimited"]),
        ("IPC_LOCK", ["ulimit -S -l unlimited"]),
        ("nofile", ["ulimit -S -n 131072"]),
        ("stack", ["ulimit -S -s 65536"]),
        ("env", ["export NCCL_SOCKET_IFNAME=eth0"]),
        ("env unset", ["unset NCCL_P2P_DISABLE"]),
    ],
)
def test_host_shell(name, lines):
    assert spelled("host", EVERY[name]).lines == tuple(lines)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("shm", "mount -o remount,rw,nosuid,nodev,size=8g /dev/shm"),
        ("shm", "'tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=8g 0 0' >> /etc/fstab"),
        ("memlock unlimited", "'* - memlock unlimited' 'root - memlock unlimited'"),
        ("nofile", "'* - nofile 131072' 'root - nofile 131072'"),
        ("pids unlimited", "TasksMax=infinity"),
        ("memory", "MemoryMax=64G"),
        ("cpus", "CPUQuota=800%"),
        ("all gpus", "nvidia-modprobe"),
        ("amd gpus", "usermod -aG 44,109 USER"),
        ("amd gpus, groups unknown", "usermod -aG render,video USER"),
        ("rdma", "modprobe -a ib_uverbs"),
        ("group", "usermod -aG 109 USER"),
        ("tmpfs", 'mount -o remount,rw,exec "$(findmnt -no TARGET -T /tmp)"'),
        ("tmpfs", "mount -o remount,size=4g /tmp"),
        ("plain tmpfs", "mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs '/my cache'"),
        ("plain tmpfs", r"tmpfs /my\040cache tmpfs nosuid,nodev,mode=1777 0 0"),
        ("bind read-only", "mount -t none -o bind,ro /srv/data /data"),
    ],
)
def test_host_node(name, line):
    assert line in "\n".join(spelled("host", EVERY[name]).node_lines)


def test_host_stack_needs_no_root():
    assert not spelled("host", EVERY["stack"]).node_lines


def test_host_limits_are_one_file_and_one_login():
    lines = spelled("host", *TOGETHER).node_lines

    assert sum("limits.d" in line for line in lines) == 1
    assert sum("log in again" in line for line in lines) == 1
    assert sum("usermod" in line for line in lines) == 1


def test_host_capability():
    said = words(spelled("host", Capability("SYS_NICE"), Capability("SYS_PTRACE")).lines)

    assert said == [
        *("sudo", "-E", "setpriv", "--reuid=1000", "--regid=1000", "--init-groups"),
        *("--inh-caps=+sys_nice,+sys_ptrace", "--ambient-caps=+sys_nice,+sys_ptrace", "COMMAND"),
    ]


def test_host_shell_does_what_it_says():
    lines = spelled("host", *(EVERY[name] for name in ("env, hostile", "env unset"))).lines
    script = "\n".join([*lines, 'printf "%s|%s" "$TEXT" "${NCCL_P2P_DISABLE-gone}"'])

    ended = subprocess.run(
        ["bash", "-ec", script], env={"NCCL_P2P_DISABLE": "1"}, capture_output=True, text=True
    )

    assert ended.stdout == f"{HOSTILE}|gone"


@pytest.mark.parametrize("name", ["memlock", "nofile", "nproc", "stack"])
def test_soft_limits_are_shell(name):
    """A lower limit can always be set, so that the line itself can be tried anywhere."""
    letter = {"memlock": "l", "nofile": "n", "nproc": "u", "stack": "s"}[name]
    kind = type(EVERY[name])
    (line,) = spelled("host", kind(64 << 10 if letter in "ls" else 64)).lines

    ended = subprocess.run(
        ["bash", "-ec", f"{line}\nulimit -S -{letter}"], capture_output=True, text=True
    )

    assert ended.stdout.strip() == "64", ended.stderr


def test_fstab_keeps_other_lines(tmp_path):
    fstab = tmp_path / "fstab"
    fstab.write_text("/dev/sda1 / ext4 defaults 0 1\ntmpfs /dev/shm tmpfs size=1g 0 0\n")
    lines = [
        line.replace("/etc/fstab", str(fstab))
        for line in spelled("host", ShmSize(8 * GIB)).node_lines
        if "fstab" in line
    ]

    subprocess.run(["bash", "-ec", "\n".join(lines)], check=True)

    assert fstab.read_text().splitlines() == [
        "/dev/sda1 / ext4 defaults 0 1",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=8g 0 0",
    ]


def test_systemd_quotes_values():
    assert spelled("systemd", EnvSet("A", 'a"b\\c%d')).lines[1] == r'Environment="A=a\"b\\c%%d"'
