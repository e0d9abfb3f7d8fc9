"""GPUs on the bus: the width of their link, its errors, and where they stand."""

from gpudoctor import (
    Finding,
    Fix,
    Gpu,
    Gpus,
    PciBus,
    PciGpu,
    Status,
    check,
    count_of,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.gpu_models import gpu_model
from gpudoctor.rules.per_gpu import NO_GPU, Trouble, unread, which, worst

NARROW = 4  # times narrower than it could be: x4 of x16; less is slow, this is broken
BUSY = 50  # per cent; below, a GPU lowers its link's generation to save power
REPLAYS = 10_000  # since the driver was loaded; how fast they come is not known from one look

CHIPSET = [
    r"CANNOT Access Peer Device",
    r"peer access is not supported between these two devices",
    r"platform lacks GPU P2P capability",
    r"P2P is disabled between",
]


@check(
    owner="node",
    symptoms=[r"PCIe bandwidth, limited by", r"bandwidth .*downgraded", r"H2D .*slow"],
)
def gpu_pcie_width(gpus: Gpus, pci_bus: PciBus | None) -> Finding:
    """Every GPU's PCIe link is as wide as its slot allows.

    A link that came up with a part of its lanes gives a part of its bandwidth: batches reach
    the GPU late, its share of the step grows, and all other GPUs wait for it. The kernel
    says "available PCIe bandwidth, limited by ..." at boot, and nothing later.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _link(gpu, pci_bus)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "pcie_width", "pcie_width_max"):
        return gap
    widths = [link[0] for gpu in gpus.alive if (link := _width(gpu, pci_bus))]
    if not widths:
        return skip("no PCIe link can be seen: a virtual machine hides it, or there is none")
    models = {gpu.name: model for gpu in gpus.alive if (model := gpu_model(gpu.name))}
    could = [f"{n}: gen{m.pcie_gen} x{m.pcie_width}" for n, m in models.items() if m.pcie_width]
    each = " and ".join(f"x{width}" for width in sorted(set(widths)))
    return ok(f"{each} on {count_of(len(widths), 'GPU')}, all that the slots allow", could)


@check(owner="node", symptoms=[r"AER: .*Uncorrect(ed|able)", r"PCIe Bus Error: severity="])
def gpu_pcie_replay(gpus: Gpus, pci_bus: PciBus | None) -> Finding:
    """The GPUs' PCIe links carry data without errors.

    A bad contact or riser shows first as repeated packets, which cost only time, then as
    "PCIe Bus Error: severity=Uncorrected" and Xid 79, "GPU has fallen off the bus".
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if troubles := [trouble for gpu in gpus.alive for trouble in _errors(gpu, pci_bus)]:
        return worst(troubles)
    if gap := unread(gpus.alive, "pcie_replays"):
        return gap
    on_bus = [pci for gpu in gpus.alive if (pci := _on_bus(gpu, pci_bus))]
    replays = [gpu.pcie_replays for gpu in gpus.alive if gpu.pcie_replays is not None]
    fatal = [pci.aer_fatal for pci in on_bus if pci.aer_fatal is not None]
    if not replays and not fatal:
        return skip("neither driver nor kernel count errors of these links")
    seen = f"{max(replays) or 'no'} replays" if replays else "replays are not counted"
    return ok(f"{seen}, " + ("no error on the bus" if fatal else "errors are not counted here"))


@check(owner="node", symptoms=[r"NUMA (Affinity|node).*(N/A|-1)", r"numa_node.* -1\b"])
def gpu_numa(gpus: Gpus, pci_bus: PciBus) -> Finding:
    """It is known which NUMA node each GPU is near to.

    On a machine with several NUMA nodes each rank should run next to its GPU. Where the
    firmware or hypervisor does not say which node that is ("NUMA Affinity N/A" in nvidia-smi
    topo -m), launchers and NCCL guess, and copies cross the sockets.
    """
    if not gpus.alive:
        return skip(NO_GPU)
    if pci_bus.numa_nodes <= 1:
        return ok("one NUMA node: all GPUs are near to all CPUs")
    nodes = {which(gpu): _node(gpu, pci_bus) for gpu in gpus.alive if not gpu.integrated}
    homeless = [name for name, node in nodes.items() if node is None]
    evidence = [f"{name}: node {node}" for name, node in nodes.items() if node is not None]
    if not homeless:
        return ok(f"{pci_bus.numa_nodes} NUMA nodes, each GPU's is known", evidence)
    if gap := unread(gpus.alive, "numa_node"):
        return gap
    text = (
        "Have firmware (SRAT) or hypervisor (vNUMA) tell the GPUs' nodes; until then pin ranks"
        " by hand with numactl"
    )
    fix = Fix(text=text, commands=["nvidia-smi topo -m || amd-smi topology", "numactl --hardware"])
    summary = f"{pci_bus.numa_nodes} NUMA nodes, unknown for {count_of(len(homeless), 'GPU')}"
    return warn(summary, fix, evidence=[*homeless, *evidence], basis="rule-of-thumb")


@check(owner="node", symptoms=CHIPSET)
def gpu_p2p(gpus: Gpus) -> Finding:
    """GPUs that can reach each other's memory directly may do so.

    Without it ("peer access is not supported between these two devices") NCCL copies through
    /dev/shm: that works, but all-reduce is several times slower and needs a large /dev/shm.
    """
    if len(gpus.alive) < 2:
        return skip("it takes two GPUs" if gpus.alive else NO_GPU)
    if any(gpu.mig_enabled for gpu in gpus.alive):
        return skip("MIG slices have no direct access to each other, by design")
    known = [pair for pair in gpus.pairs if pair.p2p != "unknown"]
    if not known:
        return skip("the driver says nothing of access between these GPUs")
    bad = [pair for pair in known if pair.p2p != "ok"]
    if not bad:
        return ok(f"{count_of(len(known), 'pair')} of GPUs, all with direct access")
    names = {gpu.index: gpu.name for gpu in gpus.alive}
    models = [gpu_model(names.get(index, "")) for p in bad for index in (p.one, p.other)]
    evidence = [f"GPU {p.one} and {p.other}: {p.p2p}, path: {p.path or 'unknown'}" for p in bad]
    reasons = " and ".join(sorted({pair.p2p for pair in bad}))
    summary = f"{len(bad)} of {count_of(len(known), 'pair')} without: {reasons}"
    forbidden = any("disabled" in pair.p2p for pair in bad)
    if not forbidden and all(model and model.p2p is False for model in models):
        return ok(f"none, which is normal for {names[bad[0].one]}", evidence)
    if not forbidden and None in models:
        return skip(f"{summary}; whether this model should have it is not known")
    if not forbidden and not any(model and model.p2p for model in models):
        return ok(f"{summary}; this model has it on some machines only", evidence)
    return warn(
        summary,
        _permit(gpus.alive[0].vendor, forbidden),
        evidence=evidence[:10],
        basis="rule-of-thumb",
    )


def _on_bus(gpu: Gpu, bus: PciBus | None) -> PciGpu | None:
    found = (pci for pci in (bus.gpus if bus else ()) if pci.bus_id == gpu.bus_id)
    return next(found, None)


def _node(gpu: Gpu, bus: PciBus) -> int | None:
    pci = _on_bus(gpu, bus)
    return gpu.numa_node if gpu.numa_node is not None else pci.numa_node if pci else None


def _width(gpu: Gpu, bus: PciBus | None) -> tuple[int, int] | None:
    """Width and widest possible, from the driver, else from the bus."""
    if gpu.pcie_width and gpu.pcie_width_max:
        return gpu.pcie_width, gpu.pcie_width_max
    pci = _on_bus(gpu, bus)
    if pci and pci.link_width and pci.link_width_max:
        return pci.link_width, pci.link_width_max
    return None


def _link(gpu: Gpu, bus: PciBus | None) -> list[Trouble]:
    found: list[tuple[Status, str]] = []
    if (link := _width(gpu, bus)) and link[0] < link[1]:
        status = Status.FAIL if link[0] * NARROW <= link[1] else Status.WARN
        found.append((status, f"PCIe x{link[0]} of x{link[1]}"))
    now, most = gpu.pcie_gen, gpu.pcie_gen_max
    if now and most and now < most and (gpu.busy_percent or 0) >= BUSY:
        found.append((Status.WARN, f"PCIe gen{now} of gen{most} while it works"))
    text = "Have card and riser reseated, and the slot's settings in the firmware looked at"
    commands = (f"sudo lspci -vv -s {gpu.bus_id} | grep -E 'LnkCap|LnkSta'",) if gpu.bus_id else ()
    return [
        Trouble(status=status, gpu=gpu, words=words, text=text, commands=commands)
        for status, words in found
    ]


def _errors(gpu: Gpu, bus: PciBus | None) -> list[Trouble]:
    found: list[tuple[Status, str]] = []
    pci = _on_bus(gpu, bus)
    if pci and pci.aer_fatal:
        found.append((Status.FAIL, f"{count_of(pci.aer_fatal, 'fatal PCIe error')} since boot"))
    if pci and pci.aer_nonfatal:
        errors = count_of(pci.aer_nonfatal, "uncorrected PCIe error")
        found.append((Status.WARN, f"{errors} since boot, none fatal"))
    if (gpu.pcie_replays or 0) >= REPLAYS:
        found.append((Status.WARN, f"{gpu.pcie_replays} PCIe replays since the driver started"))
    text = "Have card, riser and cables reseated; drain the node if the count grows"
    commands = (f"cat /sys/bus/pci/devices/{gpu.bus_id}/aer_dev_*",) if gpu.bus_id else ()
    return [
        Trouble(
            status=status,
            gpu=gpu,
            words=words,
            text=text,
            commands=commands,
            basis="rule-of-thumb",
        )
        for status, words in found
    ]


def _permit(vendor: str, forbidden: bool) -> Fix:
    if vendor == "amd":
        text = "Boot with iommu=pt, and let the firmware map all of the GPUs' memory (large BAR)"
        return Fix(text=text, commands=["amd-smi topology", "cat /proc/cmdline"])
    if forbidden:
        return Fix(
            text="Take the option that forbids P2P out of the driver's, and load it again",
            commands=["grep -rn NVreg /etc/modprobe.d", "nvidia-smi topo -p2p r"],
        )
    return Fix(
        text="On bare metal switch PCIe ACS and the IOMMU's translation off (iommu=pt); in a"
        " virtual machine ask for GPUs with P2P; until then size /dev/shm for NCCL",
        commands=["nvidia-smi topo -p2p r", "nvidia-smi topo -m", "gpudoctor shm"],
    )
