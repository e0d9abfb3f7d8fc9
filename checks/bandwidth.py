"""What all ranks reach together: the sum over all of them that every training step waits for."""

from collections.abc import Sequence
from shlex import quote

from gpudoctor import (
    AllReduce,
    Finding,
    Fix,
    Gpus,
    Network,
    Nodes,
    Owner,
    PairReduce,
    brief,
    check,
    count_of,
    fail,
    ok,
    size,
    skip,
    unknown,
    warn,
)
from gpudoctor.hostlist import fold
from gpudoctor.rules.all_reduce import (
    Expected,
    duration,
    expected_global,
    expected_local,
    largest,
    rate,
    rdma_ports,
)

BUSY = 20  # per cent, of a GPU before we began: whoever that is may well slow the links
NOT_YET = ("start torchrun", "import torch", "meet")  # nothing was reduced: time was too short
LOW = "Find what the ranks wait for: look at the links, with nothing else running"
AGAIN = "gpudoctor check bandwidth-allreduce --deep"
ALL_AGAIN = "gpudoctor check --cluster --deep bandwidth-allreduce"
PAIRS = "gpudoctor check --cluster --deep bandwidth"
MOST_PAIRS = 16  # in the evidence
FAIL_BELOW = 0.5  # of what pairs usually reach: such a node costs more than it brings


@check(
    owner="node",
    symptoms=[
        r"Watchdog caught collective operation timeout.*ALLREDUCE",
        r"Gloo connectFullMesh failed",
        r"ProcessGroupGloo.*Timed out waiting",
        r"NCCL error.*unhandled (system|cuda) error",
        r"(loss|gradient|grad_norm).*\b(nan|diverge)",
    ],
)
def bandwidth_allreduce(
    all_reduce: AllReduce, gpus: Gpus | None, network: Network | None, nodes: Nodes | None
) -> Finding:
    """Sums over all ranks are right, and as fast as the links between them.

    Every step of data-parallel training sums the gradients over all ranks. A link that is down,
    or a network that NCCL does not find, makes each step several times slower; one that flips
    bits lets the loss become NaN on a node that looks healthy. What does not work at all ends in
    "Watchdog caught collective operation timeout" after half an hour.
    """
    found, point = all_reduce, largest(all_reduce)
    said = _evidence(found, nodes)
    if found.wrong:
        return fail(brief(f"wrong sum: {found.wrong}"), _suspect(found), evidence=said)
    if found.error:
        if any(step in found.step for step in NOT_YET) and found.error.startswith("no answer"):
            return unknown(f"{found.error}: {found.step}")
        fix, owner = _broken(found)
        summary = brief(f"{_ranks(found)}: {found.error.replace('RuntimeError: ', '')}")
        return fail(summary, fix, evidence=[found.error, *said], basis="measured", owner=owner)
    if point is None:
        return unknown(found.unfinished or "nothing was measured")
    wanted = expected_global(found, nodes) if found.nodes > 1 else expected_local(found, gpus)
    summary = f"{rate(point.busbw)} at {size(point.bytes)} over {_ranks(found)}"
    if wanted is None or point.busbw >= wanted.warn_below:
        return ok(brief(f"{summary}{_judged(wanted)}"), said)
    busy = [*found.busy, *_busy(gpus)]
    certain = point.busbw < wanted.fail_below and not busy
    evidence = [f"{rate(wanted.busbw)} expected: {wanted.why}", *busy, *said]
    owner = "network" if found.nodes > 1 else "node"
    summary = brief(f"{summary}, {rate(wanted.busbw)} expected")
    answer = fail if certain else warn
    return answer(summary, _slow(found, gpus), evidence=evidence, basis=wanted.basis, owner=owner)


def _ranks(found: AllReduce) -> str:
    where = "GPUs" if found.device == "cuda" else "CPU ranks"
    on = f" of {found.nodes} nodes" if found.nodes > 1 else ""
    return f"{found.ranks} {where}{on}"


def _judged(wanted: Expected | None) -> str:
    return f", {rate(wanted.busbw)} expected" if wanted else ""


def _evidence(found: AllReduce, nodes: Nodes | None) -> list[str]:
    by = " ".join(filter(None, (found.library or found.backend, f"(torch {found.torch})")))
    way = ", ".join(found.transports)
    lines = [f"{by}{' by ' + way if way else ''}{' over ' + found.interface if way else ''}"]
    if found.nodes == 1 and any(name.startswith("NET/") for name in found.transports):
        lines.append("between GPUs of one node NCCL went over the network: P2P and SHM are off")
    if nodes and "NET/Socket" in found.transports:
        ports = sum(map(len, rdma_ports(nodes).values()))
        lines += [f"TCP was used, though {ports} InfiniBand ports are active"] if ports else []
    for point in (*found.points, *found.again):
        spread = f"{duration(point.low_seconds)} to {duration(point.high_seconds)}"
        times = f"{duration(point.seconds)} ({spread}, {point.iterations} times)"
        lines.append(f"{size(point.bytes)}: {times}, {rate(point.busbw)}")
    return [*lines, *filter(None, (found.unfinished,)), *found.warnings]


def _busy(gpus: Gpus | None) -> list[str]:
    alive = gpus.alive if gpus else ()
    return [
        f"GPU {gpu.index} was {gpu.busy_percent} % busy with something else"
        for gpu in alive
        if (gpu.busy_percent or 0) >= BUSY
    ]


def _suspect(found: AllReduce) -> Fix:
    if found.nodes > 1:
        text = "Find the node: sum in pairs, and on each by itself"
        return Fix(text=text, commands=[PAIRS, f"{AGAIN}  # on each"])
    commands = [AGAIN]
    if "P2P" in found.transports:
        commands = [f"NCCL_P2P_DISABLE=1 {AGAIN}", "sudo lspci -vvv | grep -i acsctl"]
    return Fix(text="Keep the node out of jobs and find the GPU or the link", commands=commands)


