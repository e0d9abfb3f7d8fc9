"""One node of a run, for tests: `python one_node.py '{"share": DIR, "rank": 1, ...}'`.

What it looks at is made up; it meets the others over the loopback, for real. The one that judges
prints what it gathered, every other one the verdict that it was told.
"""

import json
import os
import signal
import sys
import time

import msgspec

from gpudoctor import Address, Interface, Network, Snapshot, System
from gpudoctor.cluster.board import Unreachable
from gpudoctor.cluster.board.messages import Verdict
from gpudoctor.cluster.board.seat import JudgeLost
from gpudoctor.cluster.board.share import Share
from gpudoctor.cluster.follow import attend
from gpudoctor.cluster.lead import Lead
from gpudoctor.cluster.part import Part, Plan
from gpudoctor.cluster.place import Place
from gpudoctor.probes import Machine
from gpudoctor.snapshot import encode

LOOPBACK = Network(
    interfaces=(
        Interface(
            index=1,
            name="lo",
            kind="loopback",
            up=True,
            running=True,
            mtu=65536,
            addresses=(Address(ip="127.0.0.1", prefix=8),),
        ),
    )
)


def main() -> None:
    told = json.loads(sys.argv[1])
    rank, trouble = told["rank"], told.get("trouble", "")
    name = f"node{rank}"

    def look(progress) -> Snapshot:
        progress(["system"])
        if trouble == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "freezes":
            os.kill(os.getpid(), signal.SIGSTOP)
        while trouble == "hangs":
            time.sleep(0.05)
            progress(["system"])
        system = System(hostname=name, kernel="6.8.0", architecture="x86_64")
        return Snapshot(name).replace(system, LOOPBACK)

    board = Share(told["share"], "test", opens=rank == 0)
    nodes = told["nodes"]
    part = Part(
        place=Place(rank=rank, nodes=nodes, told_by="--nnodes", name=name, key="test"),
        board=board,
        plan=Plan(
            wait=told["wait"],
            look_seconds=20.0,
            patience=told.get("patience", 15.0),
            throughput_seconds=told.get("throughput", 0.1),
        ),
        machine=Machine(),
        look=look,
        stopped=lambda: False,
        say=lambda text: print(text, file=sys.stderr),
        began=time.monotonic(),
    )
    try:
        if rank:
            print(attend(part).exit_code)
            return
        board.find(0)
        lead = Lead(part)
        lead.gather()
        gathered = lead.gathered
        lead.tell(Verdict(exit_code=told.get("verdict", 0), status="pass"))
        lead.linger()
        names = [node.name for node in gathered.snapshots]
        document = {"facts": gathered.facts.facts, "names": names}
        print(msgspec.json.format(encode(document)).decode())
    except (JudgeLost, Unreachable) as error:
        print(f"alone: {error}")
    finally:
        board.close()


if __name__ == "__main__":
    main()
