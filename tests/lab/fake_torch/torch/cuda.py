from types import SimpleNamespace

from . import DEVICES, PLAN, at, clock


class nccl:  # noqa: N801
    @staticmethod
    def version():
        return tuple(PLAN["nccl"])


def is_available():
    at("is_available")
    return bool(DEVICES)


def init():
    at("init")
    if not DEVICES:
        raise RuntimeError("No CUDA GPUs are available")


def device_count():
    return len(DEVICES)


def get_device_properties(index):
    known = DEVICES[index]
    major, minor = known.get("cc", (9, 0))
    return SimpleNamespace(
        name=known.get("name", "NVIDIA H100 80GB HBM3"),
        major=major,
        minor=minor,
        total_memory=known.get("memory", 80 << 30),
        gcnArchName=known.get("gcn", ""),
        pci_domain_id=0,
        pci_bus_id=0x1B + known["number"],
        pci_device_id=0,
    )


def mem_get_info(index):
    memory = DEVICES[index].get("memory", 80 << 30)
    return memory - (1 << 30), memory


def utilization(index):
    return DEVICES[index].get("busy", 0)


class Event:
    def __init__(self, enable_timing=False):
        assert enable_timing

    def record(self):
        self.seconds = clock.seconds

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.seconds - self.seconds) * 1e3
