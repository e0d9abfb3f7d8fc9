"""Have the job's own Python reduce over all ranks: those of this node, or of several."""

import os
import re
import signal
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from gpudoctor.facts.all_reduce import AllReduce, PairReduce
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.job_python import job_python
from gpudoctor.probes.pytorch import Ended, ask, last_answer, seconds_left
from gpudoctor.probes.workload import workload
from gpudoctor.rules.job_variables import VARIABLES
from gpudoctor.snapshot import Absent

SCRIPT = os.path.join(os.path.dirname(__file__), "foreign", "all_reduce.py")
TIMEOUT = 180.0  # torch is imported by every rank, on a slow file system; then about 20 s
CPU_RANKS = 2  # where there is no GPU, and nobody says how many ranks there will be
BUSY_SECONDS, BUSY_SHARE = 0.25, 0.5  # a process that takes half a CPU for so long disturbs
# A launcher's, which would make torchrun part of that job; and what NCCL would write or share.
_LAUNCHERS = (
    *(name for field in VARIABLES.values() for name in field if not name.startswith("SLURM_")),
    "NCCL_COMM_ID",
    "NCCL_GRAPH_DUMP_FILE",
    "NCCL_TOPO_DUMP_FILE",
)
_LAUNCHERS_TOO = ("GROUP_", "NCCL_DEBUG", "PET_", "ROLE_", "TORCHELASTIC_")
# In torchrun's summary: of each rank that failed by itself.
_FAILED = r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s+exitcode\s*:\s*(-?\d+)"


@probe(isolated=True, timeout=TIMEOUT, deep=True)
def all_reduce(machine: Machine) -> AllReduce | Absent:
    """All-reduces over the ranks of this node, from small to large."""
    if not machine.live:
        return Absent("nothing is run under --root")
    python = job_python(machine)
    if isinstance(python, Absent):
        return python
    job = workload(machine)
    ranks = job.local_ranks if job.knows("local_ranks") else CPU_RANKS
    if ranks < 2:
        return Absent(f"one rank ({job.told_by['local_ranks']}): --nproc-per-node says more")
    return over_nodes(machine, python.path, ranks=ranks, seconds=seconds_left())


@probe()
def pair_reduce(machine: Machine) -> PairReduce | Absent:
    """What one node cannot measure; `check --cluster --deep` puts it together."""
    return Absent("pairs of nodes: gpudoctor check --cluster --deep")


def over_nodes(
    machine: Machine,
    python: str,
    *,
    nodes: int = 1,
    node_rank: int = 0,
    address: str = "127.0.0.1",
    port: int = 0,
    ranks: int,
    seconds: float,
    sizes: tuple[int, ...] = (),
) -> AllReduce | Absent:
    """All-reduces over the ranks of all nodes; each node calls this, and node 0 learns most.

    Args:
        python: the job's, whose torch is tried.
        node_rank: of this node.
        address: of node 0, as this node reaches it.
        port: free on node 0 and the same for all; 0, on one node: any.
        ranks: on each node.
        seconds: after which nothing of it runs any more.
        sizes: bytes in the buffer of a rank; none: from small to as large as there is time.
    """
    import tempfile  # only in the probe's child

    from gpudoctor.probes.foreign.all_reduce import LOG_DIR

    began = time.monotonic()
    busy = _busy(machine)
    options = {
        "nnodes": nodes,
        "node_rank": node_rank,
        "nproc_per_node": ranks,
        "master_addr": address,
        "master_port": port or free_port(),
        "rdzv_conf": f"timeout={max(1, int(seconds))}",
    }
    left = round(max(0.5, seconds - (time.monotonic() - began)), 1)
    words = [f"--{name}={value}" for name, value in options.items()]
    words += [SCRIPT, str(left), "rank", *map(str, sizes)]
    with tempfile.TemporaryDirectory(prefix="gpudoctor-", ignore_cleanup_errors=True) as logs:
        env = {**cleaned(machine.env), LOG_DIR: logs}
        ended = ask(python, SCRIPT, "launch", *words, seconds=left, env=env, cwd=machine.cwd)
    fact = parse_run(ended, ranks=ranks * nodes, nodes=nodes)
    if isinstance(fact, Absent):
        return Absent(f"{fact.absent} in {python}", fact.broken)
    took = round(time.monotonic() - began, 1)
    return msgspec.structs.replace(fact, busy=(*busy, *fact.busy), seconds=took)


