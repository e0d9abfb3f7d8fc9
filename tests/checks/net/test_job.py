"""checks/net/job.py: whole environments -> status."""

import pytest

from gpudoctor import EnvSet, Status
from gpudoctor.registry import get
from gpudoctor.rules import job_variables

FAIL, PASS = Status.FAIL, Status.PASS
BY_HAND = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "9",
    "WORLD_SIZE": "16",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "8",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_NODEID": "0",
    "SLURM_LOCALID": "3",
}
ONE_TASK_A_NODE = {
    **SRUN,
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
}
PODS = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "8", "RANK": "1"}


@pytest.mark.parametrize(
    ("env", "told", "status", "says"),
    [
        pytest.param(BY_HAND, {}, PASS, "rank 0 of 2, master 10.0.0.1", id="healthy: by hand"),
        pytest.param(TORCHRUN, {}, PASS, "rank 9 of 16, node 1 of 2", id="healthy: torchrun"),
        pytest.param(SRUN, {}, PASS, "rank 3 of 8, node 0 of 2", id="healthy: srun"),
        pytest.param({**SRUN, "RANK": "3", "WORLD_SIZE": "8"}, {}, PASS, "", id="healthy: script"),
        pytest.param({**ONE_TASK_A_NODE, **TORCHRUN}, {}, PASS, "", id="healthy: srun, torchrun"),
        pytest.param(
            {**ONE_TASK_A_NODE, "WORLD_SIZE": "16"}, {}, PASS, "", id="healthy: before torchrun"
        ),
        pytest.param({**PODS, "WORLD_SIZE": "16"}, {}, PASS, "", id="healthy: pods"),
        pytest.param({**PODS, "WORLD_SIZE": "2"}, {}, PASS, "", id="healthy: pods are counted"),
        pytest.param(
            BY_HAND, {"nodes": 2, "local_ranks": 8}, PASS, "", id="healthy: nodes are counted"
        ),
        pytest.param(
            {"MASTER_ADDR": "fd00::1", "MASTER_PORT": "29500"}, {}, PASS, "fd00::1", id="IPv6"
        ),
        pytest.param({}, {"nodes": 2, "node_rank": 1}, PASS, "node 1 of 2", id="options alone"),
        pytest.param(
            {"PET_NNODES": "1:4", "PET_NPROC_PER_NODE": "auto"}, {}, PASS, "", id="elastic"
        ),
        pytest.param({**BY_HAND, "RANK": "2"}, {}, FAIL, "RANK=2, but WORLD_SIZE=2", id="RANK"),
        pytest.param(
            {**TORCHRUN, "LOCAL_RANK": "8"}, {}, FAIL, "but LOCAL_WORLD_SIZE=8", id="LOCAL_RANK"
        ),
        pytest.param(
            {}, {"nodes": 2, "node_rank": 2}, FAIL, "--node-rank 2, but --nnodes 2", id="node"
        ),
        pytest.param(
            {**TORCHRUN, "WORLD_SIZE": "4", "RANK": "1"}, {}, FAIL, "is less than", id="too few"
        ),
        pytest.param(
            {**BY_HAND, "WORLD_SIZE": "4"},
            {"nodes": 2, "local_ranks": 1},
            FAIL,
            "WORLD_SIZE=4, but 2 nodes x 1 = 2",
            id="WORLD_SIZE",
        ),
        pytest.param(
            {**SRUN, "RANK": "0", "WORLD_SIZE": "8"},
            {},
            FAIL,
            "RANK=0, but SLURM_PROCID=3",
            id="exported once for all tasks",
        ),
        pytest.param(
            {**SRUN, "RANK": "3", "WORLD_SIZE": "16"},
            {},
            FAIL,
            "WORLD_SIZE=16, but SLURM_STEP_NUM_TASKS=8",
            id="of another job",
        ),
        pytest.param({**BY_HAND, "RANK": "one"}, {}, FAIL, 'RANK="one" is not', id="no number"),
        pytest.param(
            {**BY_HAND, "WORLD_SIZE": "1", "MASTER_PORT": "0"}, {}, PASS, "", id="alone, any port"
        ),
        pytest.param(
            {**BY_HAND, "MASTER_PORT": "0"}, {}, FAIL, 'MASTER_PORT="0"', id="each any port"
        ),
        pytest.param({**BY_HAND, "MASTER_PORT": "99999"}, {}, FAIL, "99999", id="no port"),
        pytest.param(
            {**BY_HAND, "MASTER_ADDR": "10.0.0.1:29500"},
            {},
            FAIL,
            "is not an address alone",
            id="port",
        ),
        pytest.param(
            {**BY_HAND, "MASTER_ADDR": "[fd00::1]"}, {}, FAIL, "not an address alone", id="brackets"
        ),
        pytest.param(
            {**BY_HAND, "MASTER_ADDR": "10.0.0.1\r"},
            {},
            FAIL,
            "MASTER_ADDR=10.0.0.1 has blanks around it",
            id="a file of Windows",
        ),
        pytest.param({**BY_HAND, "RANK": " 0"}, {}, PASS, "rank 0 of 2", id="a number in blanks"),
        pytest.param({}, {"nodes": 2}, PASS, "--nnodes=2, and nothing else", id="one option"),
        pytest.param(
            {**BY_HAND, "MASTER_ADDR": "tcp://10.0.0.1"}, {}, FAIL, "not an address alone", id="URL"
        ),
        pytest.param(
            {**SRUN, "MASTER_ADDR": "node[1-4]"}, {}, FAIL, "is a list, not one", id="nodes"
        ),
    ],
)
def test_job(env, told, status, says):
    finding = get("net-job")(job_variables.read(env, told))

    assert finding.status is status
    assert says in finding.summary
    assert len(finding.summary) < 80


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({**SRUN, "RANK": "0", "WORLD_SIZE": "8"}, "export RANK=$SLURM_PROCID"),
        ({**SRUN, "MASTER_ADDR": "node[1-4]"}, "scontrol show hostnames"),
        ({**BY_HAND, "RANK": "7"}, "unset RANK WORLD_SIZE"),
        ({**BY_HAND, "MASTER_ADDR": "node0,node1"}, "unset RANK WORLD_SIZE"),
    ],
)
def test_fix(env, says):
    (command,) = get("net-job")(job_variables.read(env)).fix.commands

    assert says in command


