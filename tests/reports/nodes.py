"""Whole nodes for pages: their facts as probes tell them, judged by the real checks."""

from typing import Any

from msgspec.structs import replace

from gpudoctor import (
    Address,
    Allocation,
    AllReduce,
    Cgroup,
    Clock,
    Clue,
    Container,
    CudaInit,
    DeviceNode,
    DeviceNodes,
    Devices,
    Environment,
    Expectations,
    Fact,
    GpuLibraries,
    Gpus,
    Interface,
    JobPython,
    KernelDriver,
    KernelLog,
    Limit,
    Limits,
    Measured,
    Names,
    Network,
    NetworkMount,
    NetworkMounts,
    Nvml,
    Place,
    Processes,
    Rdma,
    Route,
    Shm,
    ShmFile,
    ShmFiles,
    Snapshot,
    Storage,
    Syscalls,
    System,
    TorchBuild,
    TorchDevice,
    TorchRun,
    User,
    Workload,
    registry,
)
from gpudoctor.facts.gpus import NVML_NO_LIBRARY
from gpudoctor.judge import judge
from gpudoctor.launch.plan import next_steps
from gpudoctor.report import Node, Redaction, Report, Run, Tool, counts, exit_code, verdict
from gpudoctor.snapshot import name_of
from tests.gpu_machines import HGX, INSTINCT, bus, but
from tests.rdma_machines import INFINIBAND, UNPLUGGED, without

UNLIMITED = Limit(None, None)
SECONDS = {"torch_run": 2.31, "gpus": 0.0413, "names": 0.0121, "storage": 0.0042, "rdma": 0.0031}


def _wired(gpus: Gpus) -> Gpus:
    """Four GPUs on each of two processors, linked each to each, with memory in use."""
    kind = "XGMI" if gpus.devices[0].vendor == "amd" else "NVLink"
    devices = tuple(
        replace(
            gpu,
            numa_node=gpu.index // 4,
            uuid=f"GPU-6f1b7c1e-0f6c-4b1e-9c55-1a2b3c4d5e0{gpu.index}",
            memory_bytes=192 << 30 if kind == "XGMI" else 85520809984,
            memory_used_bytes=(2 << 30) + gpu.index * (300 << 20),
            clock_mhz=1980 if kind == "NVLink" else 2100,
            clock_max_mhz=1980 if kind == "NVLink" else 2100,
            power_w=70.0 + 3 * gpu.index,
        )
        for gpu in gpus.devices
    )
    pairs = tuple(replace(pair, path=kind) for pair in gpus.pairs)
    return replace(gpus, devices=devices, pairs=pairs)


