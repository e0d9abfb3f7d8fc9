"""Healthy machines as the probes describe them; a test puts in the one thing that is wrong."""

from typing import Any

from msgspec.structs import replace

from gpudoctor import Gpu, Gpus, Link, Pair, PciBus, PciGpu

H100 = Gpu(
    vendor="nvidia",
    index=0,
    name="NVIDIA H100 80GB HBM3",
    arch="sm_90",
    busy_percent=0,
    ecc_enabled=True,
    ecc_pending=True,
    ecc_uncorrected=0,
    ecc_uncorrected_total=0,
    ecc_corrected_total=12,
    ecc_sram_uncorrected_total=0,
    rows_remapped=0,
    remap_pending=False,
    remap_failed=False,
    banks_exhausted=0,
    recovery_action="none",
    inforom_corrupt=False,
    throttle=("idle",),
    temperature_c=34,
    temperature_slowdown_c=89,
    temperature_memory_c=41,
    power_w=70.1,
    power_limit_w=700.0,
    power_default_w=700.0,
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replays=0,
    mig_enabled=False,
    links=tuple(Link(number=n, active=True, peer="switch", errors=0) for n in range(18)),
    fabric_state="completed",
)
# What a GeForce does not have is None: no ECC, no row remapping, no NVLink.
RTX_4090 = Gpu(
    vendor="nvidia",
    index=0,
    name="NVIDIA GeForce RTX 4090",
    arch="sm_89",
    busy_percent=1,
    inforom_corrupt=False,
    throttle=("idle",),
    temperature_c=38,
    temperature_slowdown_c=92,
    power_w=22.0,
    power_limit_w=450.0,
    power_default_w=450.0,
    pcie_gen=1,
    pcie_gen_max=4,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replays=3,
)
# On battery, asleep, and with eight lanes to its soldered place.
LAPTOP = replace(
    RTX_4090,
    name="NVIDIA GeForce RTX 4070 Laptop GPU",
    throttle=("idle",),
    power_limit_w=35.0,
    power_default_w=80.0,
    pcie_width=8,
    pcie_width_max=8,
)
MI300X = Gpu(
    vendor="amd",
    index=0,
    name="AMD Instinct MI300X",
    arch="gfx942",
    busy_percent=0,
    ecc_enabled=True,
    ecc_uncorrected=0,
    ecc_corrected_total=0,
    pages_retired=0,
    pages_pending=False,
    temperature_c=41,
    temperature_slowdown_c=100,
    temperature_memory_c=36,
    power_limit_w=750.0,
    power_default_w=750.0,
    pcie_gen=5,
    pcie_gen_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_replays=0,
    partition_compute="SPX",
    partition_memory="NPS1",
)


def bus_id(index: int) -> str:
    return f"0000:{0x1B + 8 * index:02x}:00.0"


def machine(model: Gpu, count: int = 1, p2p: str = "", sources: tuple[str, ...] = ()) -> Gpus:
    """So many GPUs of a model; Instincts are joined each with each."""
    devices = []
    for index in range(count):
        links = model.links
        if "Instinct" in model.name and count > 1:
            others = [bus_id(other) for other in range(count) if other != index]
            links = tuple(Link(number=n, active=True, peer=p) for n, p in enumerate(others))
        devices.append(replace(model, index=index, bus_id=bus_id(index), links=links))
    return Gpus(
        devices=tuple(devices),
        pairs=tuple(
            Pair(one=one, other=other, p2p=p2p)
            for one in range(count)
            for other in range(one + 1, count)
            if p2p
        ),
        driver="570.172.08" if model.vendor == "nvidia" else "",
        sources=sources or (("nvml",) if model.vendor == "nvidia" else ("kfd", "sysfs")),
    )


def but(found: Gpus, index: int = 0, **fields: Any) -> Gpus:
    """The same machine with one GPU changed."""
    devices = list(found.devices)
    devices[index] = replace(devices[index], **fields)
    return replace(found, devices=tuple(devices))


def bus(found: Gpus, numa_nodes: int = 1, **fields: Any) -> PciBus:
    """The PCI bus with these GPUs, all alike."""
    gpus = [
        PciGpu(bus_id=gpu.bus_id, vendor=gpu.vendor, device_id="0x2330", **fields)
        for gpu in found.devices
    ]
    return PciBus(gpus=tuple(gpus), numa_nodes=numa_nodes)


NONE = Gpus()
HGX = machine(H100, 8, p2p="ok")
DESKTOP = machine(RTX_4090)
NOTEBOOK = machine(LAPTOP)
INSTINCT = machine(MI300X, 8, p2p="ok")
# Windows tells nothing of the hardware's state.
WSL2 = machine(Gpu(vendor="nvidia", index=0, name="NVIDIA GeForce RTX 3080", arch="sm_86"))
SLICED = but(machine(H100), mig_enabled=True, mig_devices=7)
VGPU = machine(Gpu(vendor="nvidia", index=0, name="NVIDIA A40-48Q", arch="sm_86", pcie_width=0))
HEALTHY = {
    "8xH100 SXM": HGX,
    "GeForce desktop": DESKTOP,
    "laptop": NOTEBOOK,
    "8xMI300X": INSTINCT,
    "WSL2": WSL2,
    "MIG slice": SLICED,
    "vGPU": VGPU,
}
