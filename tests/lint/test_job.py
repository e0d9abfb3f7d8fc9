"""Commands -> how many ranks they start."""

import pytest

from gpudoctor.lint.job import Job, job_of

TORCHRUN = "torchrun"


@pytest.mark.parametrize(
    ("command", "job"),
    [
        (["torchrun", "--nproc-per-node=8", "x.py"], Job(8, 1, TORCHRUN)),
        (["torchrun", "--nproc_per_node", "8", "--nnodes=2", "x.py"], Job(8, 2, TORCHRUN)),
        (["/opt/bin/torchrun", "x.py"], Job(1, 1, TORCHRUN)),
        (["torchrun", "--nproc-per-node=gpu", "--nnodes=1:4", "x.py"], Job(None, None, TORCHRUN)),
        (["torchrun", "--nproc-per-node=$N", "x.py"], Job(None, 1, TORCHRUN)),
        (["torchrun", "--nproc-per-node"], Job(None, 1, TORCHRUN)),
        (["python3", "-m", "torch.distributed.run", "--nproc-per-node=4"], Job(4, 1, TORCHRUN)),
        (["bash", "-c", "cd /w && exec torchrun --nproc-per-node=4 x"], Job(4, 1, TORCHRUN)),
        (["bash", "-lc", "nvidia-smi; torchrun --nproc-per-node 4 x"], Job(4, 1, TORCHRUN)),
        (["gpudoctor", "exec", "--", "torchrun", "--nproc-per-node=2"], Job(2, 1, TORCHRUN)),
        (
            ["accelerate", "launch", "--num_processes=16", "--num_machines=2", "x"],
            Job(8, 2, "accelerate launch"),
        ),
        (["accelerate", "launch", "x"], Job(None, None, "accelerate launch")),
        (["accelerate", "config"], Job()),
        (["deepspeed", "--num_gpus=4", "x.py"], Job(4, None, "deepspeed")),
        (["bash", "-c", "pip install deepspeed; python x.py --deepspeed y.json"], Job()),
        (["mpirun", "-np", "8", "python", "x.py"], Job(starter="mpirun")),
        (["python", "train.py", "--nproc-per-node=8"], Job()),
        (["nvidia-smi", "-L"], Job(only_looks=True)),
        (["bash", "-c", "nvidia-smi && ls /dev"], Job(only_looks=True)),
        (["bash", "-c", "nvidia-smi && python x.py"], Job()),
        (["python", "-c", "import torch"], Job(only_looks=True)),
        (["python3.11", "-m", "pytest", "tests"], Job(only_looks=True)),
        (["python", "-m", "train"], Job()),
        (["bash", "-c", "cd /w && make -j8"], Job(only_looks=True)),
        (["bash", "-c", "cd /w && ./train.sh"], Job()),
        (["bash", "train.sh"], Job()),
        (["gpudoctor", "check"], Job(only_looks=True)),
        (["bash", "-c", "it's"], Job()),
        (["bash"], Job()),
        ([], Job()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_job(command, job):
    assert job_of(command) == job


@pytest.mark.parametrize(
    ("options", "meeting"),
    [
        ("--nnodes=2 --master-addr 10.0.0.1", {"PET_MASTER_ADDR": "10.0.0.1"}),
        (
            "--nnodes 2 --master_addr=node0 --master_port=29501",
            {"PET_MASTER_ADDR": "node0", "PET_MASTER_PORT": "29501"},
        ),
        (
            "--nnodes=1:4 --rdzv-backend=c10d --rdzv-endpoint=node0",
            {"PET_MASTER_ADDR": "node0", "PET_MASTER_PORT": "29400"},
        ),
        ("--nnodes=2 --rdzv-endpoint=localhost:0", {}),
        ("--nnodes=1 --master-addr 10.0.0.1", {}),
        ("--nproc-per-node=8", {}),
    ],
)
def test_where_nodes_meet(options, meeting):
    assert job_of(["torchrun", *options.split(), "train.py"]).variables == meeting
