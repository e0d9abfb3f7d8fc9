"""How long ranks of several nodes exchange gradients, against what they compute meanwhile.

Between two exchanges a rank makes `accumulation` passes. What goes over a node's link is what
a ring of all replicas sends over each of its links, however many ranks the node has.
"""

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gpudoctor.data import table
from gpudoctor.facts.all_reduce import AllReduce
from gpudoctor.facts.gpus import Gpu
from gpudoctor.facts.network import Interface
from gpudoctor.facts.rdma import Rdma
from gpudoctor.facts.workload import Workload
from gpudoctor.rules.all_reduce import duration, factor, largest, rate
from gpudoctor.rules.gpu_speeds import expected
from gpudoctor.rules.model_memory import GRADIENT, WEIGHT, named, replicas, trained
from gpudoctor.rules.nccl_ports import fabric
from gpudoctor.units import count_of, size

MOST_SHARE = 0.3  # of a step that may go by waiting; the most that is called usual at 1 Gbit/s
HIDDEN = 2 / 3  # of a pass: gradients leave during the backward pass, which is two thirds of it
FORWARD, BACKWARD = 2, 4  # operations per parameter and token; Kaplan et al. 2020, section 2.1
BACKWARD_LORA = 2  # frozen weights get no gradients; rule of thumb
REACHED = 0.5  # of what a large product reaches: 0.4 of the data sheet's peak; rule of thumb


class Link(Struct, frozen=True):
    """What a node's way to the others carries: bytes a second."""

    rate: float
    why: str


class Exchange(Struct, frozen=True):
    """Of one step of the optimizer.

    Attributes:
        seconds: that the link is busy.
        computing: seconds of a rank's passes; None: the GPU's speed is not known.
        waiting: the share of the step that passes with neither.
        accumulation: passes that bring the share to MOST_SHARE; None: none does.
        arithmetic: how these come about.
    """

    seconds: float
    computing: float | None
    waiting: float | None
    accumulation: int | None
    arithmetic: tuple[str, ...]


def traffic(job: Workload) -> tuple[float, float]:
    """Bytes over each node's link: of each pass, and of each step."""
    ranks = replicas(job)
    gradients, weights = trained(job) * GRADIENT, trained(job) * WEIGHT
    if job.sharding == "zero3":  # ZeRO, section 7.2: weights twice, gradients once
        whole = job.model_params * WEIGHT
        return factor(ranks) / 2 * (2 * whole + gradients), 0.0
    if job.sharding == "zero2":  # DeepSpeed and FSDP divide the gradients of each pass
        return factor(ranks) / 2 * gradients, factor(ranks) / 2 * weights
    return 0.0, factor(ranks) * gradients


def link_of(
    interface: Interface | None,
    rdma: Rdma | None,
    measured: AllReduce | None,
    environment: Mapping[str, str],
) -> Link | None:
    """What was measured, else what RDMA or TCP usually reaches; None: not known."""
    point = largest(measured) if measured and measured.nodes > 1 else None
    if point and point.busbw:
        return Link(point.busbw, f"{rate(point.busbw)} measured with {size(point.bytes)}")
    rows = table("bandwidth")["network"]
    if rdma:
        ports = [port.port.rate_gbps or 0.0 for port in fabric(rdma, environment) if port.active]
        reached = rows["rdma"]["value"] * sum(ports) / 8 * 1e9
        why = f"{rate(reached)}: {count_of(len(ports), 'RDMA port')}, {sum(ports):.0f} Gbit/s"
        return Link(reached, why) if reached else None
    speed = interface and (interface.limit_mbps or interface.speed_mbps)
    if not interface or not speed:
        return None
    reached = 1e9 * min(rows["tcp"]["value"] * speed / 8e3, rows["tcp_most_gbs"]["value"])
    return Link(reached, f"{rate(reached)}: TCP over {interface.name}, {speed:.0f} Mbit/s")


def speed_of(gpus: Iterable[Gpu]) -> tuple[float, str] | None:
    """Operations a second of the slowest in training, and its name; None: not known."""
    found = []
    for gpu in gpus:
        tflops = expected(gpu.name, "matmul_tflops")
        if tflops is None or gpu.mig_enabled:
            return None
        found.append((REACHED * tflops * 1e12, gpu.name))
    return min(found, default=None)


def exchange(job: Workload, link: Link, speed: tuple[float, str] | None = None) -> Exchange:
    """One step of the job over this link, on GPUs of this speed."""
    each, once = (count / link.rate for count in traffic(job))
    seconds = job.accumulation * each + once
    lines = [*_traffic_lines(job), f"link: {link.why}", f"exchange of a step: {duration(seconds)}"]
    if speed is None:
        return Exchange(seconds, None, None, None, tuple(lines))
    tokens = job.micro_batch * job.sequence_length
    work = operations(job) * job.model_params / job.model_parallel * tokens
    one = work / speed[0]
    lines += [
        f"a pass: {operations(job)} x {named(job.model_params)} x {tokens} tokens at"
        f" {speed[0] / 1e12:.0f} TFLOP/s ({speed[1]}) = {duration(one)}",
        f"hidden behind a pass: up to {duration(_hidden(job) * one)}",
    ]
    each, once = (max(0.0, part - _hidden(job) * one) for part in (each, once))
    exposed = job.accumulation * each + once
    computing = job.accumulation * one
    allowed = MOST_SHARE / (1 - MOST_SHARE) * one - each
    enough = math.ceil(once / allowed) if allowed > 0 else None
    return Exchange(
        seconds,
        computing,
        exposed / (exposed + computing),
        enough if enough is None else max(1, enough),
        tuple(lines),
    )


def operations(job: Workload) -> int:
    """Floating-point operations per parameter and token of a pass."""
    forward = FORWARD * (2 if job.recompute else 1)
    return forward + (BACKWARD_LORA if job.method == "lora" else BACKWARD)


def _hidden(job: Workload) -> float:
    """The share of a pass during which data are on their way; zero3 also fetches ahead."""
    return 1.0 if job.sharding == "zero3" else HIDDEN


def _traffic_lines(job: Workload) -> list[str]:
    each, once = traffic(job)
    what = f"{named(trained(job))} gradients in 16 bits, {replicas(job)} replicas"
    lines = [f"{what}: {size(round(once))} over each node's link in each step"] if once else []
    if each:
        lines.append(f"{job.sharding}: {size(round(each))} over it in each pass")
    return lines
