"""What a person tells of the job, and whom a run would contact."""

import json
import subprocess
import sys

import pytest

from gpudoctor import Master, Workload, registry, run
from gpudoctor.snapshot import Snapshot, name_of

GPUDOCTOR = [sys.executable, "-m", "gpudoctor", "check"]
CATALOGUE = registry.Catalogue(tuple(registry.builtin_checks()))


def told(*words: str, **variables: str) -> str:
    """What `--dry-run` prints; the master is in a network that nobody has (RFC 5737)."""
    ended = subprocess.run(
        [*GPUDOCTOR, "--dry-run", *words], capture_output=True, text=True, timeout=60, env=variables
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param([], {}, id="plain"),
        pytest.param(["--nproc-per-node=8"], {}, id="one node"),
        pytest.param([], {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "RANK": "0"}, id="torchrun"),
        pytest.param(["--only=shm-*", "--master-addr=192.0.2.1"], {}, id="not looked for"),
    ],
)
def test_nobody(words, variables):
    assert told(*words, **variables) == "nobody would be contacted\n"


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(["--master-addr=192.0.2.1", "--master-port=29501"], {}, id="options"),
        pytest.param(["--only=net-*,nccl-*", "--master-port=29501"], {"MASTER_ADDR": "192.0.2.1"}),
        pytest.param([], {"GPUDOCTOR_MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29501"}),
    ],
)
def test_the_master(words, variables):
    said = told(*words, **variables)

    assert "master: connects to 192.0.2.1, TCP port 29501, and closes the connection\n" in said


@pytest.mark.parametrize(
    "words", [["--node-rank=-1"], ["--master-port=0"], ["--master-port=65536"], ["--profile=none"]]
)
def test_wrong_usage(words):
    ended = subprocess.run([*GPUDOCTOR, *words], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert ended.stdout == ""


def test_nodes_of_the_configuration_are_told_to_probes(tmp_path):
    file = tmp_path / "gpudoctor.toml"
    file.write_text("[workload]\nnodes = 2\n")

    assert "names: resolves " in told(f"--config={file}")
    assert told(f"--config={file}", "--nnodes=1") == "nobody would be contacted\n"


def test_options_reach_the_facts(tmp_path):
    out = tmp_path / "report.json"
    words = ["net-job", "--nnodes=2", "--node-rank=0", "-qq", f"--output=json={out}"]
    subprocess.run([*GPUDOCTOR, *words], timeout=60, env={})
    facts = json.loads(out.read_text())["nodes"][0]["facts"]

    assert facts["job"]["told_by"] == {"nodes": "--nnodes", "node_rank": "--node-rank"}
    assert facts["workload"]["nodes"] == 2


@pytest.mark.parametrize(("here", "nodes"), [(True, 1), (False, 2)])
def test_a_name_that_the_resolver_knows_as_this_machines_is_no_other_node(here, nodes):
    """Before it is resolved, a master of another name is taken for another node."""
    master = Master(name="master", port=29500, addresses=("192.0.2.1",), here=here)
    job = Workload().told({"nodes": 2}, "MASTER_ADDR")
    facts = {name_of(type(fact)): fact for fact in (master, job)}
    request = run.Request(checks=(), catalogue=CATALOGUE)

    assert run._with_demands(request, Snapshot("n", facts)).get(Workload).nodes == nodes
