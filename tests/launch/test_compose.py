"""A service of a compose file."""

import shutil
import subprocess

import pytest
import yaml

from gpudoctor.launch.settings import Capability, EnvSet, EnvUnset, GpuDevices, Group, RdmaDevices

from .examples import EVERY, TOGETHER, spelled


def service(*settings) -> dict:
    return yaml.safe_load("\n".join(spelled("compose", *settings).lines))["services"]["SERVICE"]


def nvidia(count):
    device = {"driver": "nvidia", "count": count, "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [device]}}}}


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("shm", {"shm_size": "8g"}),
        ("ipc host", {"ipc": "host"}),
        ("memlock unlimited", {"ulimits": {"memlock": -1}}),
        ("nofile", {"ulimits": {"nofile": 131072}}),
        ("nproc unlimited", {"ulimits": {"nproc": -1}}),
        ("stack", {"ulimits": {"stack": 67108864}}),
        ("pids unlimited", {"pids_limit": -1}),
        ("pids", {"pids_limit": 4096}),
        ("memory", {"mem_limit": "64g"}),
        ("memory unlimited", {"mem_limit": 0}),
        ("cpus", {"cpus": 8}),
        ("all gpus", nvidia("all")),
        ("gpus", nvidia(2)),
        ("rdma", {"devices": ["/dev/infiniband"]}),
        ("host network", {"network_mode": "host"}),
        ("capability", {"cap_add": ["SYS_NICE"]}),
        ("group", {"group_add": ["109"]}),
        ("env", {"environment": {"NCCL_SOCKET_IFNAME": "eth0"}}),
        ("env unset", {"command": "env -u NCCL_P2P_DISABLE COMMAND"}),
        ("tmpfs", {"tmpfs": ["/tmp:exec,mode=1777,size=4g"]}),
        (
            "bind read-only",
            {
                "volumes": [
                    {"type": "bind", "source": "/srv/data", "target": "/data", "read_only": True}
                ]
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_entries(name, entry):
    assert service(EVERY[name]) == entry


def test_amd_and_rdma_share_the_devices():
    found = service(GpuDevices("amd", groups=(44, 109)), RdmaDevices(), Group(109))

    assert found == {
        "devices": ["/dev/kfd", "/dev/dri", "/dev/infiniband"],
        "group_add": ["44", "109"],
        "security_opt": ["seccomp:unconfined"],
    }


def test_lists_grow():
    assert service(Capability("A"), Capability("B")) == {"cap_add": ["A", "B"]}
    assert service(EnvUnset("A"), EnvUnset("B")) == {"command": "env -u A -u B COMMAND"}


@pytest.mark.parametrize(
    "value", ["1", "true", "no", "", " ", "0x10", "1e3", "é", "a: b", "- x", "@", "\t\n", "8g"]
)
def test_values_stay_strings(value):
    assert service(EnvSet("NAME", value)) == {"environment": {"NAME": value}}


def test_dollars_are_not_compose_variables():
    assert service(EnvSet("NAME", "$A ${B}")) == {"environment": {"NAME": "$$A $${B}"}}


def test_the_real_parser_takes_everything(tmp_path):
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    found = {"image": "image"} | service(*TOGETHER)
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump({"services": {"service": found}}))

    ended = subprocess.run(
        ["docker-compose", "-f", str(file), "config"], capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    environment = yaml.safe_load(ended.stdout)["services"]["service"]["environment"]
    assert "$$HOME" in environment["TEXT"]
