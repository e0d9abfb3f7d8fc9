"""How fast each GPU copies and multiplies, against others of its model and against its peers."""

from collections.abc import Callable, Sequence

from gpudoctor import (
    Finding,
    Gpu,
    GpuRates,
    Gpus,
    GpuSpeed,
    Rate,
    Status,
    check,
    count_of,
    ok,
    skip,
    unknown,
)
from gpudoctor.rules.gpu_speeds import behind, beside, expected, expected_copy, gpu_of, warn_share
from gpudoctor.rules.per_gpu import Trouble, which, worst

BEHIND_WARN, BEHIND_FAIL = 0.1, 0.2  # below the median of the others: Azure's check_gpu_bw limits
BEHIND_COPY = 0.2  # for copies, which also depend on the CPU and the slot next to the GPU
BUSY = 20  # per cent, before we began: whoever that is may well slow a GPU by a fifth
NAMES = {
    "h2d_gbs": "GB/s from the host",
    "d2h_gbs": "GB/s to the host",
    "memory_gbs": "GB/s in its memory",
    "matmul_tflops": "TFLOP/s in products",
}
LATE = r"Watchdog caught collective operation timeout"

Wanted = Callable[[GpuRates, Gpu], float | None]


@check(
    owner="node", symptoms=[r"PCIe bandwidth, limited by", r"H2D .*slow", r"data.?loading.*slow"]
)
def gpu_copy(gpu_speed: GpuSpeed, gpus: Gpus | None) -> Finding:
    """Copies between host and GPU are as fast as the GPU's PCIe link.

    A link that came up slower than it says, or a GPU far from its CPUs, brings every batch late
    and makes offloading and checkpoints slow; the kernel then says "PCIe bandwidth, limited by".
    """

    def wanted(rates: GpuRates, gpu: Gpu) -> float | None:
        return expected_copy(gpu)

    text = "Have card, riser and the slot's firmware settings looked at"
    return _judged(gpu_speed, gpus, ("h2d_gbs", "d2h_gbs"), "copy", wanted, text)


@check(owner="node", symptoms=[LATE, r"memory.?bandwidth .*(low|degraded)"])
def gpu_memory_speed(gpu_speed: GpuSpeed, gpus: Gpus | None) -> Finding:
    """Every GPU's memory is as fast as that of its model.

    Memory with clocks held down, or with errors that are corrected all the time, slows most
    layers. All ranks wait for the slowest GPU, at worst until "Watchdog caught collective
    operation timeout".
    """

    def wanted(rates: GpuRates, gpu: Gpu) -> float | None:
        return expected(rates.name, "memory_gbs")

    text = "Keep the GPU out of jobs, and have clocks, heat and memory errors looked at"
    return _judged(gpu_speed, gpus, ("memory_gbs",), "memory", wanted, text)


@check(owner="node", symptoms=[LATE, r"(SW Power Cap|SW Thermal Slowdown)", r"straggler"])
def gpu_matmul(gpu_speed: GpuSpeed, gpus: Gpus | None) -> Finding:
    """Every GPU multiplies as fast as its model does.

    A GPU that heat, its power supply or a lowered limit slows down looks healthy while it is
    idle. In a job all others wait for it in each step: half its speed is half the job's, at
    worst until "Watchdog caught collective operation timeout".
    """

    def wanted(rates: GpuRates, gpu: Gpu) -> float | None:
        return expected(rates.name, "matmul_tflops")

    text = "Keep the GPU out of jobs, and have clocks, heat and power feed looked at"
    return _judged(gpu_speed, gpus, ("matmul_tflops",), "matmul", wanted, text)


def _judged(
    speed: GpuSpeed,
    gpus: Gpus | None,
    figures: Sequence[str],
    kind: str,
    wanted: Wanted,
    text: str,
) -> Finding:
    known = {rates.index: gpu_of(rates, gpus) for rates in speed.devices}
    failed = [f"{which(known[r.index])}: {r.error}" for r in speed.devices if r.error]
    if speed.unfinished:
        failed.append(speed.unfinished)
    found: dict[int, list[Trouble]] = {}
    for rates in speed.devices:
        gpu = known[rates.index]
        for figure in figures:
            if words := _slow(speed, rates, known, figure, kind, wanted(rates, gpu)):
                trouble = _trouble(words, gpu, text, kind)
                found.setdefault(rates.index, []).append(trouble)
    if found:
        slow = [rates for rates in speed.devices if rates.index in found]
        also = [line for rates in slow for line in beside(speed, rates, known[rates.index])]
        troubles = [trouble for each in found.values() for trouble in each]
        context = [*_each(slow, known, figures), *also, *failed]
        return worst(troubles, dict.fromkeys(context))
    if failed:
        return unknown(failed[0])
    said = _lowest(speed, figures)
    unjudged = [r for r in speed.devices if wanted(r, known[r.index]) is None]
    if unjudged:
        what = f"the PCIe link of GPU {known[unjudged[0].index].index}"
        what = what if kind == "copy" else unjudged[0].name or "this model"
        return skip(f"{said}; what {what} should reach is not known")
    return ok(said, _each(speed.devices, known, figures))