def _broken(found: AllReduce) -> tuple[Fix, Owner]:
    if found.backend == "gloo" and found.step.startswith("connect"):
        text, commands = "Let gloo find an address of this node", ["gpudoctor check gloo names"]
        return Fix(text=text, commands=commands), "launch"
    again = ALL_AGAIN if found.nodes > 1 else AGAIN
    return Fix(
        text="See how far the ranks come, and what NCCL says",
        commands=[f"NCCL_DEBUG=INFO {again} -v", "gpudoctor check nccl shm limits gpu"],
    ), "node"


def _slow(found: AllReduce, gpus: Gpus | None) -> Fix:
    if found.nodes > 1:
        return Fix(text=LOW, commands=["gpudoctor check --cluster --deep nccl rdma cluster"])
    amd = any(name.startswith("AMD") for name in found.gpus)
    commands = ["amd-smi topology", "amd-smi xgmi"]
    nvidia = ["nvidia-smi topo -m", "nvidia-smi nvlink --status"]
    return Fix(text=LOW, commands=commands if amd else nvidia)


@check(
    owner="node",
    symptoms=[
        r"straggler",
        r"Watchdog caught collective operation timeout",
        r"(slow|slowest) (rank|node|worker)",
    ],
)
def bandwidth_straggler(pair_reduce: PairReduce) -> Finding:
    """No node and no link between nodes holds all the others up.

    All ranks wait for the slowest: one node with a bad cable halves the speed of a thousand GPUs,
    and no log names it. Pairs of nodes reduce by themselves, and those that are slow again with
    good partners; so it is told apart whether a node or what lies between two of them is slow.
    """
    figures = {each.nodes: each.busbw for each in pair_reduce.figures}
    if not figures:
        return skip(
            pair_reduce.unfinished or "fewer than three nodes: there are no pairs to compare"
        )
    if any(each.wrong for each in pair_reduce.figures):
        return _wrong(pair_reduce)
    from gpudoctor.rules.suspects import verdict  # not for those who have no pairs

    found = verdict(figures)
    names = [*found.nodes, *(name for pair in found.links for name in pair)]
    if not names:
        return _nobody(pair_reduce, found.unclear, found.usual or 0.0)
    who = [*found.nodes, *(f"the link {a} - {b}" for a, b in found.links)]
    worst = min(figures[p] or 0.0 for p in figures if set(p) & set(names))
    summary = (
        f"{fold(found.nodes) or ', '.join(who)}: {rate(worst)}, {rate(found.usual or 0)} usual"
    )
    owner: Owner = "node" if found.nodes else "network"
    answer = fail if worst < FAIL_BELOW * (found.usual or 0) else warn
    return answer(
        brief(summary),
        _without(found.nodes),
        evidence=[f"slow: {', '.join(who)}", *_pairs(pair_reduce)],
        basis="measured",
        owner=owner,
        nodes=found.nodes,
    )


def _wrong(pairs: PairReduce) -> Finding:
    """Of a wrong sum of two, either may be the cause; of several, the one that all have."""
    from gpudoctor.rules.suspects import verdict

    first = next(each for each in pairs.figures if each.wrong)
    names = verdict({each.nodes: None if each.wrong else 1.0 for each in pairs.figures}).nodes
    apart = Fix(text="Find which one: sum on each by itself", commands=[f"{AGAIN}  # on each"])
    summary = brief(f"wrong sum between {' and '.join(first.nodes)}: {first.wrong}")
    fix = _without(names) if names else apart
    return fail(summary, fix, evidence=_pairs(pairs), nodes=names)


def _nobody(pairs: PairReduce, unclear: Sequence[tuple[str, str]], usual: float) -> Finding:
    """Nobody is named: because all are alike, or because it is not clear who is slow."""
    best = max(each.busbw or 0.0 for each in pairs.figures)
    far = [each.nodes for each in pairs.figures if (each.busbw or 0.0) <= FAIL_BELOW * best]
    slow = [*unclear, *far]  # where half of the nodes are slow, that is what is usual
    if slow:
        summary = brief(f"slow, but who is to blame is not clear: {' - '.join(slow[0])}")
        fix = Fix(text=LOW, commands=[PAIRS])
        return warn(summary, fix, evidence=_pairs(pairs), basis="measured", owner="network")
    if pairs.unfinished:
        return unknown(pairs.unfinished)
    return ok(f"{count_of(len(pairs.figures), 'pair')}, {rate(usual)}", _pairs(pairs))


def _without(nodes: Sequence[str]) -> Fix:
    """Do without these nodes; without a link there is nobody to leave out."""
    from gpudoctor.rules.differences import remark

    if not nodes:
        return Fix(text="Have cables and switch ports between the two looked at", commands=[PAIRS])
    return Fix(
        text=f"Start the job without {fold(nodes)}, and have it looked at",
        commands=[
            f"srun --exclude={quote(fold(nodes))}  # Slurm",
            f"gpudoctor check --deep  # on {remark(fold(nodes))}",
        ],
    )


def _pairs(found: PairReduce) -> list[str]:
    """The slowest first; what failed before them."""
    ordered = sorted(found.figures, key=lambda each: each.busbw or 0.0)
    lines = [
        f"{' - '.join(each.nodes)}: {each.error or each.wrong or rate(each.busbw or 0.0)}"
        for each in ordered[:MOST_PAIRS]
    ]
    if len(ordered) > MOST_PAIRS:
        lines.append(f"{len(ordered) - MOST_PAIRS} more pairs, all faster")
    return [*lines, *filter(None, (found.unfinished,))]