@pytest.mark.parametrize("told", ["10.0.0.1:1234", "tcp://10.0.0.1:1234"])
def test_fix_parts_address_and_port(told):
    fix = get("net-job")(job_variables.read({**BY_HAND, "MASTER_ADDR": told})).fix

    assert fix.settings == (EnvSet("MASTER_ADDR", "10.0.0.1"), EnvSet("MASTER_PORT", "1234"))


@pytest.mark.parametrize("told", [" fd00::1", "[fd00::1]", "fd00::1\r"])
def test_fix_leaves_the_address_alone(told):
    fix = get("net-job")(job_variables.read({**BY_HAND, "MASTER_ADDR": told})).fix

    assert fix.settings == (EnvSet("MASTER_ADDR", "fd00::1"),)


def test_fix_says_how_many_there_are():
    job = job_variables.read({**BY_HAND, "WORLD_SIZE": "32"}, {"nodes": 2, "local_ranks": 8})

    assert get("net-job")(job).fix.settings == (EnvSet("WORLD_SIZE", "16"),)


def test_a_rank_that_is_not_told_is_remarked():
    finding = get("net-job")(job_variables.read({"WORLD_SIZE": "16", "MASTER_ADDR": "node0"}))

    assert finding.status is PASS
    assert "no RANK: right if torchrun is yet to start" in finding.evidence


@pytest.mark.parametrize(
    ("env", "told", "says"),
    [
        pytest.param(
            {"WORLD_SIZE": "16", "RANK": "0"}, {"local_ranks": 4}, "rank 0 of 16", id="world size"
        ),
        pytest.param({"NODE_RANK": "2"}, {}, "NODE_RANK=2, and nothing else is told", id="node"),
        pytest.param({"LOCAL_RANK": "3", "RANK": "3"}, {}, "2 variables agree", id="local rank"),
    ],
)
def test_the_shape_of_a_profile_is_nobodys_claim(env, told, says):
    finding = get("net-job")(job_variables.read(env, told, {"nodes": 2, "local_ranks": 1}))

    assert (finding.status, finding.summary) == (Status.PASS, says)
    assert not any("nnodes" in line for line in finding.evidence)


def test_a_profile_alone_says_how_many_nodes_there_are():
    job = job_variables.read({}, {}, {"nodes": 2, "workers": 8})

    assert (job.nodes, job.told_by, job.claims) == (2, {"nodes": "the profile"}, {})
