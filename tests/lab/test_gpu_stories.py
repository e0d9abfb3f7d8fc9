"""What a user is told who finds no GPU: the whole command line over a machine with two H100.

The kernel's side is a recorded tree laid over /sys, /dev and /proc; the libraries are ours.
"""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gpudoctor import EnvUnset, GpuDevices, Status
from gpudoctor.report import Report, Result
from tests.probes.record import plant

from .conftest import DRIVER, report_of
from .fake_sysfs.over import laid_over
from .nvml import FAKE

RECORDED = Path(__file__).parent.parent / "probes/recorded/gpu/h100-sxm.txt"
RUNGS = (
    "PCI bus",
    "kernel driver",
    "device nodes",
    "permission",
    "user library",
    "NVML",
    "variables",
    "CUDA",
)
PASS, FAIL, SKIP = Status.PASS, Status.FAIL, Status.SKIP
AS_USER = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")

Plant = Callable[..., Path]
Tell = Callable[..., Report]


@pytest.fixture
def planted(public) -> Plant:
    """`planted(module)`: a tree with two GPUs and the kernel module of that version."""

    def make(module: str = DRIVER) -> Path:
        root = Path(tempfile.mkdtemp(prefix="h100-", dir=public))
        root.chmod(0o755)
        text = RECORDED.read_text().replace("570.172.08", module)
        plant(text.replace("TOTAL_ERR_NONFATAL 2", "TOTAL_ERR_NONFATAL 0"), root)
        return root

    return make


@pytest.fixture
def drivers(libnvidia_ml, libcuda, public) -> Callable[..., dict[str, str]]:
    """`drivers(*lines, **cuda)`: variables that lead to NVML with these lines, and to libcuda."""

    def lead(*lines: str, **cuda: int) -> dict[str, str]:
        config = public / "gpus.conf"
        healthy = (FAKE / "h100x2.conf").read_text().replace("0000:43:00.0", "0000:ab:00.0")
        config.write_text("\n".join([healthy, *lines, ""]))
        return {
            "LD_LIBRARY_PATH": f"{libnvidia_ml}:{libcuda}",
            "FAKE_NVML_CONFIG": str(config),
            **{f"FAKE_CUDA_{name}": str(value) for name, value in {"COUNT": 2, **cuda}.items()},
        }

    return lead


@pytest.fixture
def on_node(planted, in_mounts, installed, require, public) -> Tell:
    """`on_node(...)`: what `gpudoctor check gpu` reports on the node itself."""
    require(os.geteuid() == 0, "device nodes and mounts over /sys need root")

    def tell(
        env: dict[str, str], nodes: str = "", module: str = DRIVER, under: tuple[str, ...] = ()
    ) -> Report:
        script = laid_over(planted(module), nodes)
        command = [*under, f"{installed}/bin/gpudoctor", "check", "-f", "json", "gpu"]
        path = {"PATH": os.environ["PATH"], "HOME": str(public)}
        return report_of(in_mounts(script, command, env={**path, **env}))

    return tell


def ended(report: Report, id_: str = "gpu-visible") -> tuple[Result, str, str]:
    """A result, the rung where its ladder stops, and the fix's words."""
    (result,) = [result for result in report.results if result.id == id_]
    broken = [rung.name for rung in result.ladder if rung.status is FAIL]
    if result.ladder:
        assert tuple(rung.name for rung in result.ladder) == RUNGS
        reached = [rung.detail != "not reached" for rung in result.ladder]
        assert reached == sorted(reached, reverse=True)
    words = [word for fix in result.fixes for word in (fix.text, *fix.commands)]
    return result, "".join(broken), "\n".join(words)


def alarms(report: Report) -> set[str]:
    return {result.id for result in report.results if result.status not in (PASS, SKIP)}


def test_all_is_well(on_node, drivers):
    report = on_node(drivers())
    result, stops, _ = ended(report)

    assert (result.status, result.summary, stops) == (PASS, "2 x NVIDIA H100 80GB HBM3", "")
    assert alarms(report) == set()


