"""probes/gpu_path.py on composed trees, on device nodes made for it, and on this machine."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gpudoctor import (
    Absent,
    Allocation,
    DeviceNodes,
    GpuLibraries,
    KernelDriver,
    KernelLog,
    Machine,
    PciBus,
    PciGpu,
)
from gpudoctor.collect import collect
from gpudoctor.data import table
from gpudoctor.probes import gpu_path, linker
from gpudoctor.probes import kernel_log as log
from gpudoctor.probes.pci import parse_errors, parse_generation

from . import record

RECORDED = Path(__file__).parent / "recorded" / "gpu"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.fixture
def planted(tmp_path):
    """The machine that a composed text describes."""

    def plant(name: str) -> Machine:
        record.plant((RECORDED / f"{name}.txt").read_text(), tmp_path)
        return Machine(str(tmp_path), env={})

    return plant


H100: dict[str, Any] = {
    "vendor": "nvidia",
    "device_id": "0x2330",
    "driver": "nvidia",
    "aer_fatal": 0,
}
WIDE: dict[str, Any] = {"link_width": 16, "link_width_max": 16, "link_gen": 5, "link_gen_max": 5}
MI300X: dict[str, Any] = {"vendor": "amd", "device_id": "0x74a1", "driver": "amdgpu"}
GEN4: dict[str, Any] = {"link_gen": 4, "link_gen_max": 4}

BUS = {
    "h100-sxm": PciBus(
        gpus=(
            PciGpu(bus_id="0000:1b:00.0", numa_node=0, aer_nonfatal=2, **H100, **WIDE),
            PciGpu(bus_id="0000:ab:00.0", numa_node=1, aer_nonfatal=2, **H100, **WIDE),
        ),
        nvswitches=1,
        numa_nodes=2,
        iommu="passthrough",
    ),
    "mi300x": PciBus(
        gpus=(
            PciGpu(bus_id="0000:05:00.0", numa_node=0, **MI300X, **WIDE),
            PciGpu(bus_id="0000:15:00.0", numa_node=1, **MI300X, **WIDE),
        ),
        numa_nodes=2,
        iommu="translated",
    ),
    # The one that sleeps is not woken for the state of its link.
    "laptop": PciBus(
        gpus=(
            PciGpu(
                bus_id="0000:01:00.0",
                vendor="nvidia",
                device_id="0x2520",
                driver="nvidia",
                link_width_max=8,
                link_gen_max=4,
            ),
            PciGpu(
                bus_id="0000:05:00.0",
                vendor="amd",
                device_id="0x1681",
                driver="amdgpu",
                link_width=16,
                link_width_max=16,
                **GEN4,
            ),
        ),
        iommu="off",
    ),
    "radeon": PciBus(
        gpus=(
            PciGpu(
                bus_id="0000:03:00.0",
                vendor="amd",
                device_id="0x744c",
                driver="amdgpu",
                link_width=8,
                link_width_max=8,
                **GEN4,
            ),
        )
    ),
    "nouveau": PciBus(
        gpus=(
            PciGpu(
                bus_id="0001:00:00.0",
                vendor="nvidia",
                device_id="0x20b2",
                driver="nouveau",
                numa_node=0,
                link_width=16,
                link_width_max=16,
                **GEN4,
            ),
        )
    ),
    "sriov-host": PciBus(
        gpus=(
            PciGpu(
                bus_id="0000:41:00.0",
                vendor="nvidia",
                device_id="0x2235",
                driver="nvidia",
                numa_node=0,
            ),
        )
    ),
    "wsl2": PciBus(),
    "none": PciBus(),
}
DRIVER = {
    "h100-sxm": KernelDriver(nvidia="570.172.08", nvidia_open=True, nvidia_uvm=True),
    "mi300x": KernelDriver(
        nvidia_uvm=False, amdgpu=True, amdgpu_version="6.12.12", kfd_gpus=("gfx942", "gfx942")
    ),
    "laptop": KernelDriver(nvidia="535.216.03", nvidia_open=False, nvidia_uvm=False, amdgpu=True),
    "radeon": KernelDriver(nvidia_uvm=False, amdgpu=True),
    "nouveau": KernelDriver(nvidia_uvm=False, nouveau=True),
    "sriov-host": KernelDriver(),
    "wsl2": KernelDriver(nvidia_uvm=False),
    "none": KernelDriver(nvidia_uvm=False),
}


@pytest.mark.parametrize("name", BUS)
def test_bus_and_driver(name, planted):
    machine = planted(name)

    assert gpu_path.pci_bus(machine) == BUS[name]
    assert gpu_path.kernel_driver(machine) == DRIVER[name]


@pytest.mark.parametrize(
    ("path", "text", "field", "expected"),
    [
        pytest.param("max_link_width", "4\n", "link_width_max", 4, id="slot narrower than the GPU"),
        pytest.param("max_link_speed", "8 GT/s\n", "link_gen_max", 3, id="older slot and kernel"),
        pytest.param("0000:1b:00.0/current_link_width", "63", "link_width", None, id="lost"),
        pytest.param("0000:1b:00.0/current_link_width", "4", "link_width", 4, id="trained down"),
        pytest.param("0000:1b:00.0/current_link_speed", "Unknown", "link_gen", None, id="no speed"),
        pytest.param(
            "0000:1b:00.0/aer_dev_fatal", "TLP 3\nTOTAL_ERR_FATAL 3", "aer_fatal", 3, id="errors"
        ),
    ],
)
def test_one_gpu(path, text, field, expected, planted, tmp_path):
    machine = planted("h100-sxm")
    (tmp_path / "sys/devices/pci0000:15/0000:15:01.0" / path).write_text(text)

    assert getattr(gpu_path.pci_bus(machine).gpus[0], field) == expected


@pytest.mark.parametrize(
    ("group", "cmdline", "expected"),
    [
        pytest.param("identity", "", "passthrough", id="what the group says"),
        pytest.param("DMA-FQ", "iommu=pt", "translated", id="the group knows better"),
        pytest.param("", "ro iommu=pt", "passthrough", id="older kernel"),
        pytest.param("", "ro intel_iommu=on", "translated", id="older kernel, translated"),
        pytest.param(None, "iommu=pt", "off", id="no group"),
    ],
)
def test_iommu(group, cmdline, expected, planted, tmp_path):
    machine = planted("h100-sxm")
    (tmp_path / "proc/cmdline").write_text(cmdline)
    for path in (tmp_path / "sys/devices").rglob("iommu_group/type"):
        path.unlink()
        if group:
            path.write_text(f"{group}\n")
        elif group is None:
            path.parent.rmdir()

    assert gpu_path.pci_bus(machine).iommu == expected


@pytest.mark.parametrize(
    ("name", "last", "expected"),
    [
        pytest.param("nouveau", "\x01", True, id="on"),
        pytest.param("nouveau", "\x00", False, id="off"),
        pytest.param("h100-sxm", "\x01", None, id="not asked: the module is there"),
        pytest.param("none", "\x01", None, id="not asked: no GPU"),
    ],
)
def test_secure_boot(name, last, expected, planted, tmp_path):
    machine = planted(name)
    path = tmp_path / SECURE_BOOT
    path.parent.mkdir(parents=True)
    path.write_text(f"\x06\x00\x00\x00{last}")

    assert gpu_path.kernel_driver(machine).secure_boot is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2.5 GT/s PCIe", 1, id="1"),
        pytest.param("5.0 GT/s PCIe", 2, id="2"),
        pytest.param("8 GT/s", 3, id="older kernel"),
        pytest.param("64.0 GT/s PCIe", 6, id="6"),
        pytest.param("Unknown", None, id="unknown"),
        pytest.param("Unknown speed", None, id="unknown, older kernel"),
        pytest.param(None, None, id="no such file"),
    ],
)
def test_generation(text, expected):
    assert parse_generation(text) == expected


def test_errors_of_a_kernel_without_them():
    assert parse_errors(None) is None
    assert parse_errors("") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC",
            ("470.256.02", False),
            id="proprietary",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.142  Release Build  (b)",
            ("580.142", True),
            id="open, two parts",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX Kernel Module for aarch64  34.1.1  Release Build",
            ("34.1.1", False),
            id="Jetson",
        ),
        pytest.param("GCC version:  gcc version 12.3.0", ("", None), id="nothing of it"),
        pytest.param("", ("", None), id="no module"),
    ],
)
def test_version(text, expected):
    assert gpu_path.parse_version(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "h100-sxm",
            ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1"],
            id="NVIDIA",
        ),
        pytest.param(
            "mi300x", ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD129"], id="AMD"
        ),
        pytest.param("wsl2", ["/dev/dxg"], id="WSL"),
        pytest.param("none", [], id="none"),
    ],
)
def test_nodes(name, expected, planted):
    assert gpu_path.node_paths(planted(name)) == expected


def test_groups_by_number(planted):
    text = planted("mi300x").read("/etc/group")

    assert gpu_path.parse_groups(text) == {"video": 44, "render": 109}


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open these paths as if they were nodes of a GPU."""

    def look(*names: str) -> DeviceNodes:
        paths = [str(tmp_path / name) for name in names]
        monkeypatch.setattr(gpu_path, "node_paths", lambda machine: paths)
        found = gpu_path.device_nodes(Machine())
        assert isinstance(found, DeviceNodes)
        return found

    return look


