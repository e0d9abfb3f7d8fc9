"""Logs of jobs that went well, as large as is asked for: each kind as its writer prints it."""

import random
from collections.abc import Callable, Iterator

_WORDS = (
    "the of and a to in is you that it he was for on are as with his they I at be this have"
    " from or one had by word but not what all were we when your can said there use an each"
    " which she do how their if will up other about out many then them these so some her would"
    " make like him into time has look two more write go see number no way could people my than"
    " first water been call who oil its now find long down day did get come made may part"
    " failure error memory device killed time lost crash broken connection refused closed"
)
Lines = Callable[[random.Random], Iterator[str]]


def text(size: int, seed: int = 8) -> Iterator[bytes]:
    """Blocks of lines, of one writer after the other, until there are so many bytes."""
    some = random.Random(seed)
    written = 0
    while written < size:
        lines = some.choice(WRITERS)(some)
        block = "".join(f"{line}\n" for line in lines).encode()
        written += len(block)
        yield block


def trainer(some: random.Random) -> Iterator[str]:
    """Hugging Face's Trainer: dictionaries between bars."""
    for step in range(0, 600, 10):
        bar = "█" * (step // 60)
        yield (
            f"\r {step // 6:2}%|{bar:10}| {step}/600 [00:{step % 60:02}<01:{step % 60:02},"
            f" {some.uniform(1, 9):.2f}it/s]" * 3
        )
        yield (
            f"{{'loss': {some.uniform(0.1, 4):.4f}, 'grad_norm': {some.uniform(0, 9):.6f},"
            f" 'learning_rate': {some.uniform(0, 1e-4):.6e}, 'epoch': {step / 300:.2f}}}"
        )
    yield (
        "{'eval_loss': 1.2031, 'eval_error_rate': 0.1834, 'eval_runtime': 12.3,"
        " 'eval_samples_per_second': 812.1, 'epoch': 2.0}"
    )
    yield "Saving model checkpoint to /out/checkpoint-600"
    yield "Deleting older checkpoint [/out/checkpoint-400] due to args.save_total_limit"


def lightning(some: random.Random) -> Iterator[str]:
    yield "GPU available: True (cuda), used: True"
    yield "TPU available: False, using: 0 TPU cores"
    yield "Initializing distributed: GLOBAL_RANK: 3, MEMBER: 4/8"
    yield "distributed_backend=nccl"
    yield "All distributed processes registered. Starting with 8 processes"
    yield "LOCAL_RANK: 3 - CUDA_VISIBLE_DEVICES: [0,1,2,3,4,5,6,7]"
    yield "You are using a CUDA device ('NVIDIA H100 80GB HBM3') that has Tensor Cores."
    for step in range(40):
        yield (
            f"\rEpoch {step // 20}: {step * 2:3}%|#### | {step}/50 [00:{step:02}<00:10,"
            f" {some.uniform(1, 9):.2f}it/s, v_num=3, train_error={some.random():.3f},"
            f" failed_samples=0]"
        )
    yield "`Trainer.fit` stopped: `max_epochs=2` reached."


def megatron(some: random.Random) -> Iterator[str]:
    yield "> initializing torch distributed ..."
    yield "> initialized tensor model parallel with size 8"
    yield "> setting random seeds to 1234 ..."
    yield "time to initialize megatron (seconds): 12.331"
    for step in range(200):
        yield (
            f" [2026-05-05 06:{step // 60:02}:{step % 60:02}] iteration {step:8}/ 500000 |"
            f" consumed samples: {step * 256:12} | elapsed time per iteration (ms):"
            f" {some.uniform(800, 900):.1f} | throughput per GPU (TFLOP/s/GPU):"
            f" {some.uniform(300, 420):.1f} | learning rate: {some.uniform(0, 1e-4):.6E} |"
            f" global batch size:   256 | lm loss: {some.uniform(1, 9):.6E} | loss scale: 1.0 |"
            f" grad norm: {some.uniform(0, 2):.3f} | number of skipped iterations:   0 |"
            " number of nan iterations:   0 |"
        )
    yield "  successfully saved checkpoint from iteration     200 to /out/ckpt"
    yield "(min, max) time across ranks (ms): save-checkpoint ....: (3012.11, 3042.90)"


def nccl(some: random.Random) -> Iterator[str]:
    """NCCL_DEBUG=INFO on two nodes of InfiniBand, all well."""
    for rank in range(16):
        host, gpu, pid = f"gpu-{rank // 8:02}", rank % 8, 41000 + rank
        said = f"{host}:{pid}:{pid + 90} [{gpu}] NCCL INFO"
        yield f"{said} cudaDriverVersion 12080"
        yield f"{said} NCCL_SOCKET_IFNAME set by environment to ens10f0"
        yield f"{said} Bootstrap: Using ens10f0:10.0.0.{1 + rank // 8}<0>"
        yield f"{said} NCCL version 2.27.5+cuda12.9"
        yield f"{said} NET/Plugin: Could not find: libnccl-net.so. Using internal net plugin."
        yield f"{said} NET/Plugin: No plugin found (libnccl-net.so)"
        yield f"{said} TUNER/Plugin: Could not find: libnccl-tuner.so"
        yield f"{said} PROFILER/Plugin: Could not find: libnccl-profiler.so."
        yield (
            f"{said} NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO];"
            f" OOB ens10f0:10.0.0.{1 + rank // 8}<0>"
        )
        yield f"{said} Initialized NET plugin IB"
        yield f"{said} Using network IB"
        yield f"{said} DMA-BUF is available on GPU device {gpu}"
        init = (
            f"{said} ncclCommInitRankConfig comm 0x{some.getrandbits(40):x} rank {rank} nranks 16"
            f" cudaDev {gpu} nvmlDev {gpu} busId {gpu}b000 commId 0x5f1e2d3c4b5a6978"
        )
        yield f"{init} - Init START"
        yield f"{said} NVLS multicast support is available on dev {gpu} (NVLS_NCHANNELS 16)"
        yield f"{said} Trees [0] {rank + 1}/-1/-1->{rank}->{rank - 1} [1] -1/-1/-1->{rank}->0"
        for channel in range(16):
            pair = f"Channel {channel:02}/0 : {rank}[{gpu}] -> {rank + 1}[{(gpu + 1) % 8}]"
            last = "[send] via NET/IB/0/GDRDMA" if gpu == 7 else "via P2P/CUMEM"
            yield f"{said} {pair} {last}"
        yield f"{said} Connected all rings, use ring PXN 0 GDR 1"
        yield f"{said} threadThresholds 8/8/64 | 128/8/64 | 512 | 512"
        yield f"{said} 24 coll channels, 24 collnet channels, 16 nvls channels, 32 p2p channels"
        yield f"{init} - Init COMPLETE"


def torchrun(some: random.Random) -> Iterator[str]:
    """What torchrun and torch say of jobs that go on to train."""
    yield "W1121 10:01:12.441000 140132 torch/distributed/run.py:792] "
    yield "W1121 10:01:12.441000 140132 torch/distributed/run.py:792] " + "*" * 41
    yield (
        "W1121 10:01:12.441000 140132 torch/distributed/run.py:792] Setting OMP_NUM_THREADS"
        " environment variable for each process to be 1 in default, to avoid your system being"
        " overloaded, please further tune the variable for optimal performance in your"
        " application as needed. "
    )
    for rank in range(8):
        yield (
            f"[rank{rank}]:[W1121 10:01:20.{some.randrange(10**9):09} socket.cpp:207] [c10d] The"
            " hostname of the client socket cannot be retrieved. err=-3"
        )
        yield (
            "/opt/venv/lib/python3.11/site-packages/torch/utils/checkpoint.py:429: UserWarning:"
            " torch.utils.checkpoint: please pass in use_reentrant=True or use_reentrant=False"
            " explicitly. The default value of use_reentrant will be updated to be False in the"
            " future."
        )
        yield "  warnings.warn("
        yield (
            "/opt/venv/lib/python3.11/site-packages/torch/amp/grad_scaler.py:132: FutureWarning:"
            " `torch.cuda.amp.GradScaler(args...)` is deprecated. Please use"
            " `torch.amp.GradScaler('cuda', args...)` instead."
        )
        for step in range(30):
            yield (
                f"[rank{rank}]: step {step} loss {some.uniform(0, 5):.4f}"
                f" mem {some.uniform(10, 70):.1f}GB err {some.random():.3f}"
                f" time {some.random():.3f}s tokens/s {some.uniform(9e3, 2e4):.0f}"
            )


def metrics(some: random.Random) -> Iterator[str]:
    """Words of trouble as names of what is measured."""
    for step in range(200):
        yield (
            f"2026-05-05 06:{step // 60:02}:{step % 60:02},{step:03} - train - INFO - step {step}"
            f" error: {some.random():.4f} mean_absolute_error: {some.random():.4f} abort_rate: 0"
            f" timeouts: 0 failed: 0 killed: 0 nan: 0 oom: 0"
        )
    yield "val top-1 error 23.12%  top-5 error 6.71%"
    yield "retrying failed requests: 0; exceptions: 0; warnings: 3"
    yield "accuracy on class 'segmentation fault line' (geology): 0.91"


def deepspeed(some: random.Random) -> Iterator[str]:
    yield (
        "[2026-05-05 06:16:47,123] [INFO] [real_accelerator.py:239:get_accelerator] Setting"
        " ds_accelerator to cuda (auto detect)"
    )
    yield (
        "[2026-05-05 06:16:49,551] [WARNING] [runner.py:215:fetch_hostfile] Unable to find"
        " hostfile, will proceed with training with local resources only."
    )
    yield "[2026-05-05 06:16:50,001] [INFO] [comm.py:637:init_distributed] cdb=None"
    yield "Installed CUDA version 12.1 does not match the version torch was compiled with 12.4"
    yield "--------------------------------------------------"
    yield "DeepSpeed C++/CUDA extension op report"
    yield "ninja .................. [OKAY]"
    yield "async_io ............... [NO] ....... [NO]"
    yield "fused_adam ............. [NO] ....... [OKAY]"
    yield " [WARNING]  sparse_attn requires a torch version >= 1.5 and < 2.0 but detected 2.4"
    yield "Using /root/.cache/torch_extensions/py311_cu124 as PyTorch extensions root..."
    yield "ninja: no work to do."
    yield f"Time to load fused_adam op: {some.random():.4f} seconds"
    for step in range(50):
        yield (
            f"[2026-05-05 06:17:{step:02},000] [INFO] [logging.py:96:log_dist] [Rank 0]"
            f" step={step}, skipped=0, lr=[{some.uniform(0, 1e-4):.3e}], mom=[[0.9, 0.999]]"
        )


def around(some: random.Random) -> Iterator[str]:
    """What stands before and after: package tools, wandb, entrypoints."""
    yield "Reading package lists... Done"
    yield "Get:1 http://deb.debian.org/debian bookworm/main amd64 liberror-perl all 0.17029-2"
    yield "Selecting previously unselected package libgpg-error0:amd64."
    yield "Setting up libgpg-error0:amd64 (1.46-1) ..."
    yield "debconf: delaying package configuration, since apt-utils is not installed"
    yield "Collecting exceptiongroup>=1.0.0 (from anyio)"
    yield "  Downloading exceptiongroup-1.2.2-py3-none-any.whl (16 kB)"
    yield "Requirement already satisfied: tenacity in ./venv (9.0.0)"
    yield "Successfully installed exceptiongroup-1.2.2 retrying-1.3.4"
    yield (
        "WARNING: Running pip as the 'root' user can result in broken permissions and conflicting"
        " behaviour with the system package manager"
    )
    yield "wandb: Currently logged in as: someone. Use `wandb login --relogin` to force relogin"
    yield "wandb: Tracking run with wandb version 0.18.3"
    yield f"wandb: Run data is saved locally in /out/wandb/run-{some.randrange(10**8)}"
    yield "wandb:           train/error ▁▂▃▅▇█"
    yield "wandb: Synced 5 W&B file(s), 0 media file(s), 2 artifact file(s) and 0 other file(s)"
    yield "=============\n== PyTorch ==\n============="
    yield "NVIDIA Release 25.04 (build 164387133)"
    yield "Compilation was successful with 0 errors and 2 warnings."
    yield "tokenizer_config.json: 100%|##########| 55.4k/55.4k [00:00<00:00, 1.2MB/s]"
    yield "Some weights of the model were not initialized from the model checkpoint: ['head.bias']"
    yield "huggingface/tokenizers: The current process just got forked, after parallelism has"
    yield "already been used. Disabling parallelism to avoid deadlocks..."


def prose(some: random.Random) -> Iterator[str]:
    """Samples that a language model is shown or writes, each line another."""
    words = _WORDS.split()
    for number in range(60):
        yield f"sample {number}: {' '.join(some.choices(words, k=some.randint(8, 30)))}."


def kernel(some: random.Random) -> Iterator[str]:
    """A boot with GPUs of both vendors."""
    lines = (
        "Linux version 6.8.0-48-generic (buildd@lcy02) (x86_64-linux-gnu-gcc-13) #48-Ubuntu SMP",
        "Command line: BOOT_IMAGE=/vmlinuz-6.8.0-48-generic root=/dev/nvme0n1p2 ro quiet",
        "ACPI: Added _OSI(Linux-Dell-Video)",
        "pci 0000:3b:00.0: [10de:2330] type 00 class 0x030200 PCIe Endpoint",
        "nvidia: loading out-of-tree module taints kernel.",
        "nvidia: module verification failed: signature and/or required key missing - tainting",
        "nvidia-nvlink: Nvlink Core is being initialized, major device number 234",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed Jan 22 2025",
        "nvidia-modeset: Loading NVIDIA Kernel Mode Setting Driver for UNIX platforms  570.86.10",
        "[drm] [nvidia-drm] [GPU ID 0x00003b00] Loading driver",
        "amdgpu 0000:03:00.0: amdgpu: VRAM: 65520M 0x0000008000000000 - 0x0000008FFEFFFFFF",
        "amdgpu 0000:03:00.0: amdgpu: RAS INFO: ras initialized successfully",
        "amdgpu 0000:03:00.0: amdgpu: SMU is initialized successfully!",
        "[drm] amdgpu kernel modesetting enabled.",
        "kfd kfd: amdgpu: added device 1002:740c",
        "mlx5_core 0000:5e:00.0: Port module event: module 0, Cable plugged",
        "mlx5_core 0000:5e:00.0 ens10f0: Link up",
        "EDAC MC0: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
        "ERST: Error Record Serialization Table (ERST) support is initialized.",
        "RAS: Correctable Errors collector initialized.",
        'audit: type=1400 audit(1732000000.1:2): apparmor="STATUS" operation="profile_load"',
        "systemd[1]: Started systemd-oomd.service - Userspace Out-Of-Memory (OOM) Killer.",
    )
    boot = some.uniform(0, 3)
    for line in lines:
        boot += some.random()
        yield f"[{boot:12.6f}] {line}"


WRITERS: tuple[Lines, ...] = (
    *(trainer, lightning, megatron, nccl, torchrun, metrics, deepspeed, around, prose, kernel),
)
