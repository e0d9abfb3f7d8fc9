"""Look for GPU and RDMA device nodes."""

from gpudoctor.facts.devices import Devices
from gpudoctor.probes import Machine, probe

AMD = "0x1002"
_ASK_FOR_RDMA = ("NCCL_IB_HCA", "MELLANOX_VISIBLE_DEVICES", "FI_EFA_USE_DEVICE_RDMA")


@probe()
def devices(machine: Machine) -> Devices:
    """Device nodes by name; whether they open is another question."""
    nvidia = [name[6:] for name in machine.list("/dev") if name.startswith("nvidia")]
    render: list[str] = []
    if machine.exists("/dev/kfd"):
        nodes = [name for name in machine.list("/dev/dri") if name.startswith("renderD")]
        render = [name for name in nodes if _is_amd(machine, name)]
    return Devices(
        nvidia=tuple(sorted(int(number) for number in nvidia if number.isdecimal())),
        amd_render=tuple(render),
        rdma=tuple(n for n in machine.list("/dev/infiniband") if n.startswith("uverbs")),
        rdma_in_sysfs=tuple(machine.list("/sys/class/infiniband")),
        rdma_from_environment=tuple(
            name for name in _ASK_FOR_RDMA if machine.env.get(name, "") not in ("", "void", "none")
        ),
    )


def _is_amd(machine: Machine, name: str) -> bool:
    """Whether a render node is AMD's; where /sys does not tell, /dev/kfd speaks for it."""
    return machine.text(f"/sys/class/drm/{name}/device/vendor") in (AMD, None)