def test_nodes_are_opened_and_not_made(opened, tmp_path):
    (tmp_path / "nvidia0").write_text("")
    (tmp_path / "nvidia0").chmod(0o660)
    (tmp_path / "nvidia1").mkdir()
    os.mkfifo(tmp_path / "nvidia2")  # O_NONBLOCK does not wait for a writer
    found = opened("nvidia0", "nvidia1", "nvidia2", "nvidia3").nodes

    assert [node.error.partition(":")[0] for node in found] == ["", "EISDIR", "", "ENOENT"]
    assert (found[0].mode, found[0].uid) == ("0660", os.getuid())
    assert not (tmp_path / "nvidia3").exists()


def test_a_node_for_others_only(opened, tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may open everything")
    (tmp_path / "kfd").touch(mode=0o000)

    assert opened("kfd").nodes[0].error == "EACCES: Permission denied"


def test_a_node_without_a_driver(opened, tmp_path):
    try:
        os.mknod(tmp_path / "nvidiactl", stat.S_IFCHR | 0o666, os.makedev(195, 255))
    except PermissionError:
        pytest.skip("making device nodes needs root")
    (node,) = opened("nvidiactl").nodes
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("there is a driver here")

    # EPERM: a device cgroup; EACCES: a file system mounted with nodev.
    assert node.error.partition(":")[0] in ("ENXIO", "EPERM", "EACCES")


def test_the_log_of_this_kernel():
    try:
        lines = list(log.kmsg(Machine()))
        same = log.klogctl()
    except OSError as error:
        pytest.skip(f"the kernel's log is not for us: {error}")

    assert lines
    assert same


def test_what_the_log_says(planted):
    found = gpu_path.kernel_log(planted("h100-sxm"))

    assert isinstance(found, KernelLog)
    assert found.source == "/dev/kmsg"
    assert [line.partition("] ")[2][:24] for line in found.lines] == [
        "NVRM: loading NVIDIA UNI",
        "pcieport 0000:a5:01.0: A",
        "NVRM: Xid (PCI:0000:1b:0",
        "NVRM: GPU 0000:1b:00.0: ",
        "nvidia-nvswitch0: SXid (",
    ]
    assert found.lines[2].startswith("[86400.000123] NVRM")


def test_what_the_log_says_of_amd(planted):
    found = gpu_path.kernel_log(planted("mi300x"))

    assert isinstance(found, KernelLog)
    assert [line.partition("amdgpu: ")[2][:10] for line in found.lines] == [
        "GPU reset ",
        "ring sdma0",
    ]


def test_the_newest_lines_are_kept():
    lines = [f"NVRM: Xid (PCI:0000:05:00): 31, {number}" for number in range(500)]

    assert log.of_gpus(lines) == tuple(lines[-log.MOST_LINES :])


def test_no_log_in_a_container(planted):
    found = gpu_path.kernel_log(planted("nouveau"))

    assert isinstance(found, Absent)
    assert found.absent.startswith("there is no /dev/kmsg here")
    assert not found.broken


@pytest.mark.parametrize(
    ("number", "restrict", "expected"),
    [
        pytest.param(errno.EPERM, "1", "kernel.dmesg_restrict is 1", id="restricted"),
        pytest.param(errno.EACCES, "0", "EACCES: Permission denied", id="mode of the node"),
        pytest.param(errno.ENOENT, "1", "there is no /dev/kmsg here", id="container"),
        pytest.param(errno.ENODEV, None, "ENODEV", id="a terminal"),
    ],
)
def test_why_there_is_no_log(number, restrict, expected):
    error = OSError(number, os.strerror(number))

    assert expected in gpu_path.why_unreadable(error, restrict)


def test_a_terminal_is_not_the_log(tmp_path):
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/kmsg")

    with pytest.raises(OSError, match="not the kernel's log"):
        next(log.kmsg(Machine(str(tmp_path))))


@pytest.mark.parametrize(
    ("record_", "expected"),
    [
        pytest.param("6,339,5140900,-;text\n SUBSYSTEM=pci", "[    5.140900] text", id="usual"),
        pytest.param("4,1,86400000123,c,caller=T1;a;b", "[86400.000123] a;b", id="semicolon"),
        pytest.param("[    5.140900] NVRM: x", "[    5.140900] NVRM: x", id="of dmesg"),
    ],
)
def test_record(record_, expected):
    assert log.parse_record(record_) == expected


UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("env", "expected", "told_by"),
    [
        pytest.param({}, None, "", id="laptop"),
        pytest.param({"SLURM_GPUS_ON_NODE": "8"}, 8, "SLURM_GPUS_ON_NODE", id="Slurm"),
        pytest.param({"SLURM_STEP_GPUS": "0,1,2-3"}, 4, "SLURM_STEP_GPUS", id="Slurm's list"),
        pytest.param({"SLURM_GPUS_PER_NODE": "h100:4"}, 4, "SLURM_GPUS_PER_NODE", id="with type"),
        pytest.param(
            {"SLURM_GPUS_ON_NODE": "8", "SLURM_GPUS_PER_TASK": "1"},
            1,
            "SLURM_GPUS_PER_TASK",
            id="a task of its own",
        ),
        pytest.param(
            {"SLURM_GPUS_ON_NODE": "8", "SLURM_TRES_PER_TASK": "cpu:8,gres/gpu:h100:2"},
            2,
            "SLURM_TRES_PER_TASK",
            id="a task of its own, since 23.11",
        ),
        pytest.param(
            {"SLURM_GPUS_ON_NODE": "8", "SLURM_GPU_BIND": "single:1"}, None, "", id="bound"
        ),
        pytest.param(
            {"SLURM_GPUS_ON_NODE": "8", "SLURM_GPU_BIND": "none"},
            8,
            "SLURM_GPUS_ON_NODE",
            id="not bound",
        ),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "all"}, None, "", id="every CUDA image"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "void"}, None, "", id="CDI"),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "none"}, None, "", id="none"),
        pytest.param(
            {"NVIDIA_VISIBLE_DEVICES": f"{UUID},{UUID}"},
            2,
            "NVIDIA_VISIBLE_DEVICES",
            id="Kubernetes' device plugin",
        ),
        pytest.param({"NVIDIA_VISIBLE_DEVICES": "0:0,0:1"}, 2, "NVIDIA_VISIBLE_DEVICES", id="MIG"),
        pytest.param(
            {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"},
            None,
            "",
            id="volume mounts",
        ),
        pytest.param({"AMD_VISIBLE_DEVICES": "0-3"}, 4, "AMD_VISIBLE_DEVICES", id="AMD's toolkit"),
        pytest.param({"SLURM_GPUS_ON_NODE": "what"}, None, "", id="nonsense"),
    ],
)
def test_promise(env, expected, told_by):
    machine = Machine(env={"SLURMD_NODENAME": "gpu01", **env})
    found = gpu_path.allocation(machine)

    assert (found.expected, found.told_by) == (expected, told_by)