def _placed(rdma: Rdma) -> Rdma:
    devices = tuple(replace(d, numa_node=n // 4) for n, d in enumerate(rdma.devices))
    return replace(rdma, devices=devices)


NETWORK = Network(
    interfaces=(
        Interface(
            index=1,
            name="lo",
            kind="loopback",
            up=True,
            running=True,
            mtu=65536,
            addresses=(Address(ip="127.0.0.1", prefix=8, scope="host"),),
        ),
        Interface(
            index=2,
            name="eno1",
            kind="physical",
            up=True,
            running=True,
            mtu=1500,
            speed_mbps=25000,
            driver="mlx5_core",
            pci="0000:e1:00.0",
            numa_node=1,
            addresses=(Address(ip="10.20.1.17", prefix=16),),
            errors=0,
            packets=18_000_000,
        ),
        Interface(
            index=3,
            name="docker0",
            kind="bridge",
            up=True,
            addresses=(Address(ip="172.17.0.1", prefix=16),),
        ),
    ),
    routes=(
        Route(destination="0.0.0.0/0", interface="eno1", gateway="10.20.0.1"),
        Route(destination="10.20.0.0/16", interface="eno1", source="10.20.1.17"),
    ),
)


def sweep(peak: float = 412e9, ranks: int = 8) -> AllReduce:
    """From 8 B to 4 GiB, with the shape that such curves have."""
    points = []
    for power in range(3, 33):
        count = 1 << power
        seconds = 28e-6 + count * 2 * (ranks - 1) / ranks / peak
        algbw = count / seconds
        points.append(
            Measured(
                bytes=count,
                iterations=200 if power < 24 else 20,
                seconds=seconds,
                low_seconds=seconds * 0.96,
                high_seconds=seconds * (1.6 if power < 14 else 1.06),
                algbw=algbw,
                busbw=algbw * 2 * (ranks - 1) / ranks,
            )
        )
    return AllReduce(
        backend="nccl",
        device="cuda",
        torch="2.9.1+cu128",
        ranks=ranks,
        points=tuple(points),
        transports=("P2P", "NVLS"),
        library="NCCL 2.27.5",
        seconds=9.4,
    )


def facts_of(gpus: Gpus = HGX, rdma: Rdma = INFINIBAND, **more: Fact) -> dict[str, Fact]:
    """A host with eight GPUs, on which all is as it should be."""
    nvidia = gpus.devices[0].vendor == "nvidia"
    wired = _wired(gpus)
    facts: list[Fact] = [
        System(
            hostname="gpu-a-017",
            kernel="6.8.0-60-generic",
            architecture="x86_64",
            distribution="Ubuntu 24.04.2 LTS",
            memory_bytes=2 << 40,
            memory_available_bytes=2090 << 30,
            cpus=192,
            cpus_usable=192,
            uptime_seconds=21 * 86400,
        ),
        Container(clues=(Clue("none", 4, "the first mnt namespace"),)),
        Cgroup(version=2, memory_used_bytes=33 << 20, cpuset_cpus=192),
        Limits(
            memlock=UNLIMITED,
            stack=Limit(8 << 20, None),
            nofile=Limit(1 << 20, 1 << 20),
            nproc=UNLIMITED,
            address_space=UNLIMITED,
        ),
        Shm(total_bytes=1008 << 30, free_bytes=1007 << 30, filesystem="tmpfs"),
        Clock(
            state=0,
            status=8193,
            max_error_seconds=0.002,
            estimated_error_seconds=0.0001,
            now=1795242044.8,
            clocksource="tsc",
        ),
        User(uid=1000, gid=1000, groups=(44, 109), home="/home/train"),
        Environment(
            values={
                "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
                "LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/opt/hpcx/ompi/lib",
                "MASTER_ADDR": "gpu-a-017",
                "MASTER_PORT": "29500",
                "NCCL_DEBUG": "WARN",
                "NCCL_IB_HCA": "=mlx5_0,mlx5_1,mlx5_2,mlx5_3,mlx5_4,mlx5_5,mlx5_6,mlx5_7",
                "OMP_NUM_THREADS": "8",
                "SLURM_JOB_ID": "90417",
                "SLURM_NNODES": "16",
            },
            names=("NCCL_DEBUG", "NCCL_IB_HCA", "NCCL_SITE_COOKIE", "SLURM_JOB_ID"),
        ),
        JobPython(
            path="/opt/conda/bin/python",
            chosen_by="PATH",
            version="3.12",
            packages={
                "accelerate": "1.11.0",
                "deepspeed": "0.18.2",
                "flash-attn": "2.8.3",
                "numpy": "2.3.4",
                "nvidia-nccl-cu12": "2.27.5",
                "torch": "2.9.1+cu128",
                "transformers": "4.57.1",
                "triton": "3.5.1",
            },
        ),
        TorchBuild(
            version="2.9.1+cu128" if nvidia else "2.9.1+rocm6.4",
            cuda=(12, 8) if nvidia else None,
            hip="" if nvidia else "6.4",
            path="/opt/conda/lib/python3.12/site-packages/torch",
            nccl_pin="nvidia-nccl-cu12 2.27.5" if nvidia else "",
            nccl_wheels=("nvidia-nccl-cu12 2.27.5",) if nvidia else (),
        ),
        replace(wired, cuda=(12, 8) if nvidia else None),
        bus(wired, 2, driver="nvidia" if nvidia else "amdgpu"),
        KernelDriver(nvidia=wired.driver, nvidia_open=True, nvidia_uvm=True, amdgpu=not nvidia),
        Devices(
            nvidia=tuple(range(8)) if nvidia else (),
            amd_render=() if nvidia else tuple(f"renderD{128 + n}" for n in range(8)),
            rdma=tuple(device.uverbs for device in rdma.devices),
            rdma_in_sysfs=tuple(device.name for device in rdma.devices),
        ),
        _placed(rdma),
        NETWORK,
        Workload(local_ranks=8).told({"nodes": 16}, "SLURM_NNODES"),
    ]
    return {name_of(type(fact)): fact for fact in facts} | more


def judged(name: str, facts: dict[str, Fact], *view: str, **run: Any) -> Report:
    """The report of a node, as `check` makes it."""
    results = judge(registry.builtin_checks(launch=False, cluster=False), Snapshot(name, facts))
    results = tuple(replace(r, seconds=0.0004 * (n % 7)) for n, r in enumerate(results))
    status, launcher = verdict(results), run.get("launcher", "host")
    return Report(
        tool=Tool("gpudoctor", "0.1.0"),
        run=Run(
            id="0123456789ab",
            started="2026-11-20T14:02:11Z",
            seconds=0.0642,
            argv=("check", "--nproc-per-node", "8", "-o", "html=report.html"),
            profile="train",
            **run,
        ),
        status=status,
        exit_code=exit_code(status),
        counts=counts(results),
        nodes=(Node(name=name, view=view, facts=facts, results=results, probes=SECONDS),),
        next_steps=next_steps(results, launcher),
        redaction=Redaction(level="internal", replaced={"user": 3, "mail address": 1}),
    )


def _faulty() -> dict[str, Fact]:
    """One GPU gone, others in a bad way, a port unplugged, and limits as a container has them."""
    gpus = but(HGX, 3, lost="NVML_ERROR_GPU_IS_LOST: it has fallen off the bus", links=None)
    broken = tuple(replace(k, active=n > 1) for n, k in enumerate(HGX.devices[5].links or ()))
    gpus = but(gpus, 5, links=broken, ecc_uncorrected=2, remap_pending=True)
    gpus = but(gpus, 1, pcie_width=8)
    gpus = but(gpus, 6, temperature_c=91, throttle=("hw thermal", "hw slowdown"))
    docker = Container(runtime="docker", launcher="docker", ipc_private=True, pid_private=True)
    facts = facts_of(
        gpus,
        without(INFINIBAND, 4, **UNPLUGGED),
        container=docker,
        shm=Shm(total_bytes=64 << 20, free_bytes=64 << 20, filesystem="tmpfs"),
        all_reduce=sweep(peak=161e9),
    )
    limits = facts["limits"]
    assert isinstance(limits, Limits)
    found = facts["gpus"]
    assert isinstance(found, Gpus)
    lost = replace(found.devices[3], memory_bytes=None, memory_used_bytes=None, temperature_c=None)
    lost = replace(lost, power_w=None, clock_mhz=None, pcie_width=None)
    facts["gpus"] = replace(found, devices=(*found.devices[:3], lost, *found.devices[4:]))
    facts["limits"] = replace(limits, memlock=Limit(64 << 10, 64 << 10))
    return facts | {name_of(type(fact)): fact for fact in _much()}


def _much() -> list[Fact]:
    """What a node has a lot of after weeks of jobs."""
    files = [
        ShmFile(name=f"torch_{n}_{n * 7}_0", bytes=1 << 20, age_seconds=99, uid=0, owner="alive")
        for n in range(30)
    ]
    lines = [f"NVRM: Xid (PCI:0000:33:00): 79, pid={n}, GPU fell off the bus." for n in range(30)]
    roles = ("working directory", "temporary files", "cache", "home", "checkpoints", "root")
    return [
        ShmFiles(files=tuple(files), count=30),
        KernelLog(source="/dev/kmsg", lines=tuple(lines)),
        Names(hostname="gpu-a-018", addresses=("10.20.1.18",), hosts_lines=("127.0.1.1 gpu-a",)),
        Processes(own_threads=97, all_threads=9000, threads_max=1 << 22, pid_max=1 << 22),
        Syscalls(answers={"mbind": "", "clone3": "ENOSYS", "set_mempolicy": "EPERM"}),
        NetworkMounts(
            mounts=tuple(
                NetworkMount(
                    target=f"/mnt/share{n}",
                    filesystem="nfs4",
                    source=f"nas-{n}.example.org:/exports/projects/{n}",
                    answered=True,
                    seconds=0.002,
                )
                for n in range(12)
            )
        ),
        Storage(
            places=tuple(
                Place(role=role, path=f"/data/{n}", total_bytes=1 << 44, free_bytes=1 << 43)
                for n, role in enumerate(roles)
            )
        ),
        Expectations(gpus=8, told_by="--expect gpus=8"),
        Allocation(expected=8, told_by="SLURM_GPUS_ON_NODE", scheduler="slurm"),
        DeviceNodes(
            nodes=tuple(
                DeviceNode(path=f"/dev/nvidia{n}", mode="0666", uid=0, gid=0) for n in range(8)
            )
        ),
        GpuLibraries(
            libcuda="/usr/lib/x86_64-linux-gnu/libcuda.so.570.172.08",
            libcuda_version="570.172.08",
            libnvidia_ml="/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.172.08",
            libnvidia_ml_version="570.172.08",
        ),
        TorchRun(
            version="2.9.1+cu128",
            import_seconds=2.1,
            available=True,
            devices=tuple(TorchDevice(index=n, name="NVIDIA H100 80GB HBM3") for n in range(7)),
            archs=("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
            cuda="12.8",
            nccl="2.27.5",
            distributed=("gloo", "nccl"),
        ),
    ]


def _container() -> dict[str, Fact]:
    """No GPU came along, and little of anything else."""
    kept = ("system", "cgroup", "limits", "clock", "job_python", "torch_build", "environment")
    facts = {name: fact for name, fact in facts_of().items() if name in kept}
    more: list[Fact] = [
        Container(runtime="docker", launcher="docker", ipc_private=True, pid_private=True),
        Shm(total_bytes=64 << 20, free_bytes=64 << 20, filesystem="tmpfs"),
        bus(HGX, 2, driver="nvidia"),
        KernelDriver(nvidia="570.172.08", nvidia_open=True, nvidia_uvm=True),
        Devices(rdma_in_sysfs=tuple(device.name for device in INFINIBAND.devices)),
        DeviceNodes(),
        Expectations(),
        Allocation(),
        GpuLibraries(),
        Nvml(code=NVML_NO_LIBRARY, error="NVML_ERROR_LIBRARY_NOT_FOUND"),
        CudaInit(code=100, name="CUDA_ERROR_NO_DEVICE"),
        Limits(memlock=Limit(64 << 10, 64 << 10), nofile=Limit(1024, 1 << 20)),
        Gpus(),
        Workload(local_ranks=8).told({"local_ranks": 8}, "--nproc-per-node"),
        Network(interfaces=NETWORK.interfaces[:1]),
    ]
    return facts | {name_of(type(fact)): fact for fact in more}


def healthy() -> Report:
    return judged("gpu-a-017", facts_of(all_reduce=sweep()), "host", "uid 1000, not root")


def amd() -> Report:
    return judged("mi-b-003", facts_of(INSTINCT), "host", "root")


def container() -> Report:
    return judged("9f2c1b7d", _container(), "docker container", "root", launcher="docker")


def faulty() -> Report:
    return judged("gpu-a-018", _faulty(), "docker container", "root", launcher="docker")


ALL = {"healthy": healthy, "amd": amd, "container": container, "faulty": faulty}
