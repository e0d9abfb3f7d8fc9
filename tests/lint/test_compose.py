"""Compose files: what each service says, and the file with corrections."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from gpudoctor.facts.launch import Launch, LaunchMount, Ulimit
from gpudoctor.launch import merge
from gpudoctor.launch.settings import (
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
    ShmSize,
)
from gpudoctor.lint.compose import read
from gpudoctor.lint.source import BadLaunch, Source, edited
from tests.launch.examples import TOGETHER

MIB, GIB = 1 << 20, 1 << 30


def service(text: str) -> Launch:
    """A service of these lines, indented as they are."""
    (found,) = read(Source("compose.yaml", f"services:\n  train:\n    image: x\n{text}"))
    return found.launch


def said(launch: Launch, *but: str) -> dict[str, Any]:
    plain = Launch(form="compose service", launcher="compose", name="train", image="x")
    fields = [name for name in Launch.__struct_fields__ if name not in ("lines", *but)]
    return {n: getattr(launch, n) for n in fields if getattr(launch, n) != getattr(plain, n)}


RESERVED = "    deploy:\n      resources:\n        reservations:\n          devices:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("    shm_size: 8gb\n", {"shm_bytes": 8 * GIB}, id="shm"),
        pytest.param("    shm_size: 67108864\n", {"shm_bytes": 64 * MIB}, id="shm in bytes"),
        pytest.param("    shm_size: ${S:-1g}\n", {"shm_bytes": GIB}, id="a default"),
        pytest.param(
            "    shm_size: ${S}\n",
            {"open_fields": ("shm_bytes",), "open_words": ("${S}",)},
            id="a variable",
        ),
        pytest.param("    build: {context: ., shm_size: 8g}\n", {}, id="shm of the build"),
        pytest.param("    ipc: host\n", {"ipc": "host"}, id="ipc"),
        pytest.param("    network_mode: host\n", {"network": "host"}, id="network"),
        pytest.param("    networks: [ranks]\n", {"network": "ranks"}, id="networks"),
        pytest.param(
            "    ports:\n      - '29500:29500'\n      - {target: 80, published: 8080}\n",
            {"ports": ("29500:29500", "8080:80")},
            id="ports",
        ),
        pytest.param(
            f"{RESERVED}            - {{driver: nvidia, count: 4, capabilities: [gpu]}}\n",
            {"gpus": 4, "gpu_vendor": "nvidia"},
            id="GPUs by count",
        ),
        pytest.param(
            f"{RESERVED}            - {{capabilities: [gpu]}}\n",
            {"gpus": -1, "gpu_vendor": "nvidia"},
            id="no count is all GPUs",
        ),
        pytest.param(
            f"{RESERVED}            - {{device_ids: ['0', '3'], capabilities: [gpu]}}\n",
            {"gpus": 2, "gpu_vendor": "nvidia"},
            id="GPUs by number",
        ),
        pytest.param(
            f"{RESERVED}            - {{device_ids: ['0'], count: 1, capabilities: [gpu]}}\n",
            {
                "refused": {"device_ids": "`count` and `device_ids` exclude each other"},
                "open_fields": ("gpus",),
            },
            id="GPUs by both",
        ),
        pytest.param(
            f"{RESERVED}            - {{driver: nvidia, count: 1}}\n",
            {
                "refused": {"devices without capabilities": "a device needs `capabilities: [gpu]`"},
                "open_fields": ("gpus",),
            },
            id="GPUs without capabilities",
        ),
        pytest.param("    gpus: all\n", {"gpus": -1, "gpu_vendor": "nvidia"}, id="gpus: all"),
        pytest.param(
            "    runtime: nvidia\n    environment: {NVIDIA_VISIBLE_DEVICES: '0,1'}\n",
            {
                "gpus": 2,
                "gpu_vendor": "nvidia",
                "environment": {"NVIDIA_VISIBLE_DEVICES": "0,1"},
            },
            id="GPUs by the runtime",
        ),
        pytest.param(
            "    runtime: nvidia\n", {"open_fields": ("gpus",)}, id="the image says which GPUs"
        ),
        pytest.param(
            "    devices: [/dev/kfd, '/dev/dri:/dev/dri']\n    group_add: [44, video]\n",
            {
                "devices": ("/dev/kfd", "/dev/dri"),
                "gpu_vendor": "amd",
                "groups": ("44", "video"),
            },
            id="AMD",
        ),
        pytest.param(
            "    devices: ['nvidia.com/gpu=all']\n",
            {"devices": ("nvidia.com/gpu=all",), "gpus": -1, "gpu_vendor": "nvidia"},
            id="CDI",
        ),
        pytest.param(
            "    ulimits:\n      memlock: -1\n      nofile: {soft: 1024, hard: 4096}\n",
            {"ulimits": {"memlock": Ulimit(None, None), "nofile": Ulimit(1024, 4096)}},
            id="ulimits",
        ),
        pytest.param(
            "    mem_limit: 32g\n    cpus: '4.5'\n    pids_limit: -1\n",
            {"memory_bytes": 32 * GIB, "cpus": 4.5, "pids": -1},
            id="limits",
        ),
        pytest.param(
            "    deploy: {resources: {limits: {memory: 1g, cpus: '2', pids: 99}}}\n",
            {"memory_bytes": GIB, "cpus": 2.0, "pids": 99},
            id="limits of deploy",
        ),
        pytest.param(
            "    environment: [A=1, B=$X, C]\n",
            {
                "environment": {"A": "1"},
                "open_fields": ("environment.B", "environment.C"),
                "open_words": ("$X", "$C"),
            },
            id="environment as a list",
        ),
        pytest.param(
            "    environment: {A: 1, B: '$$x', C: }\n",
            {
                "environment": {"A": "1", "B": "$x"},
                "open_fields": ("environment.C",),
                "open_words": ("$C",),
            },
            id="environment as a mapping",
        ),
        pytest.param(
            "    env_file: .env\n",
            {"open_fields": ("environment.*",), "open_words": ("env_file",)},
            id="environment from a file",
        ),
        pytest.param(
            "    volumes:\n      - ./d:/d:ro\n"
            "      - {type: tmpfs, target: /t, tmpfs: {size: 99}}\n"
            "    tmpfs: /tmp:size=1g\n",
            {
                "mounts": (
                    LaunchMount(target="/tmp", tmpfs=True, tmpfs_bytes=GIB),
                    LaunchMount(target="/d", source="./d", read_only=True),
                    LaunchMount(target="/t", tmpfs=True, tmpfs_bytes=99),
                )
            },
            id="mounts",
        ),
        pytest.param(
            "    command: torchrun --nproc-per-node=8 --nnodes 2 'my train.py'\n",
            {
                "command": ("torchrun", "--nproc-per-node=8", "--nnodes", "2", "my train.py"),
                "ranks": 8,
                "nodes": 2,
                "starter": "torchrun",
            },
            id="a command",
        ),
        pytest.param(
            "    cap_add: [CAP_IPC_LOCK]\n    security_opt: ['seccomp:unconfined']\n"
            "    privileged: true\n    user: '1000'\n",
            {
                "capabilities": ("IPC_LOCK",),
                "security": ("seccomp=unconfined",),
                "privileged": True,
                "user": "1000",
            },
            id="rights",
        ),
        pytest.param(
            "    shm-size: 1g\n    x-own: 1\n",
            {"unknown": ("shm-size",), "shm_bytes": 1 << 30},
            id="a slip",
        ),
        pytest.param(
            "    shm_size: 8 gigs\n",
            {
                "refused": {"shm_size: 8 gigs": "this value is not understood"},
                "open_fields": ("shm_bytes",),
            },
            id="no size",
        ),
        pytest.param(
            "    network_mode: host\n    networks: [a]\n",
            {
                "network": "a",
                "refused": {"networks": "`network_mode` and `networks` exclude each other"},
            },
            id="two networks",
        ),
    ],
)
def test_service(text, expected):
    assert said(service(text)) == expected


def test_merged_and_extended_services():
    text = """