def test_a_shell_of_salloc_has_no_gpus_on_its_node():
    env = {"SLURM_JOB_ID": "7", "SLURM_GPUS_PER_NODE": "8", "SLURM_GPUS_PER_TASK": "1"}

    assert gpu_path.allocation(Machine(env={**env, "PATH": ""})) == Allocation()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"LOCAL_RANK": "3", "SLURM_LOCALID": "0"}, 3, id="torchrun in Slurm"),
        pytest.param({"SLURM_LOCALID": "2"}, 2, id="srun"),
        pytest.param({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 1, id="mpirun"),
        pytest.param({"LOCAL_RANK": "-1"}, None, id="not one of several"),
    ],
)
def test_local_rank(env, expected):
    assert gpu_path.allocation(Machine(env=env)).local_rank == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"PATH": "/bin:/opt/slurm/bin"}, "slurm", id="login node"),
        pytest.param({"PATH": "/opt/slurm/bin", "SLURM_JOB_ID": "7"}, "slurm", id="salloc"),
        pytest.param({"PATH": "/opt/slurm/bin", "SLURMD_NODENAME": "gpu01"}, "", id="task"),
        pytest.param({"PATH": "/bin"}, "", id="no Slurm"),
    ],
)
def test_scheduler(env, expected, tmp_path):
    (tmp_path / "opt/slurm/bin").mkdir(parents=True)
    (tmp_path / "opt/slurm/bin/srun").touch()

    assert gpu_path.allocation(Machine(str(tmp_path), env=env)).scheduler == expected


