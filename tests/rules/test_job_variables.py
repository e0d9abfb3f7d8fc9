"""job_variables.py: whole environments, as launchers make them -> what they tell."""

import pytest

from gpudoctor.redact import may_tell
from gpudoctor.rules import job_variables

TORCHRUN = {  # rank 9 of torchrun --nnodes=2 --nproc-per-node=8
    "RANK": "9",
    "WORLD_SIZE": "16",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "8",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "ROLE_RANK": "9",
    "ROLE_WORLD_SIZE": "16",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
SRUN = {  # task 3 of srun -N2 -n4
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_NODE_RANK": "1",  # of the ranks on this node, not of the nodes
    "PMIX_RANK": "3",
}
KUBEFLOW = {  # a worker of a PyTorchJob, before torchrun
    "MASTER_ADDR": "job-master-0",
    "MASTER_PORT": "23456",
    "WORLD_SIZE": "16",
    "RANK": "1",
    "PET_MASTER_ADDR": "job-master-0",
    "PET_MASTER_PORT": "23456",
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_NPROC_PER_NODE": "8",
}
ELASTIC = {
    "PET_RDZV_ENDPOINT": "job-worker-0:23456",
    "PET_RDZV_BACKEND": "c10d",
    "PET_NNODES": "1:4",
    "PET_NPROC_PER_NODE": "auto",
}
INDEXED = {"JOB_COMPLETION_INDEX": "3", "MASTER_ADDR": "job-0.svc"}


@pytest.mark.parametrize(
    ("env", "launcher", "rank", "local", "nodes", "master"),
    [
        pytest.param({}, "", (None, None), (None, None), (None, None), ("", None), id="nothing"),
        pytest.param(
            TORCHRUN, "torchrun", (9, 16), (1, 8), (1, 2), ("10.0.0.1", 29500), id="torchrun"
        ),
        pytest.param(SRUN, "slurm", (3, 4), (1, 2), (1, 2), ("", None), id="srun"),
        pytest.param(
            {**SRUN, **TORCHRUN},
            "torchrun",
            (9, 16),
            (1, 8),
            (1, 2),
            ("10.0.0.1", 29500),
            id="srun of torchrun",
        ),
        pytest.param(MPIRUN, "openmpi", (3, 4), (1, 2), (None, None), ("", None), id="mpirun"),
        pytest.param(
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"},
            "pmi",
            (1, 2),
            (0, 1),
            (None, None),
            ("", None),
            id="Intel MPI",
        ),
        pytest.param(
            KUBEFLOW, "kubernetes", (1, 16), (None, 8), (1, 2), ("job-master-0", 23456), id="pod"
        ),
        pytest.param(
            ELASTIC,
            "kubernetes",
            (None, None),
            (None, None),
            (None, None),
            ("job-worker-0", 23456),
            id="elastic pod",
        ),
        pytest.param(
            INDEXED,
            "kubernetes",
            (None, None),
            (None, None),
            (3, None),
            ("job-0.svc", None),
            id="indexed job",
        ),
        pytest.param(
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": "29501"},
            "plain",
            (0, 2),
            (None, None),
            (None, None),
            ("node0", 29501),
            id="by hand",
        ),
        pytest.param(
            {"RANK": "first", "WORLD_SIZE": "0", "MASTER_PORT": "99999", "NODE_RANK": "-1"},
            "plain",
            (None, None),
            (None, None),
            (None, None),
            ("", None),
            id="nonsense",
        ),
    ],
)
def test_read(env, launcher, rank, local, nodes, master):
    job = job_variables.read(env)

    assert job.launcher == launcher
    assert (job.rank, job.world_size) == rank
    assert (job.local_rank, job.local_world_size) == local
    assert (job.node_rank, job.nodes) == nodes
    assert (job.master_addr, job.master_port) == master


def test_options_win_and_what_variables_say_is_kept():
    told: dict[str, int | str] = {
        "master_addr": "10.0.0.9",
        "master_port": 29501,
        "node_rank": 0,
        "nodes": 4,
        "checkpoint_dir": "/scratch",
    }
    job = job_variables.read(TORCHRUN, told)

    assert (job.master_addr, job.master_port, job.node_rank, job.nodes) == ("10.0.0.9", 29501, 0, 4)
    assert job.told_by["master_addr"] == "--master-addr"
    assert job.told_by["rank"] == "RANK"
    assert job.claims["master_addr"] == {"--master-addr": "10.0.0.9", "MASTER_ADDR": "10.0.0.1"}


def test_the_agents_endpoint_wins_until_its_ranks_are_told():
    env = {"PET_RDZV_ENDPOINT": "node0:29400", "MASTER_ADDR": "node7", "MASTER_PORT": "1234"}
    agent, rank = job_variables.read(env), job_variables.read({**env, "GROUP_RANK": "0"})

    assert (agent.master_addr, agent.master_port) == ("node0", 29400)
    assert (rank.master_addr, rank.master_port) == ("node7", 1234)


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("node0:29400", "node0", 29400),
        ("node0", "node0", None),
        ("10.0.0.1:29400", "10.0.0.1", 29400),
        ("[fd00::1]:29400", "fd00::1", 29400),
        ("fd00::1", "fd00::1", None),
    ],
)
def test_host_and_port(endpoint, host, port):
    assert job_variables.host_and_port(endpoint) == (host, port)


def test_a_secret_in_an_address_stays_here():
    job = job_variables.read({"MASTER_ADDR": "http://me:secret@node0"})

    assert "secret" not in f"{job.master_addr}{job.claims}"


def test_every_variable_may_be_told():
    names = {name for variables in job_variables.VARIABLES.values() for name in variables}

    assert [name for name in names if not may_tell(name)] == []