@pytest.mark.parametrize("expected", [False, True], ids=["by mistake", "on purpose"])
def test_login_node(expected, in_mounts, installed, require, tmp_path):
    require(os.geteuid() == 0, "mounts over /sys need root")
    if Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists():
        pytest.skip("this machine has GPUs")
    (tmp_path / "srun").touch(0o755)
    expect = ["--expect", "gpus=0"] if expected else []
    command = [f"{installed}/bin/gpudoctor", "check", "-f", "json", "gpu", *expect]
    env = {"PATH": f"{os.environ['PATH']}:{tmp_path}"}
    report = report_of(in_mounts("mount -t tmpfs tmpfs /sys/bus/pci", command, env=env))
    result, stops, fix = ended(report)

    assert alarms(report) == (set() if expected else {"gpu-visible"})
    assert report.exit_code == (0 if expected else 1)
    if expected:
        assert result.summary == "none is expected"
    else:
        assert (result.summary, stops) == ("no NVIDIA or AMD GPU on the PCI bus", "PCI bus")
        assert "it looks like a login node" in result.evidence[0]
        assert "srun --gres=gpu:1 gpudoctor check" in fix
        assert "gpudoctor check --expect gpus=0" in fix


def test_container_without_the_gpus(planted, podman, installed):
    root = planted()
    script = f"""
        mount -t overlay -o lowerdir={root}/sys:/sys overlay /sys
        mount --bind {root}/proc/driver /proc/driver
        exec /opt/gpudoctor/bin/python -m gpudoctor check "$@" gpu
    """
    flags = [f"--volume={root}:{root}:ro", "--cap-add=SYS_ADMIN", "--env=CUDA_VISIBLE_DEVICES="]
    flags += ["--security-opt=apparmor=unconfined", "--security-opt=seccomp=unconfined"]
    shell = ["sh", "-ec", script, "sh"]
    result, stops, fix = ended(report := report_of(podman(flags, [*shell, "-f", "json"])))
    page = " ".join(podman(flags, shell).stdout.split())

    assert (result.status, result.owner, stops) == (FAIL, "launch", "device nodes")
    assert result.summary.startswith("no /dev/nvidia")
    assert alarms(report) == {"gpu-visible"}
    assert result.settings == (GpuDevices("nvidia"),)
    assert "podman run --device nvidia.com/gpu=all" in fix
    assert "Fix: Start the container with: podman run --device nvidia.com/gpu=all" in page
    assert re.search(
        r"PCI bus 2 NVIDIA GPUs .*kernel driver nvidia 580\.95\.05 .*not reached", page
    )


def test_nodes_are_root_s_alone(on_node, drivers):
    nodes = "chmod 0600 nvidia0 nvidia1 nvidiactl nvidia-uvm"
    report = on_node(drivers("err.nvmlInit=4", INIT=100), nodes, under=AS_USER)
    result, stops, fix = ended(report)
    permission, _, _ = ended(report, "gpu-permission")

    assert (result.status, result.owner, stops) == (FAIL, "node", "permission")
    assert result.summary == "/dev/nvidiactl may not be opened: mode 0600, uid 0"
    assert alarms(report) == {"gpu-visible", "gpu-permission"}
    assert permission.summary == result.summary
    assert "chmod 0666 /dev/nvidia*" in fix


def test_driver_was_updated_and_not_loaded(on_node, drivers):
    report = on_node(drivers("err.nvmlInit=18", INIT=803), module="575.57.08")
    result, stops, fix = ended(report)
    driver, _, _ = ended(report, "gpu-driver")

    assert (result.status, result.owner, stops) == (FAIL, "node", "NVML")
    assert result.summary == "module 575.57.08, libnvidia-ml 580.95.05 and libcuda 580.95.05"
    assert alarms(report) == {"gpu-visible", "gpu-driver", "gpu-init"}
    assert driver.summary == result.summary
    assert "reboot" in fix


def test_no_fabric_manager(on_node, drivers):
    report = on_node(drivers("gpu.fabric_state=2", INIT=802))
    result, stops, fix = ended(report)
    init, _, _ = ended(report, "gpu-init")

    assert (result.status, result.owner, stops) == (FAIL, "node", "CUDA")
    assert result.summary == "cuInit() returns 802, CUDA_ERROR_SYSTEM_NOT_READY"
    assert {"gpu-visible", "gpu-init"} <= alarms(report)
    assert init.summary == result.summary
    assert "systemctl enable --now nvidia-fabricmanager" in fix


def test_variable_hides_all(on_node, drivers):
    report = on_node({**drivers(INIT=100), "CUDA_VISIBLE_DEVICES": ""})
    result, stops, _ = ended(report)

    assert (result.status, result.owner, stops) == (FAIL, "launch", "variables")
    assert result.summary == "CUDA_VISIBLE_DEVICES is empty: it hides all"
    assert result.settings == (EnvUnset("CUDA_VISIBLE_DEVICES"),)