def _slow(
    speed: GpuSpeed,
    rates: GpuRates,
    known: dict[int, Gpu],
    figure: str,
    kind: str,
    wanted: float | None,
) -> tuple[Status, str] | None:
    """How bad and what, if all rounds were below what the model or its peers reach."""
    rate: Rate | None = getattr(rates, figure)
    if rate is None:
        return None
    unit, own = NAMES[figure], known[rates.index]
    peers = [
        peer
        for other in speed.devices
        if other.index != rates.index
        and (other.name, other.matmul_type) == (rates.name, rates.matmul_type)
        and (kind != "copy" or _link(known[other.index]) == _link(own))
        and (peer := getattr(other, figure))
    ]
    gap = behind(rate, peers)
    if kind != "copy" and gap > BEHIND_WARN:
        alone = not _is_disturbed(speed, rates)
        status = Status.FAIL if gap > BEHIND_FAIL and alone else Status.WARN
        return status, f"{rate.best:.0f} {unit}, {gap:.0%} below its peers"
    if wanted and rate.best < warn_share(kind) * wanted:
        return Status.WARN, f"{rate.best:.0f} {unit}, {wanted:.0f} expected"
    if gap > BEHIND_COPY:
        return Status.WARN, f"{rate.best:.0f} {unit}, {gap:.0%} below its peers"
    return None


def _is_disturbed(speed: GpuSpeed, rates: GpuRates) -> bool:
    crowded = speed.load_average is not None and speed.load_average > (speed.cpus or 1)
    return crowded or (rates.busy_percent or 0) >= BUSY


def _trouble(slow: tuple[Status, str], gpu: Gpu, text: str, kind: str) -> Trouble:
    where = gpu.bus_id or gpu.index
    commands = [f"nvidia-smi -i {where} -q -d PERFORMANCE,CLOCK,POWER,TEMPERATURE"]
    if gpu.vendor == "amd":
        commands = [f"amd-smi metric --gpu {gpu.index} --clock --power --temperature"]
    if kind == "copy" and gpu.bus_id:
        commands = [f"sudo lspci -vv -s {gpu.bus_id} | grep -E 'LnkCap|LnkSta'"]
    return Trouble(
        status=slow[0],
        gpu=gpu,
        words=slow[1],
        text=text,
        commands=tuple(commands),
        basis="rule-of-thumb",
    )


def _link(gpu: Gpu) -> tuple[int | None, int | None]:
    return gpu.pcie_gen_max, gpu.pcie_width


def _lowest(speed: GpuSpeed, figures: Sequence[str]) -> str:
    lows = []
    for figure in figures:
        rates = [rate.best for device in speed.devices if (rate := getattr(device, figure))]
        if rates:
            lows.append(f"{min(rates):.0f} {NAMES[figure]}")
    gpus = count_of(len(speed.devices), "GPU")
    return f"{' and '.join(lows)}{', at least, on ' if len(speed.devices) > 1 else ', '}{gpus}"


def _each(devices: Sequence[GpuRates], known: dict[int, Gpu], figures: Sequence[str]) -> list[str]:
    found = []
    for device in devices:
        for figure in figures:
            rate: Rate | None = getattr(device, figure)
            if rate:
                how = f" ({device.matmul_type})" if figure == "matmul_tflops" else ""
                if figure in ("h2d_gbs", "d2h_gbs") and not device.numa_bound:
                    how = ", by any CPU: those next to it are not known"
                rounds = f"{rate.rounds} rounds, {rate.worst:.1f} to {rate.best:.1f}"
                found.append(f"{which(known[device.index])}: {rounds} {NAMES[figure]}{how}")
    return found
