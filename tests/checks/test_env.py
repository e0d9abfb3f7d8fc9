"""checks/env.py: healthy environments pass everything; thread counts and library paths."""

import pytest

from gpudoctor import (
    Cgroup,
    Environment,
    EnvSet,
    EnvUnset,
    JobPython,
    LibraryDir,
    Machine,
    Status,
    System,
    Workload,
)
from gpudoctor.probes.environment import environment
from gpudoctor.registry import get
from tests.rdma_machines import INFINIBAND

LD = "LD_LIBRARY_PATH"
DIST_PACKAGES = "/usr/local/lib/python3.10/dist-packages"
NVIDIA = "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
ONE = Workload().told({"local_ranks": 1}, "GPU device nodes")
EIGHT = Workload().told({"local_ranks": 8}, "GPU device nodes")
SRUN = Workload().told({"local_ranks": 8}, "SLURM_STEP_TASKS_PER_NODE")

HEALTHY = {
    "a plain shell": {"HOME": "/home/me", "PATH": "/usr/bin", "LANG": "C.UTF-8", "SHLVL": "1"},
    "NGC PyTorch": {
        "CUDA_VERSION": "12.4.1.003",
        "CUDA_DRIVER_VERSION": "550.54.15",
        "CUDA_CACHE_DISABLE": "1",
        "CUDA_HOME": "/usr/local/cuda",
        "CUDA_MODULE_LOADING": "LAZY",
        "_CUDA_COMPAT_PATH": "/usr/local/cuda/compat",
        "NCCL_VERSION": "2.21.5",
        "CUBLAS_VERSION": "12.4.5.8",
        "CUDNN_VERSION": "9.1.0.70",
        "CUTENSOR_VERSION": "2.0.1.2",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
        "NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS": "",
        "NVIDIA_PRODUCT_NAME": "PyTorch",
        "PYTORCH_BUILD_VERSION": "2.4.0a0+07cecf4168",
        "PYTORCH_VERSION": "2.4.0a0+07cecf4168",
        "PYTORCH_BUILD_NUMBER": "0",
        "PYTORCH_HOME": "/opt/pytorch/pytorch",
        "TORCH_CUDA_ARCH_LIST": "5.2 6.0 6.1 7.0 7.2 7.5 8.0 8.6 8.7 9.0+PTX",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
        "TORCH_CUDNN_V8_API_ENABLED": "1",
        "TORCH_NCCL_USE_COMM_NONBLOCKING": "0",
        "USE_EXPERIMENTAL_CUDNN_V8_API": "1",
        "OMPI_MCA_coll_hcoll_enable": "0",
        "UCC_CL_BASIC_TLS": "^sharp",
        "LIBRARY_PATH": "/usr/local/cuda/lib64/stubs:",
        LD: f"{DIST_PACKAGES}/torch/lib:/usr/local/cuda/compat/lib:{NVIDIA}",
    },
    "nvidia/cuda": {
        "NVARCH": "x86_64",
        "NV_LIBNCCL_PACKAGE_NAME": "libnccl2",
        "NV_LIBNCCL_PACKAGE_VERSION": "2.21.5-1",
        "NCCL_VERSION": "2.21.5-1",
        "CUDA_VERSION": "12.4.1",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_PRODUCT_NAME": "CUDA",
        LD: NVIDIA,
    },
    "a Slurm job": {
        "SLURM_JOB_ID": "4711",
        "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_CPUS_PER_TASK": "96",
        "SLURM_GPUS_PER_NODE": "h100:8",
        "SLURM_LOCALID": "0",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
        "NCCL_SOCKET_IFNAME": "eth0",
        "NCCL_IB_HCA": "=mlx5_0,mlx5_1",
        "NCCL_DEBUG": "WARN",
        "NCCL_ASYNC_ERROR_HANDLING": "1",
        "MASTER_ADDR": "gpu-01",
        "MASTER_PORT": "29500",
    },
    "SageMaker": {
        "SM_NUM_GPUS": "8",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_HP_MODEL_DIR": "/opt/ml/model",
        "NCCL_SOCKET_IFNAME": "eth0",
        "NCCL_IB_DISABLE": "1",
        "NCCL_PROTO": "simple",
        "FI_PROVIDER": "efa",
        "FI_EFA_USE_DEVICE_RDMA": "1",
        "RDMAV_FORK_SAFE": "1",
        LD: f"/usr/local/cuda/compat:/opt/amazon/efa/lib:/opt/aws-ofi-nccl/lib:{NVIDIA}",
    },
    "a Kubernetes pod": {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "CUDA_CACHE_PATH": "/cache",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "8",
        "NCCL_DEBUG": "INFO",
        "HF_HOME": "/cache/hf",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:512",
        "OMP_NUM_THREADS": "8",
    },
    "conda": {
        "CONDA_PREFIX": "/opt/conda/envs/train",
        "CONDA_DEFAULT_ENV": "train",
        "CUDA_PATH_V12_4": "/usr/local/cuda-12.4",
        "CUDA_HOME": "/usr/local/cuda-12.4",
        LD: "/usr/local/cuda-12.4/lib64:",
    },
    "ROCm": {
        "ROCM_PATH": "/opt/rocm",
        "ROCM_VERSION": "6.3.1",
        "PYTORCH_ROCM_ARCH": "gfx90a;gfx942",
        "HIP_VISIBLE_DEVICES": "0,1",
        "HSA_FORCE_FINE_GRAIN_PCIE": "1",
        "HSA_NO_SCRATCH_RECLAIM": "1",
        "HSA_ENABLE_SDMA": "0",
        "NCCL_MIN_NCHANNELS": "112",
        "NCCL_DEBUG": "ERROR",
        "NCCL_RINGS": "0 1|1 0",
        "RCCL_MSCCL_ENABLE": "1",
        "HIP_FORCE_DEV_KERNARG": "1",
        LD: "/opt/rocm/lib:/opt/ompi/lib",
    },
    "GKE with TCPXO": {
        "NCCL_FASTRAK_CTRL_DEV": "eth0",
        "NCCL_FASTRAK_NUM_FLOWS": "2",
        "NCCL_ALGO": "Ring",
        "NCCL_PROTO": "Simple",
        "NCCL_TUNER_CONFIG_PATH": "/usr/local/nvidia/lib64/tuner",
        "NCCL_NVLSTREE_MAX_CHUNKSIZE": "131072",
        LD: "/usr/local/nvidia/lib64",
    },
    "deterministic Megatron": {
        "NCCL_ALGO": "Ring",
        "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    },
    "another vendor's": {"HCCL_CONNECT_TIMEOUT": "600", "CCL_WORKER_COUNT": "1", "XCCL_X": "1"},
}


def seen(env: dict[str, str]) -> Environment:
    found = environment(Machine(env=env))
    assert isinstance(found, Environment)
    return found


def system(cpus: int, usable: int | None = None) -> System:
    return System(
        hostname="h",
        kernel="6",
        architecture="x86_64",
        cpus=cpus,
        cpus_usable=cpus if usable is None else usable,
    )


@pytest.mark.parametrize("env", HEALTHY.values(), ids=HEALTHY)
def test_healthy(env):
    found = seen(env)

    assert get("env-leftovers")(found, EIGHT).status is Status.PASS
    assert get("env-typos")(found).status is Status.PASS
    nccl = get("nccl-environment")(found, EIGHT, None, None, INFINIBAND, None)
    assert nccl.status is Status.PASS
    assert get("env-threads")(found, EIGHT, system(96), None).status is Status.PASS
    assert get("env-library-path")(found, None).status is Status.PASS


QUOTA = Cgroup(version=2, cpu_quota=4.0)
CPUSET = Cgroup(version=2, cpuset_cpus=16)


@pytest.mark.parametrize(
    ("env", "job", "machine", "cgroup", "status", "says"),
    [
        pytest.param({}, ONE, system(8), None, Status.PASS, "not set", id="laptop"),
        pytest.param({}, EIGHT, system(96), None, Status.PASS, "not set", id="torchrun to come"),
        pytest.param({}, SRUN, system(96), None, Status.WARN, "96 threads in each", id="srun"),
        pytest.param(
            {"SLURM_LOCALID": "3"}, SRUN, system(96, 12), None, Status.PASS, "12", id="srun, bound"
        ),
        pytest.param(
            {"OMP_NUM_THREADS": "12", "SLURM_LOCALID": "3"},
            SRUN,
            system(96, 12),
            None,
            Status.PASS,
            "12 threads in each of 8 ranks of 12 CPUs",
            id="srun, bound and set",
        ),
        pytest.param(
            {"OMP_NUM_THREADS": "24", "SLURM_LOCALID": "3"},
            SRUN,
            system(96, 12),
            None,
            Status.WARN,
            "24 threads",
            id="srun, more than bound to",
        ),
        pytest.param({"OMP_NUM_THREADS": "12"}, EIGHT, system(96), None, Status.PASS, "", id="fit"),
        pytest.param(
            {"OMP_NUM_THREADS": "16"}, EIGHT, system(96), None, Status.WARN, "16 threads", id="not"
        ),
        pytest.param({"OMP_NUM_THREADS": "1"}, EIGHT, system(4), None, Status.PASS, "", id="least"),
        pytest.param({"OMP_NUM_THREADS": "1"}, ONE, system(96), None, Status.PASS, "", id="one"),
        pytest.param(
            {"OMP_NUM_THREADS": "8,2"}, ONE, system(8), None, Status.PASS, "8", id="nested levels"
        ),
        pytest.param(
            {"OMP_NUM_THREADS": "auto"}, ONE, system(8), None, Status.WARN, "auto", id="no number"
        ),
        pytest.param({"OMP_NUM_THREADS": "0"}, ONE, system(8), None, Status.WARN, "=0", id="zero"),
        pytest.param(
            {"OMP_NUM_THREADS": "16"}, ONE, system(64), QUOTA, Status.WARN, "4 CPUs", id="quota"
        ),
        pytest.param({}, ONE, system(64), QUOTA, Status.WARN, "64 threads", id="quota, not set"),
        pytest.param({}, ONE, system(4), QUOTA, Status.PASS, "", id="quota of all there is"),
        pytest.param(
            {"LOCAL_RANK": "0", "OMP_NUM_THREADS": "2"},
            EIGHT,
            system(128, 16),
            CPUSET,
            Status.PASS,
            "2 CPUs",
            id="the container's cpuset binds no rank",
        ),
        pytest.param(
            {"LOCAL_RANK": "0", "OMP_NUM_THREADS": "16"},
            EIGHT,
            system(128, 16),
            CPUSET,
            Status.WARN,
            "2 CPUs",
            id="all ranks in one cpuset",
        ),
    ],
)
def test_threads(env, job, machine, cgroup, status, says):
    finding = get("env-threads")(seen(env), job, machine, cgroup)

    assert finding.status is status
    assert says in finding.summary


def test_threads_asks_for_what_fits():
    finding = get("env-threads")(seen({"OMP_NUM_THREADS": "64"}), EIGHT, system(96), None)

    assert finding.fix.settings == (EnvSet("OMP_NUM_THREADS", "12"),)


def listed(path: str, *libraries: str, **more) -> LibraryDir:
    return LibraryDir(path=path, exists=True, libraries=libraries, **more)


TOOLKIT = listed("/usr/local/cuda/lib64", "libnvJitLink.so.12", "libnvJitLink.so.12.1.105")
OLD_CUDNN = listed("/opt/cudnn", "libcudnn.so.9", "libcudnn.so.9.1.0")
NEW_CUDNN = listed("/opt/cudnn", "libcudnn.so.9", "libcudnn.so.9.20.0")
CUDNN_8 = listed("/opt/cudnn", "libcudnn.so.8", "libcudnn.so.8.9.7")
OLD_NCCL = listed("/opt/nccl", "libnccl.so.2", "libnccl.so.2.18.3")
STUBS = listed("/usr/local/cuda/lib64/stubs", "libcuda.so", "libcuda.so.1", is_stubs=True)
LINK_STUBS = listed("/usr/local/cuda/lib64/stubs", "libcuda.so", is_stubs=True)
DRIVER = listed("/usr/local/nvidia/lib64", "libcuda.so.1", "libcuda.so.550.54.15")
COMPAT = listed("/usr/local/cuda/compat", "libcuda.so.1", "libcuda.so.550.54.15", is_compat=True)
TORCH_2_5 = {"torch": "2.5.1+cu124", "nvidia-nvjitlink-cu12": "12.4.127"}
NO_TORCH = {"nvidia-nvjitlink-cu12": "12.4.127"}
TORCH_2_9 = {
    "torch": "2.9.1",
    "nvidia-nvjitlink-cu12": "12.8.93",
    "nvidia-cudnn-cu12": "9.10.2.21",
    "nvidia-nccl-cu12": "2.27.5",
}
CUDNN_WITH_RPATH = {**TORCH_2_9, "nvidia-cudnn-cu12": "9.23.0.39"}


@pytest.mark.parametrize(
    ("dirs", "packages", "status", "says"),
    [
        pytest.param([], TORCH_2_9, Status.PASS, "neither", id="not set"),
        pytest.param([TOOLKIT], {}, Status.PASS, "1 directory", id="job's Python has no wheels"),
        pytest.param([TOOLKIT], TORCH_2_5, Status.FAIL, "12.1.105 comes before", id="nvJitLink"),
        pytest.param([TOOLKIT], NO_TORCH, Status.PASS, "", id="nvJitLink, but no torch"),
        pytest.param([TOOLKIT], TORCH_2_9, Status.PASS, "", id="torch opens its own nvJitLink"),
        pytest.param([OLD_CUDNN], TORCH_2_9, Status.FAIL, "libcudnn 9.1.0", id="older cuDNN"),
        pytest.param([NEW_CUDNN], TORCH_2_9, Status.WARN, "libcudnn 9.20.0", id="newer cuDNN"),
        pytest.param([CUDNN_8], TORCH_2_9, Status.PASS, "", id="cuDNN of another major"),
        pytest.param([OLD_CUDNN], CUDNN_WITH_RPATH, Status.PASS, "", id="cuDNN with RPATH"),
        pytest.param([OLD_NCCL], TORCH_2_9, Status.WARN, "libnccl 2.18.3", id="older NCCL"),
        pytest.param(
            [listed("/v/lib/python3.12/site-packages/nvidia/cudnn/lib", "libcudnn.so.9")],
            TORCH_2_9,
            Status.PASS,
            "",
            id="the wheel's own directory",
        ),
        pytest.param([STUBS], {}, Status.FAIL, "a stub of libcuda.so.1", id="stub"),
        pytest.param([STUBS, DRIVER], {}, Status.FAIL, "a stub", id="stub before the driver"),
        pytest.param([DRIVER, STUBS], {}, Status.PASS, "2 directories", id="driver first"),
        pytest.param([LINK_STUBS], {}, Status.PASS, "", id="only libcuda.so, not .so.1"),
        pytest.param([COMPAT], {}, Status.PASS, "", id="forward compatibility may be right"),
        pytest.param(
            [LibraryDir(path="/nope", exists=False)], {}, Status.PASS, "", id="does not exist"
        ),
        pytest.param(
            [LibraryDir(path="/nfs", exists=False, answered=False)], {}, Status.PASS, "", id="hangs"
        ),
    ],
)
def test_library_path(dirs, packages, status, says):
    python = JobPython(path="p", chosen_by="PATH", packages=packages)

    finding = get("env-library-path")(Environment(library_dirs=tuple(dirs)), python)

    assert finding.status is status
    assert says in finding.summary


def test_library_path_without_what_hides_libraries():
    python = JobPython(path="p", chosen_by="PATH", packages=TORCH_2_5)
    both = Environment(library_dirs=(TOOLKIT, DRIVER))
    alone = Environment(library_dirs=(TOOLKIT,))

    assert get("env-library-path")(both, python).fix.settings == (EnvSet(LD, DRIVER.path),)
    assert get("env-library-path")(alone, python).fix.settings == (EnvUnset(LD),)


def test_library_path_says_what_it_could_not_judge():
    dirs = (COMPAT, LibraryDir(path="/nfs", exists=False, answered=False))

    finding = get("env-library-path")(Environment(library_dirs=dirs), None)

    assert "forward compatibility" in finding.evidence[0]
    assert "/nfs does not answer" in finding.evidence[1]


def test_preload_of_a_file_that_is_gone():
    found = Environment(preload=("/gone.so", "/lib/kept.so"), preload_missing=("/gone.so",))

    finding = get("env-library-path")(found, None)

    assert finding.status is Status.WARN
    assert finding.fix.settings == (EnvSet("LD_PRELOAD", "/lib/kept.so"),)
    assert "there is no /gone.so" in finding.summary
