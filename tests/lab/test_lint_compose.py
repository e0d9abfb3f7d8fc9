"""What `lint` predicts of a compose service, and what is found in it when it runs."""

import json
import shutil
import subprocess

import pytest
import yaml

from gpudoctor.launch import merge
from gpudoctor.launch.settings import EnvSet, EnvUnset, NoFile, Pids, ShmSize, Stack
from gpudoctor.lint.compose import read
from gpudoctor.lint.predict import predict
from gpudoctor.lint.source import Source, edited
from gpudoctor.snapshot import Absent

from .conftest import BASE, INSIDE, python_of

MIB = 1 << 20
FACTS = {
    "shm": ("exists", "total_bytes", "filesystem"),
    "cgroup": ("memory_limit_bytes", "pids_limit", "cpu_quota"),
    "container": ("runtime", "ipc_private"),
    "limits": ("memlock", "stack", "nofile", "nproc"),
}
SERVICES = {
    "defaults": "",
    "shm": "    shm_size: 512m\n",
    "shm in bytes": "    shm_size: 268435456\n",
    "the host's IPC": "    ipc: host\n",
    "limits": "    mem_limit: 1g\n    pids_limit: 500\n    cpus: 1.5\n",
    "ulimits": "    ulimits: {stack: 67108864, nofile: {soft: 256, hard: 512}}\n",
    "a tmpfs": "    tmpfs: ['/dev/shm:size=128m', '/scratch']\n",
    "a variable": "    shm_size: ${SHM:-96m}\n",
}


@pytest.fixture(scope="module")
def compose(dockerd, docker, installed, public, require):
    """The text of a file with one service, and what is found in it when it runs."""
    require(shutil.which("docker-compose"), "docker-compose is not installed")
    folder = public / "compose"
    folder.mkdir()
    mounts = dict.fromkeys(["/usr:/usr", f"{(home := python_of(installed))}:{home}"])
    volumes = json.dumps([*(f"{mount}:ro" for mount in mounts), f"{installed}:{INSIDE}:ro"])
    command = [f"{INSIDE}/bin/python", "-m", "gpudoctor", "check", "-f", "json"]
    (client,) = [word for word in dockerd if word.startswith("--host=")]

    def text(service: str) -> str:
        return (
            f"services:\n  train:\n    image: {BASE}  # of the lab\n    network_mode: none\n"
            f"    environment: {{NCCL_DEBUG: INFO}}\n    volumes: {volumes}\n"
            f"    command: {json.dumps(command)}\n{service}"
        )

    def run(file: str) -> dict:
        (folder / "compose.yaml").write_text(file)
        words = ["docker-compose", client, "-f", "compose.yaml", "run", "--rm", "-T", "train"]
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
        assert ended.returncode in (0, 1, 3), ended.stderr
        (node,) = json.loads(ended.stdout)["nodes"]
        return node

    run.text = text  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize("name", SERVICES)
def test_facts_agree(compose, name):
    text = compose.text(SERVICES[name])
    (found,) = read(Source("compose.yaml", text))
    predicted = predict(found.launch, "x").facts

    seen = compose(text)["facts"]

    for fact, fields in FACTS.items():
        for field in () if isinstance(predicted[fact], Absent) else fields:
            told, real = getattr(predicted[fact], field), seen[fact][field]
            if fact == "limits" and told is not None:
                told = {"soft": told.soft, "hard": told.hard}
            assert told is None or told == real, (fact, field)
    assert seen["environment"]["values"]["NCCL_DEBUG"] == "INFO"


def test_a_corrected_file_does_what_was_asked_for(compose):
    source = Source("compose.yaml", compose.text("    shm_size: 1m\n    ipc: private\n"))
    (found,) = read(source)
    settings = [ShmSize(512 * MIB), NoFile(2048), Stack(16 * MIB), Pids(300)]
    settings += [EnvSet("NCCL_IB_DISABLE", "1"), EnvUnset("NCCL_DEBUG")]

    corrected = edited(source, found.edits(merge(settings)))
    facts = compose(corrected)["facts"]

    assert "# of the lab" in corrected
    assert yaml.safe_load(corrected)["services"]["train"]["shm_size"] == "512m"
    assert facts["shm"]["total_bytes"] == 512 * MIB
    assert facts["limits"]["nofile"] == {"soft": 2048, "hard": 2048}
    assert facts["limits"]["stack"]["soft"] == 16 * MIB
    assert facts["cgroup"]["pids_limit"] == 300
    assert facts["environment"]["values"]["NCCL_IB_DISABLE"] == "1"
    assert "NCCL_DEBUG" not in facts["environment"]["values"]