def test_variables_stay_as_they_are():
    env = {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "0, 1", "HOME": "/root"}
    found = gpu_path.allocation(Machine(env=env))

    assert found.visible == {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "0, 1"}


MAPS = """\
7f00-7f01 r--p 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6
7f02-7f03 r--p 00000000 08:01 13 {}
7f04-7f05 rw-p 00000000 00:00 0
"""


@pytest.mark.parametrize(
    ("file", "version", "compat"),
    [
        pytest.param("/usr/lib64/libcuda.so.570.172.08", "570.172.08", False, id="driver"),
        pytest.param("/opt/my libs/libcuda.so.580.142", "580.142", False, id="space"),
        pytest.param("/usr/local/cuda-13.0/compat/libcuda.so.580.95.05", "580.95.05", True, id="c"),
        pytest.param("/opt/conda/cuda-compat/libcuda.so.580.95.05", "580.95.05", True, id="conda"),
        pytest.param("/usr/lib/wsl/lib/libcuda.so.1.1", "", False, id="WSL"),
        pytest.param("/usr/local/cuda/lib64/stubs/libcuda.so", "", False, id="stub"),
    ],
)
def test_the_file_behind_a_library(file, version, compat):
    assert linker.parse_maps(MAPS.format(file), "libcuda.so.1") == file
    assert linker.version_of(file) == version
    assert linker.is_compat(file) is compat


