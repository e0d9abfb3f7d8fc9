"""A pod of Kubernetes."""

import shutil
import subprocess

import pytest
import yaml

from gpudoctor.launch.settings import (
    Capability,
    Cpus,
    EnvSet,
    EnvUnset,
    GpuDevices,
    Group,
    Memlock,
    Memory,
    Mount,
    NoFile,
    Pids,
    ShmSize,
    Stack,
)

from .examples import EVERY, GIB, MIB, TOGETHER, spelled


def spec(*settings) -> dict:
    return yaml.safe_load("\n".join(spelled("kubernetes", *settings).lines))["spec"]


def container(entry) -> dict:
    return {"containers": [{"name": "CONTAINER", **entry}]}


def resources(**amounts) -> dict:
    return container({"resources": {"limits": amounts, "requests": amounts}})


def limits(**amounts) -> dict:
    return container({"resources": {"limits": amounts}})


def memory_volume(name, path, **size) -> dict:
    mounts = container({"volumeMounts": [{"name": name, "mountPath": path}]})
    return {**mounts, "volumes": [{"name": name, "emptyDir": {"medium": "Memory", **size}}]}


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("shm", memory_volume("dshm", "/dev/shm", sizeLimit="8Gi")),
        ("ipc host", {"hostIPC": True}),
        ("memory", resources(memory="64Gi")),
        ("cpus", resources(cpu=8)),
        ("all gpus", limits(**{"nvidia.com/gpu": "GPUS"})),
        ("gpus", limits(**{"nvidia.com/gpu": 2})),
        (
            "amd gpus",
            {
                "securityContext": {"supplementalGroups": [44, 109]},
                **limits(**{"amd.com/gpu": "GPUS"}),
            },
        ),
        ("rdma", limits(**{"rdma/RESOURCE": 1})),
        ("host network", {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}),
        ("capability", container({"securityContext": {"capabilities": {"add": ["SYS_NICE"]}}})),
        ("group", {"securityContext": {"supplementalGroups": [109]}}),
        ("env", container({"env": [{"name": "NCCL_SOCKET_IFNAME", "value": "eth0"}]})),
        ("env unset", container({"command": ["env", "-u", "NCCL_P2P_DISABLE", "COMMAND"]})),
        ("tmpfs", memory_volume("tmp", "/tmp", sizeLimit="4Gi")),
        ("plain tmpfs", memory_volume("my-cache", "/my cache")),
        (
            "bind read-only",
            {
                **container(
                    {"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}]}
                ),
                "volumes": [
                    {"name": "data", "hostPath": {"path": "/srv/data", "type": "Directory"}}
                ],
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_manifest(name, entry):
    assert spec(EVERY[name]) == entry


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("memlock unlimited", "LimitMEMLOCK=infinity"),
        ("memlock", "LimitMEMLOCK=32G"),
        ("nofile", "LimitNOFILE=131072"),
        ("nproc unlimited", "LimitNPROC=infinity"),
        ("pids unlimited", "podPidsLimit: -1"),
        ("pids", "podPidsLimit: 4096"),
    ],
)
def test_what_only_the_node_can_do(name, line):
    words = spelled("kubernetes", EVERY[name])

    assert line in "\n".join(words.node_lines)
    assert "restart" in words.node_lines[-1]


def test_memlock_has_a_way_without_the_node():
    assert spec(Memlock(), Capability("IPC_LOCK")) == container(
        {"securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}}
    )


def test_one_of_each_list():
    found = spec(
        ShmSize(8 * GIB), Mount("/a-b"), Mount("/a/b"), Memory(GIB), Cpus(2), GpuDevices(count=1)
    )

    assert [volume["name"] for volume in found["volumes"]] == ["dshm", "a-b", "a-b-2"]
    assert list(found["containers"][0]["resources"]) == ["limits", "requests"]
    assert found["containers"][0]["resources"]["requests"] == {"memory": "1Gi", "cpu": 2}


def test_groups_are_numbers_and_each_once():
    found = spec(Group(44), GpuDevices("amd", groups=(44, 109)))

    assert found["securityContext"] == {"supplementalGroups": [44, 109]}


def test_one_drop_in_for_all_limits():
    lines = spelled("kubernetes", Memlock(), NoFile(4096), Pids()).node_lines

    assert sum("restart containerd" in line for line in lines) == 1
    assert "'[Service]' LimitMEMLOCK=infinity LimitNOFILE=4096" in "\n".join(lines)


def test_shared_memory_is_said_to_be_charged():
    assert "memory limit" in spelled("kubernetes", ShmSize(GIB)).lines[0]


@pytest.mark.parametrize(
    ("count", "text"),
    [(8 * GIB, "8Gi"), (1536 * MIB, "1536Mi"), (GIB + 1024, "1048577Ki"), (GIB + 1, GIB + 1)],
)
def test_sizes_are_exact(count, text):
    (volume,) = spec(ShmSize(count))["volumes"]

    assert volume["emptyDir"]["sizeLimit"] == text


@pytest.mark.parametrize("value", ["1", "true", "null", "", "é\n", "$HOME", "a: b", "2024-01-01"])
def test_values_stay_strings(value):
    (variable,) = spec(EnvSet("NAME", value))["containers"][0]["env"]

    assert variable == {"name": "NAME", "value": value}


def test_references_are_escaped():
    assert spec(EnvSet("A", "$(B)"))["containers"][0]["env"] == [{"name": "A", "value": "$$(B)"}]


def test_the_command_does_what_it_says():
    command = spec(Stack(4 * MIB), EnvUnset("LEFT"), EnvUnset("OVER"))["containers"][0]["command"]
    assert command.pop() == "COMMAND"

    ended = subprocess.run(
        [*command, "sh", "-c", "ulimit -s; echo ${LEFT-gone} ${OVER-gone} $KEPT"],
        env={"PATH": "/usr/bin:/bin", "LEFT": "1", "OVER": "2", "KEPT": "3"},
        capture_output=True,
        text=True,
    )

    assert ended.stdout.split() == ["4096", "gone", "gone", "3"]


def test_a_pod_takes_the_patch(tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train"},
        "spec": {
            "containers": [
                {
                    "name": "CONTAINER",
                    "image": "train",
                    "volumeMounts": [{"name": "own", "mountPath": "/own"}],
                }
            ],
            "volumes": [{"name": "own", "emptyDir": {}}],
        },
    }
    patch = "\n".join(spelled("kubernetes", *TOGETHER).lines)
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    (tmp_path / "patch.yaml").write_text(patch)

    command = ["kubectl", "patch", "--local", "-f", "pod.yaml", "--patch-file", "patch.yaml"]
    ended = subprocess.run([*command, "-o", "yaml"], cwd=tmp_path, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    found = yaml.safe_load(ended.stdout)["spec"]
    asked = yaml.safe_load(patch)["spec"]
    names = {volume["name"] for volume in found["volumes"]}
    assert names == {"own"} | {volume["name"] for volume in asked["volumes"]}
    (container,) = found["containers"]
    assert container["image"] == "train"
    assert container["resources"] == asked["containers"][0]["resources"]
