"""probes/workload.py: the job's shape from whole environments and the device nodes."""

import socket
from pathlib import Path

import pytest

from gpudoctor import Machine
from gpudoctor.probes.workload import one_node, workload


def tree(path: Path, nvidia: int = 0, amd: int = 0) -> str:
    (path / "dev" / "dri").mkdir(parents=True)
    for number in range(nvidia):
        (path / "dev" / f"nvidia{number}").touch()
    for number in range(amd):
        (path / "dev" / "dri" / f"renderD{128 + number}").touch()
        (path / "dev" / "kfd").touch()
    return str(path)


@pytest.mark.parametrize(
    ("env", "gpus", "ranks", "nodes"),
    [
        pytest.param({}, 0, (1, ""), (1, ""), id="laptop"),
        pytest.param({}, 8, (8, "GPU device nodes"), (1, ""), id="plain host with GPUs"),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "2,3"}, 8, (2, "GPU device nodes"), (1, ""), id="two of eight"
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 8, (1, "GPU device nodes"), (1, ""), id="up to -1"
        ),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, 8, (1, ""), (1, ""), id="hidden"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 8, (1, ""), (1, ""), id="Slurm hides"),
        pytest.param(
            {"HIP_VISIBLE_DEVICES": "0"}, 8, (8, "GPU device nodes"), (1, ""), id="not NVIDIA's"
        ),
        pytest.param(
            {"LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "LOCAL_RANK": "0"},
            8,
            (4, "LOCAL_WORLD_SIZE"),
            (2, "GROUP_WORLD_SIZE"),
            id="a rank of torchrun",
        ),
        pytest.param(
            {
                "SLURM_JOB_NUM_NODES": "2",
                "SLURM_NTASKS_PER_NODE": "1",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
                "SLURM_STEP_NUM_NODES": "2",
            },
            8,
            (8, "GPU device nodes"),
            (2, "SLURM_STEP_NUM_NODES"),
            id="srun of one torchrun a node",
        ),
        pytest.param(
            {"SLURM_NNODES": "4", "SLURM_NTASKS_PER_NODE": "8"},
            8,
            (8, "SLURM_NTASKS_PER_NODE"),
            (4, "SLURM_NNODES"),
            id="sbatch of a task per GPU",
        ),
        pytest.param(
            {"SLURM_STEP_TASKS_PER_NODE": "8(x2),4"},
            0,
            (8, "SLURM_STEP_TASKS_PER_NODE"),
            (1, ""),
            id="uneven",
        ),
        pytest.param(
            {"OMPI_COMM_WORLD_LOCAL_SIZE": "8", "SLURM_NTASKS_PER_NODE": "1"},
            8,
            (8, "OMPI_COMM_WORLD_LOCAL_SIZE"),
            (1, ""),
            id="mpirun inside Slurm",
        ),
        pytest.param(
            {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "4"},
            8,
            (4, "PET_NPROC_PER_NODE"),
            (2, "PET_NNODES"),
            id="Kubeflow",
        ),
        pytest.param(
            {"PET_NNODES": "1:4", "PET_NPROC_PER_NODE": "auto"},
            8,
            (8, "GPU device nodes"),
            (1, ""),
            id="Kubeflow, elastic",
        ),
        pytest.param(
            {"SLURM_NNODES": "", "LOCAL_WORLD_SIZE": "many"}, 0, (1, ""), (1, ""), id="nonsense"
        ),
    ],
)
def test_shape(tmp_path, env, gpus, ranks, nodes):
    job = workload(Machine(root=tree(tmp_path, nvidia=gpus), env=env))

    assert (job.local_ranks, job.told_by.get("local_ranks", "")) == ranks
    assert (job.nodes, job.told_by.get("nodes", "")) == nodes


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_amd(tmp_path, name):
    job = workload(Machine(root=tree(tmp_path, amd=4), env={name: "0,1"}))

    assert job.local_ranks == 2


@pytest.mark.parametrize(
    ("env", "told", "nodes"),
    [
        pytest.param({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, {}, (2, "WORLD_SIZE")),
        pytest.param({"WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "8"}, {}, (2, "WORLD_SIZE")),
        pytest.param({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, {}, (1, "WORLD_SIZE")),
        pytest.param({"WORLD_SIZE": "2", "PET_NPROC_PER_NODE": "8"}, {}, (1, ""), id="of pods"),
        pytest.param({"WORLD_SIZE": "16"}, {"local_ranks": 8}, (2, "WORLD_SIZE"), id="by option"),
        pytest.param({"WORLD_SIZE": "16"}, {}, (1, ""), id="ranks of a node not known"),
        pytest.param(
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            {},
            (2, "OMPI_COMM_WORLD_SIZE"),
            id="mpirun",
        ),
        pytest.param({"GROUP_WORLD_SIZE": "2"}, {"nodes": 4}, (4, "--nnodes"), id="told"),
        pytest.param({"NODE_RANK": "2", "MASTER_ADDR": "node0"}, {}, (3, "NODE_RANK")),
        pytest.param({"JOB_COMPLETION_INDEX": "7"}, {}, (1, ""), id="indexed, but no job of ranks"),
        pytest.param({"MASTER_ADDR": "192.0.2.1"}, {}, (2, "MASTER_ADDR"), id="master elsewhere"),
        pytest.param({}, {"master_addr": "192.0.2.1"}, (2, "--master-addr")),
        pytest.param({"MASTER_ADDR": "localhost"}, {}, (1, ""), id="master here"),
        pytest.param({"MASTER_ADDR": "127.0.0.1"}, {}, (1, ""), id="master here, by address"),
        pytest.param({"MASTER_ADDR": "192.0.2.1", "WORLD_SIZE": "1"}, {}, (1, "WORLD_SIZE")),
    ],
)
def test_nodes(env, told, nodes):
    job = workload(Machine(env=env, told=told))

    assert (job.nodes, job.told_by.get("nodes", "")) == nodes
    assert (one_node(Machine(env=env, told=told)) == "") is (nodes[0] > 1)


def test_own_name_is_no_other_node():
    name = socket.gethostname()

    assert workload(Machine(env={"MASTER_ADDR": name})).nodes == 1
    assert workload(Machine(env={"MASTER_ADDR": f"{name.partition('.')[0]}.cluster"})).nodes == 1


def test_a_recorded_tree_has_no_addresses(tmp_path):
    assert workload(Machine(tree(tmp_path), env={"MASTER_ADDR": "192.0.2.1"})).nodes == 1