x-gpu: &gpu
  ulimits: {memlock: -1}
  environment: {A: one}
services:
  base: {image: cuda, shm_size: 1g, environment: {A: base, B: two}}
  train:
    <<: *gpu
    extends: base
  other: {extends: {service: base}, shm_size: 2g}
  far: {extends: {service: base, file: base.yaml}, ipc: host}
"""
    base, train, other, far = (found.launch for found in read(Source("c.yaml", text)))

    assert (base.name, base.shm_bytes) == ("base", GIB)
    assert (train.shm_bytes, train.ulimits) == (GIB, {"memlock": Ulimit(None, None)})
    assert train.environment == {"A": "one", "B": "two"}
    assert (other.shm_bytes, other.image) == (2 * GIB, "cuda")
    assert far.knows("ipc")
    assert not far.knows("shm_bytes")


def test_lines():
    launch = service("    shm_size: 1g\n    ulimits:\n      memlock: -1\n    shm: 1\n")

    assert launch.lines == {
        "image": 3,
        "shm_bytes": 4,
        "ulimits.memlock": 6,
        "unknown.shm": 7,
        "unknown": 7,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\n", "no `services:`"),
        ("- services\n", "no `services:`"),
        ("", "no `services:`"),
        ("services: [\n", "line 2: not YAML"),
    ],
)
def test_broken_files(text, says):
    with pytest.raises(BadLaunch, match=says):
        read(Source("compose.yaml", text))


@pytest.mark.parametrize("text", ["services:\n", "services: {}\n", "services: {a: }\n"])
def test_no_services(text):
    assert read(Source("compose.yaml", text)) == []


@pytest.mark.parametrize(
    ("text", "setting", "expected"),
    [
        pytest.param("    shm_size: 64m # s\n", ShmSize(GIB), "    shm_size: 1g # s\n", id="shm"),
        pytest.param("    shm_size: 1g\n", IpcHost(), "    ipc: host\n", id="host's IPC"),
        pytest.param(
            "    networks: [a]\n    ports: ['1:1']\n",
            HostNetwork(),
            "    network_mode: host\n",
            id="host's network",
        ),
        pytest.param(
            "    ulimits:\n      memlock: {soft: 1, hard: 2}\n",
            Memlock(),
            "    ulimits:\n      memlock: -1\n",
            id="ulimit",
        ),
        pytest.param(
            "    ulimits: {memlock: -1}\n",
            NoFile(9),
            '    ulimits: {memlock: -1, "nofile": 9}\n',
            id="another ulimit",
        ),
        pytest.param(
            "    deploy: {resources: {limits: {memory: 1g}}}\n",
            Memory(2 * GIB),
            "    deploy: {resources: {limits: {memory: 2g}}}\n",
            id="memory where it is said",
        ),
        pytest.param("    pids_limit: 9\n", Pids(), "    pids_limit: -1\n", id="pids"),
        pytest.param(
            f"{RESERVED}            - count: 1  # one\n              capabilities: [gpu]\n",
            GpuDevices(count=8),
            f"{RESERVED}            - count: 8  # one\n              capabilities: [gpu]\n",
            id="more GPUs",
        ),
        pytest.param(
            f"{RESERVED}            - device_ids: ['0']\n              capabilities: [gpu]\n",
            GpuDevices(count=2),
            f"{RESERVED}            - capabilities: [gpu]\n              count: 2\n",
            id="GPUs by number, then by count",
        ),
        pytest.param("    gpus: all\n", GpuDevices(), "    gpus: all\n", id="all GPUs already"),
        pytest.param(
            "    environment: [A=1, B=2]\n",
            EnvSet("B", "3"),
            '    environment: [A=1, "B=3"]\n',
            id="a variable in a list",
        ),
        pytest.param(
            "    environment:\n      A: 1\n      B: 2\n",
            EnvUnset("A"),
            "    environment:\n      B: 2\n",
            id="a variable less",
        ),
        pytest.param(
            "    environment:\n      - A=1\n    tty: true\n",
            EnvUnset("A"),
            "    tty: true\n",
            id="the only variable",
        ),
        pytest.param(
            "    command: python $$A train.py\n",
            EnvUnset("A"),
            '    command: "env -u A python $$A train.py"\n',
            id="a variable of the image",
        ),
        pytest.param(
            "    command:\n      - python\n      - train.py\n",
            EnvUnset("A"),
            '    command:\n      - env\n      - "-u"\n      - A\n'
            "      - python\n      - train.py\n",
            id="a variable of the image, with a command as a list",
        ),
        pytest.param(
            "    volumes: ['./d:/data']\n",
            Mount("/data", "/srv"),
            '    volumes: [{"type": "bind", "source": "/srv", "target": "/data"}]\n',
            id="another mount",
        ),
        pytest.param(
            "    tmpfs: ['/tmp:noexec']\n",
            Mount("/tmp", executable=True),
            '    tmpfs: ["/tmp:exec,mode=1777"]\n',
            id="another tmpfs",
        ),
        pytest.param(
            "    shm-size: 1g\n",
            Drop("unknown", "shm-size"),
            "    shm_size: 1g\n",
            id="a slip",
        ),
        pytest.param("    nonsense: 1g\n", Drop("unknown", "nonsense"), "", id="who knows what"),
        pytest.param(
            "    ports: ['1:1', '2:2']\n", Drop("ports", "1:1"), "    ports: ['2:2']\n", id="a port"
        ),
        pytest.param("    ipc: host\n    shm_size: 1g\n", Drop("shm_bytes"), "    ipc: host\n"),
    ],
)
def test_edits(text, setting, expected):
    head = "services:\n  train:\n    image: x\n"
    source = Source("compose.yaml", head + text)
    (found,) = read(source)

    corrected = edited(source, found.edits([setting]))

    assert corrected == head + expected
    assert yaml.safe_load(corrected)


FULL = """\
# Trains.
services:
  train:
    image: nvcr.io/nvidia/pytorch:25.01-py3  # the tag is pinned
    command: ["torchrun", "train.py"]
    environment:
      - NCCL_DEBUG=INFO
    volumes:
      - data:/data
