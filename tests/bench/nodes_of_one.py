"""A job of many nodes on this machine: `python nodes_of_one.py COUNT DIR`; what it took, as JSON.

All are forked from one process, so that modules are imported once, as on nodes of their own all
at the same time. Each has the recorded facts of a healthy machine, a little varied, and an
address of its own on the loopback; they meet in DIR, and their rounds are real.
"""

import json
import os
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from gpudoctor import Address, Network, Snapshot, registry
from gpudoctor.cluster import verdict
from gpudoctor.cluster.board import Board
from gpudoctor.cluster.board.messages import Verdict
from gpudoctor.cluster.board.share import Share
from gpudoctor.cluster.follow import attend
from gpudoctor.cluster.lead import Lead
from gpudoctor.cluster.part import Part, Plan
from gpudoctor.cluster.place import Place
from gpudoctor.probes import Machine
from gpudoctor.report import Page
from gpudoctor.run import Request, now
from tests.fleet import synthetic

WAIT = 120.0  # seconds that nobody is lost in because this machine is busy


def node(facts: dict, number: int) -> Snapshot:
    """The machine with a name, an address and figures of its own."""
    name, network = f"node{number:02}", facts["network"]
    lo, eth = network.interfaces
    address = Address(ip=f"127.0.77.{number + 1}", prefix=24)
    network = Network(
        interfaces=(lo, replace(eth, addresses=(address,), speed_mbps=None)), routes=network.routes
    )
    shm = replace(facts["shm"], free_bytes=facts["shm"].total_bytes - number * 4096)
    varied = {"system": replace(facts["system"], hostname=name), "network": network, "shm": shm}
    return Snapshot(name, {**facts, **varied})


def part(share: str, count: int, rank: int, snapshot: Snapshot, throughput: float) -> Part:
    board = Share(share, "bench", opens=rank == 0)
    return Part(
        place=Place(rank=rank, nodes=count, told_by="--nnodes", name=snapshot.name, key="bench"),
        board=board,
        plan=Plan(wait=WAIT, patience=WAIT, throughput_seconds=throughput),
        machine=Machine(),
        look=lambda progress: snapshot,
        stopped=lambda: False,
        say=lambda text: print(text, file=sys.stderr),
        began=time.monotonic(),
    )


def judge(own: Part, request: Request, text, document) -> dict:
    """Rank 0's part: gather, judge, and write both reports."""
    began = own.began
    board: Board = own.board
    board.find(0)
    lead = Lead(own)
    lead.gather()
    gathered, met = lead.gathered, time.monotonic()
    report = verdict.report(
        request,
        gathered.snapshots,
        gathered.facts,
        missing=gathered.missing,
        launcher="slurm",
        started=now(),
        began=began,
        alive=lead.seat.alive,
    )
    judged = time.monotonic()
    lead.tell(Verdict(exit_code=report.exit_code, status=report.status.value))
    written = len(text(report, Page())) + len(document(report, Page()))
    ended = time.monotonic()
    lead.linger()
    files = [path for path in Path(own.board.where).rglob("*") if path.is_file()]
    links = gathered.facts.facts["links"]
    members = gathered.facts.facts["members"]
    return {
        "seconds": ended - began,
        "gathering": met - began,
        "judging": judged - met,
        "writing": ended - judged,
        "bytes": sum(path.stat().st_size for path in files),
        "report": written,
        "checks": len(request.checks),
        "nodes": len(report.nodes),
        "lost": [one.name for one in members.members if one.lost or one.refused],
        "ways": len(links.ways),
        "errors": sorted({way.error for way in links.ways if way.error}),
        "rounds": links.rounds,
    }


def main() -> None:
    count, share, throughput = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    catalogue = registry.load((), launch=False, cluster=True)
    request = Request(checks=catalogue.checks, catalogue=catalogue)
    text, document = registry.report_format("text"), registry.report_format("json")
    facts = synthetic.base("H100")
    nodes = [node(facts, rank) for rank in range(count)]
    own = part(share, count, 0, nodes[0], throughput)
    children = []
    for rank in range(1, count):
        child = os.fork()
        if not child:
            code = 99
            try:
                code = attend(part(share, count, rank, nodes[rank], throughput)).exit_code
            finally:
                os._exit(code)
        children.append(child)
    found = judge(own, request, text.render, document.render)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    own.board.close()
    print(json.dumps({**found, "codes": sorted(set(ended))}))


if __name__ == "__main__":
    main()