def free_port() -> int:
    """A port that nobody listens on now, on no interface."""
    import socket

    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def cleaned(env: Mapping[str, str]) -> dict[str, str]:
    """The job's environment as its launcher got it, with NCCL telling what it does."""
    kept = {
        name: value
        for name, value in env.items()
        if name not in _LAUNCHERS and not name.startswith(_LAUNCHERS_TOO)
    }
    return {
        **kept,
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def parse_run(ended: Ended, ranks: int, nodes: int = 1) -> AllReduce | Absent:
    """What is known of a run, however far it came."""
    from gpudoctor.probes.foreign.all_reduce import MARK  # not for those who do not measure
    from gpudoctor.rules.nccl_log import parse

    lines = [line for line in ended.said.splitlines() if MARK in line]
    said = [found for line in lines if (found := last_answer(Ended(line, "", ""), MARK))]
    steps: dict[int, str] = {}
    known: dict[str, Any] = {}
    errors: dict[int, str] = {}
    for found in said:
        rank = found.pop("rank")
        steps[rank] = found.pop("step", steps.get(rank, ""))
        if "error" in found:
            errors[rank] = _bare(found["error"])
        elif "wrong" in found:
            known.setdefault("wrong", found["wrong"])
        else:
            for name in ("point", "again"):
                if name in found:
                    known.setdefault("points" if name == "point" else name, []).append(
                        found.pop(name)
                    )
            known.update(found)
    error = next((f"rank {rank}: {said}" for rank, said in errors.items()), "")
    silent = [str(rank) for rank in sorted(steps) if rank not in errors]
    if silent and re.search("[Tt]imed out|nothing from rank", error):
        error = f"rank {', '.join(silent)} hangs; {error}"
    if not steps and re.search(r"No module named '?torch\b", ended.stderr):
        return Absent("no torch")
    finished = bool(steps) and all(step == "done" for step in steps.values())
    if not finished:
        error = _cause(ended, error, steps)
    log = parse(ended.stderr)
    known = {
        "ranks": ranks,
        "nodes": nodes,
        "scope": "global" if nodes > 1 else "local",
        **known,
        "library": log.library,
        "transports": log.transports,
        "interface": log.interface,
        "warnings": log.warnings,
        "error": error,
        "step": _step(steps),
    }
    return msgspec.convert(known, AllReduce)


def _bare(error: str) -> str:
    """An error of torch's without the places in its sources: [/pytorch/.../pair.cc:553]."""
    return re.sub(r"\[[^\]\s]*(?: [^\]\s]+)* ?/\S+:\d+\] ?", "", error)


def _cause(ended: Ended, error: str, steps: Mapping[int, str]) -> str:
    """Why not all ranks came to the end: what happened to one, before what others say of it."""
    for rank, code in re.findall(_FAILED, ended.stderr):
        if int(code) < 0 and -int(code) not in (signal.SIGTERM, signal.SIGABRT):
            return f"rank {rank}: {signal.Signals(-int(code)).name}"
    if error:
        return error
    if late := re.search(r"Watchdog caught collective operation timeout[^\n]*", ended.stderr):
        return late[0][:200]
    if failed := re.search(_FAILED, ended.stderr):
        code = int(failed[2])
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"rank {failed[1]}: {how}"
    words = "" if ended.how.startswith("no answer") else ended.last_words
    return ": ".join(filter(None, (ended.how or "it ended", words)))


def _step(steps: Mapping[int, str]) -> str:
    """What was begun last; where ranks differ, by whom, the fewest first."""
    by_step: dict[str, list[int]] = {}
    for rank, step in sorted(steps.items()):
        by_step.setdefault(step, []).append(rank)
    if len(by_step) < 2:
        return next(iter(by_step), "start torchrun")
    parts = sorted(by_step.items(), key=lambda item: (len(item[1]), item[1]))
    return "; ".join(f"{step} (rank {', '.join(map(str, own))})" for step, own in parts)


def _busy(machine: Machine) -> tuple[str, ...]:
    """What takes this machine's CPUs now."""
    load = (machine.text("/proc/loadavg") or "").partition(" ")[0]
    cpus = os.cpu_count() or 1
    found = [f"load average {load} on {cpus} CPUs"] if load and float(load) > cpus / 2 else []
    before = _cpu_seconds(machine)
    time.sleep(BUSY_SECONDS)
    for pid, (name, seconds) in _cpu_seconds(machine).items():
        share = (seconds - before.get(pid, (name, seconds))[1]) / BUSY_SECONDS
        if share >= BUSY_SHARE and pid != os.getpid():
            found.append(f"pid {pid} ({name}) took {share:.0%} of a CPU")
    return tuple(found[:6])


def _cpu_seconds(machine: Machine) -> dict[int, tuple[str, float]]:
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for entry in machine.list("/proc"):
        if entry.isdigit() and (text := machine.text(f"/proc/{entry}/stat")):
            name, _, rest = text.partition("(")[2].rpartition(")")
            words = rest.split()
            found[int(entry)] = (name, (int(words[11]) + int(words[12])) / ticks)
    return found
