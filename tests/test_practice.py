"""docs/practice.md: nothing of the five documents is left out, and what it says is so."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from gpudoctor import registry
from gpudoctor.cli import cli
from gpudoctor.triage.rule import builtin

TEXT = (Path(__file__).parent.parent / "docs/practice.md").read_text()
CHECKS = {check.id for check in registry.builtin_checks()}
TOPICS = {check.topic for check in registry.builtin_checks()}

# Every flag, variable and command of the documents.
NAMED = {
    "A": """
        --gpus all|--ipc=host|--rm|--shm-size=2g|--ulimit memlock=-1|--ulimit stack=67108864
        -v $(pwd):/workspace|-w /workspace|free -h|nvidia-smi|micro_batch_size|global_batch_size
        SHMEM allocation limit|continual_learning.py|test_training_config.py|nemo:25.04
        failed to allocate memory|所有测试通过
    """,
    "B": """
        run.run(recipe, direct=True)|TORCH_NCCL_AVOID_RECORD_STREAMS=1|NCCL_NVLS_ENABLE=0
        NVTE_DP_AMAX_REDUCE_INTERVAL=0|NVTE_ASYNC_AMAX_REDUCTION=1|CUDA_VISIBLE_DEVICES=0
        CUDA_DEVICE_MAX_CONNECTIONS=1|PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
        NVTE_FWD_LAYERNORM_SM_MARGIN=16|NVTE_BWD_LAYERNORM_SM_MARGIN=16|trainer.devices = 1
        num_nodes = 1|tensor_model_parallel_size|pipeline_model_parallel_size
        context_parallel_size|num_layers = 12|hidden_size = 768|ffn_hidden_size
        num_attention_heads|if __name__ == "__main__":|Failure to acquire lock|6000 Ada
        llm.qwen25_500m.pretrain_recipe()|official_single_gpu_training.py|2048 to 1024|12 to 8
    """,
    "C": """
        srun -p gpu1 --nodelist=g2001 -N 1 -n 8 -c 8 --gres=gpu:8 --pty bash
        module load rootless-docker/default|start_rootless_docker.sh|docker ps
        docker load -i cpmlive-flash-0.0.4.tar|docker tag [IMAGE_ID] cpmlive-flash:0.0.4
        invalid tar header|--sh |--network host|--shm-size=4g|[HOST_PATH1]:[DOCKER_PATH1]
        docker exec -it [CONTAINER_ID] bash|Ctrl+d|docker stop|pip install tensorboardX
        conda create -n cpm-9g python=3.8.10|pytorch==1.13.1|torchvision==0.14.1
        torchaudio==0.13.1|pytorch-cuda=11.6|bmtrain==0.2.3.post2|flash-attn==2.0.8|einops
        pytrie|470.57.02|11.4 to 11.6|nvidia-nccl-cu11==2.19.3|LD_LIBRARY_PATH|nccl_root
        libcpm-1.0.0-cp38-cp38-linux_x86_64.whl|8 x 512G|64 x 80G|512G, 8 x 80G|2 x 512G
        16 x 80G|128G, 2 x 80G|140G to train|1G to infer|49G to train|20G to infer
        200G to train|2G to infer|8 x 80G to train|4 x 50G to infer|batch size 1
    """,
    "D": """
        64 MB|46 MB|18 MB|15.85 MB|5.75 MB|276 MB|30 %|359 MB|512 MB least|2 GB to be safe
        8, 46 MB, 512 MB|16, 92 MB, 512 MB|24, 138 MB, 512 MB|32, 184 MB, 512 MB
        40, 230 MB, 512 MB|48, 276 MB, 1 GB|56, 322 MB, 1 GB|64, 368 MB, 1 GB|80, 460 MB, 1 GB
        96, 552 MB, 1 GB|docker run --shm-size=1g|shm_size: '1gb'|df -h /dev/shm|RssShmem
        ps aux|wc -l|tail -1|watch -n 5 'df -h /dev/shm'|more than 80 %
    """,
    "E": """
        chmod +x docker_run_ddp.sh|test_docker_ddp_network.sh|docker_run_ddp.sh 0|ip addr show
        ifconfig|node_rank|master_addr|model_size|epochs|network_interface|50M, batch 16
        117M, batch 8|345M, batch 4|watch -n 1 rocm-smi|docker logs -f gpt-train-node0
        gpt_model_docker_ddp_tiny|output_docker_ddp_tiny|--network host|-p 29500:29500
        MASTER_ADDR|MASTER_PORT|WORLD_SIZE|RANK|NCCL_SOCKET_IFNAME=eth0|NCCL_IB_DISABLE=1
        NCCL_DEBUG=INFO|HSA_OVERRIDE_GFX_VERSION=12.0.1|PYTORCH_ROCM_ARCH=gfx1201
        --device=/dev/kfd --device=/dev/dri|--group-add video --group-add render|--ipc=host
        --shm-size=8G|--cap-add=SYS_PTRACE|--security-opt seccomp=unconfined
        ufw allow 29500/tcp|ufw reload|ufw status|ufw disable|ufw delete <rule-number>
        Connection refused|Timeout waiting for connection|ping 192.168.1.101
        telnet 192.168.1.100 29500|Using [0]eth0:192.168.1.100<0>|within 30 seconds
        torch.cuda.is_available() = False|rocm-smi|ls -l /dev/kfd /dev/dri
        echo $HSA_OVERRIDE_GFX_VERSION|echo $PYTORCH_ROCM_ARCH
        --gradient_accumulation_steps 16|--bf16|eno1|NCCL_BUFFSIZE=2097152|NCCL_P2P_LEVEL=NVL
        nfs-kernel-server|/etc/exports|git pull|rsync -avz|ethtool eth0|ntp|timedatectl status
        --tail 100|20-30 %|10-15 %|under 5 %|docker.io|usermod -aG docker $USER|docker pull
        git clone|the loss goes down|GPUs are busy|docker rm|dependencies do not install
        ports may collide|both nodes have port 29500
    """,
}
ITEMS = [
    (document, item.strip())
    for document, text in NAMED.items()
    for line in text.strip().splitlines()
    for item in line.split("|")
    if item.strip()
]


def section(document: str) -> str:
    return re.split(r"^## ", TEXT, flags=re.MULTILINE)["ABCDE".index(document) + 1]


def rows() -> list[list[str]]:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\) ?\| ?", line.strip("| ")) for line in lines]
    return [row for row in cells if row[0] not in ("the document", "document", "---")]


@pytest.mark.parametrize(("document", "item"), ITEMS, ids=lambda value: value[:40])
def test_every_line_of_the_documents_has_its_row(document, item):
    assert item.replace("|", r"\|") in section(document)


def test_every_row_says_what_is_done():
    for row in rows():
        assert len(row) >= 2, row
        assert "`" in row[1] or re.match(r"nothing|likewise|the same|exit code|high-water", row[1])


def test_every_check_that_is_named_exists():
    words = set(re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", TEXT))
    named = {word for word in words if word.partition("-")[0] in TOPICS}

    assert named <= CHECKS, named - CHECKS
    assert len(named) > 50


def commands() -> list[str]:
    quoted = re.findall(r"`([^`]+)`", TEXT)
    lines = [line.replace(r"\|", "|").rpartition("| ")[2] for line in quoted]
    return sorted({line for line in lines if line.startswith("gpudoctor ")})


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line):
    name, *words = shlex.split(line)[1:]
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    if words:  # else it is only named
        command.make_context(name, list(words))


NEMO = (
    "docker run --rm --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864"
    " -v $(pwd):/workspace -w /workspace nvcr.io/nvidia/nemo:25.04 python {}"
)
CPM = "docker run -it -d -v /data:/data --gpus all {} --shm-size=4g {} cpmlive-flash:0.0.4 bash"
ROCM = "rocm/pytorch:rocm7.1_ubuntu22.04_py3.10_pytorch_release_2.8.0 python3 train_multi_gpu.py"
DDP = (
    "docker run -it --rm --name gpt-train-node0 --network host --device=/dev/kfd"
    " --device=/dev/dri --group-add video --group-add render --cap-add=SYS_PTRACE"
    " --security-opt seccomp=unconfined --ipc=host --shm-size=8G -v /path/to/code:/workspace"
    " -w /workspace -e MASTER_ADDR=192.168.1.100 -e MASTER_PORT=29500 -e RANK=0 -e WORLD_SIZE=2"
    " -e NCCL_SOCKET_IFNAME=eth0 -e NCCL_IB_DISABLE=1 -e NCCL_DEBUG=INFO"
    f" -e HSA_OVERRIDE_GFX_VERSION=12.0.1 -e PYTORCH_ROCM_ARCH=gfx1201 {ROCM}"
)
BRIDGE = (
    "docker run -p 29500:29500 --shm-size=8g --device=/dev/kfd --device=/dev/dri"
    f" -e MASTER_ADDR=192.168.1.100 -e MASTER_PORT=29500 -e RANK=0 -e WORLD_SIZE=2 {ROCM}"
)


@pytest.mark.parametrize(
    ("line", "profile", "found"),
    [
        pytest.param(NEMO.format("scripts/test_training_config.py"), "nemo", [], id="A"),
        pytest.param(NEMO.format("continual_learning.py"), "nemo", [], id="A, training"),
        pytest.param(NEMO.format("official_single_gpu_training.py"), "nemo-single-gpu", [], id="B"),
        pytest.param(
            NEMO.format("x.py").replace("--gpus", "-e NVTE_FWD_LAYERNORM_SM_MARGIN=16 --gpus"),
            "nemo-single-gpu",
            ["profile-environment"],
            id="B, a variable",
        ),
        pytest.param(
            "docker run --rm --gpus all nvcr.io/nvidia/nemo:25.04 python continual_learning.py",
            "train",
            ["shm-size"],
            id="A, before",
        ),
        pytest.param(CPM.format("", "--sh"), "cpm-9g", ["launch-flags"], id="C, rootless"),
        pytest.param(CPM.format("--network host", ""), "cpm-9g", [], id="C"),
        pytest.param(
            "docker run --shm-size=1g --gpus all image python train_frets_gated_qwen.py",
            "single-gpu",
            [],
            id="D",
        ),
        pytest.param(DDP, "rocm-ddp", ["launch-groups", "launch-ipc"], id="E"),
        pytest.param(BRIDGE, "rocm-ddp", ["launch-ports"], id="E, bridge"),
    ],
)
def test_every_launch_line_is_judged_as_told(gpudoctor, line, profile, found):
    ended = subprocess.run(
        [gpudoctor, "lint", "-", "--profile", profile, "-f", "json"],
        input=f"{line}\n",
        capture_output=True,
        text=True,
    )
    (node,) = json.loads(ended.stdout)["nodes"]
    wrong = {r["id"] for r in node["results"] if r["status"] in ("warn", "fail", "error")}

    assert sorted(wrong) == found


@pytest.mark.parametrize(
    "line",
    [
        "NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be",
        "open /var/lib/docker/tmp/docker-import-1/layer.tar: archive/tar: invalid tar header",
        "current process has finished its bootstrapping phase.",
        'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]',  # noqa: E501
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run",
        "[c10d] The client socket has failed to connect to 192.168.1.100:29500 (errno: 111 - Connection refused).",  # noqa: E501
    ],
)
def test_every_quoted_error_has_a_rule(line):
    assert any(re.search(rule.pattern, line) for rule in builtin())