volumes:
  data: {}
"""


def test_one_variable_for_another():
    source = Source("c.yaml", "services: {a: {environment: {A: 1, B: 2}}}\n")
    (found,) = read(source)

    edits = found.edits([EnvUnset("A"), EnvUnset("B"), EnvSet("C", "3")])

    assert edited(source, edits) == 'services: {a: {environment: {"C": "3"}}}\n'


def test_groups_of_the_host_are_asked_for():
    source = Source("c.yaml", "services:\n  a:\n    image: x\n    group_add: [render, audio]\n")
    (found,) = read(source)

    corrected = edited(source, found.edits([Drop("groups", "render"), GpuDevices("amd")]))

    groups = yaml.safe_load(corrected)["services"]["a"]["group_add"]
    assert groups == [
        "audio",
        "${KFD_GID:?stat -c %g /dev/kfd}",
        "${RENDER_GID:?stat -c %g /dev/dri/renderD128}",
    ]
    (again,) = read(Source("c.yaml", corrected))
    assert again.launch.groups == ("audio",)
    assert not again.launch.knows("groups")


def test_services_that_share_a_part():
    text = "x: &x {ulimits: {memlock: 9}}\nservices: {a: {<<: *x}, b: {<<: *x}}\n"
    source = Source("c.yaml", text)

    edits = [edit for found in read(source) for edit in found.edits([NoFile(8), Memlock()])]

    assert edited(source, edits) == text.replace("9", '-1, "nofile": 8')


def test_every_setting_is_said_afterwards():
    source = Source("compose.yaml", FULL)
    (found,) = read(source)

    corrected = edited(source, found.edits(merge(TOGETHER)))

    again = Source("compose.yaml", corrected)
    (launch,) = (found.launch for found in read(again))
    assert (launch.shm_bytes, launch.network, launch.gpus) == (8 * GIB, "host", -1)
    assert launch.ulimits["memlock"] == Ulimit(None, None)
    assert "# Trains." in corrected
    assert "# the tag is pinned" in corrected
    assert edited(again, read(again)[0].edits([ShmSize(8 * GIB), HostNetwork()])) == corrected


def test_the_real_tool_takes_what_is_corrected(tmp_path):
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    source = Source("compose.yaml", FULL)
    (found,) = read(source)
    file = tmp_path / "compose.yaml"
    file.write_text(edited(source, found.edits(merge(TOGETHER))))

    ended = subprocess.run(
        ["docker-compose", "-f", str(file), "config"], capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    config = yaml.safe_load(ended.stdout)["services"]["train"]
    assert config["shm_size"] in ("8g", "8589934592", 8 * GIB)