def test_a_library_that_is_not_mapped():
    assert linker.parse_maps(MAPS.format("/usr/lib/libcudart.so.12"), "libcuda.so.1") == ""


@pytest.mark.parametrize(
    ("path", "env"),
    [
        pytest.param("opt/driver/libcuda.so.1", {"LD_LIBRARY_PATH": ":/opt/driver"}, id="variable"),
        pytest.param("usr/lib64/libcuda.so.1", {}, id="usual place"),
        pytest.param("etc/ld.so.cache", {}, id="cache"),
    ],
)
def test_a_library_in_sight(path, env, tmp_path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("glibc-ld.so.cache1.1 libcuda.so.1 /usr/lib")

    assert linker.in_sight(Machine(str(tmp_path), env=env), ["libcuda.so.1"])
    assert not linker.in_sight(Machine(str(tmp_path), env=env), ["libamdhip64.so"])


def test_what_is_loaded_first_is_told():
    found = linker.load("libgpudoctor-missing.so.1", "libc.so.6")

    assert found.handle is not None
    assert "libc" in found.file
    assert found.error == ""


def test_an_empty_file_is_said_to_be_too_short(tmp_path):
    (tmp_path / "libcuda.so.1").touch()
    found = linker.load("libgpudoctor-missing.so", str(tmp_path / "libcuda.so.1"))

    assert found.handle is None
    assert found.error.endswith("file too short")


FROM_ROOT = (
    gpu_path.device_nodes,
    gpu_path.gpu_libraries,
    gpu_path.cuda_init,
    gpu_path.hip_init,
)


@pytest.mark.parametrize("probe", FROM_ROOT, ids=lambda probe: probe.look.__name__)
def test_not_from_root(probe, planted):
    found = probe(planted("h100-sxm"))

    assert isinstance(found, Absent)
    assert not found.broken


def test_this_machine():
    probes = [value for value in vars(gpu_path).values() if isinstance(value, type(FROM_ROOT[0]))]
    found = collect(probes, Machine()).facts

    assert len(found) == 8
    assert not [fact for fact in found.values() if isinstance(fact, Absent) and fact.broken]
    assert isinstance(found["gpu_libraries"], GpuLibraries)


@pytest.mark.parametrize("name", ["xid", "cuda_codes"])
def test_tables_of_codes(name):
    rows = table(name)["codes"]

    assert table(name)["as_of"]
    assert [row["code"] for row in rows] == sorted({row["code"] for row in rows})
    assert all(row["meaning"] and row["source"] for row in rows)
    if name == "xid":
        assert {row["severity"] for row in rows} == {"fail", "warn", "info"}
        assert all(row["action"] for row in rows)
    else:
        assert all(row["name"] and row["runtime"] for row in rows)
