"""Who takes part in the job: all that were expected, alive to the end, and in time."""

from shlex import quote

from gpudoctor import (
    Finding,
    Fix,
    Job,
    Member,
    Members,
    Nodes,
    __version__,
    brief,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.hostlist import fold
from gpudoctor.rules.differences import listed, who

STORE = 300.0  # seconds; TCPStore's timeout: torch/distributed/constants.py, distributed_c10d.py
LATE = STORE / 2  # a slower image pull or file system is enough for the rest
ONE_NODE = "one node, and nobody says that there are more (SLURM_NNODES, PET_NNODES, --nnodes)"
WAITS = [
    r"Timed out after \d+ seconds waiting for clients. \d+/\d+ clients joined",
    r"Timed out initializing process group in store based barrier",
    r"RendezvousTimeoutError",
    r"The client socket has timed out after \d+ms",
]


@check(
    owner="cluster", symptoms=[*WAITS, r"Some nodes are not ready", r"Connection closed by peer"]
)
def cluster_nodes(members: Members, nodes: Nodes | None) -> Finding:
    """All nodes of the job are there, and start together.

    Every rank waits for all others before the first step. Where a node does not come, or comes
    later than the others have patience, the job ends minutes after its start with "Timed out
    after 301 seconds waiting for clients. 15/16 clients joined" or "RendezvousTimeoutError".
    """
    came = members.members
    if len(came) < 2 and not members.missing:
        return skip(ONE_NODE)
    lost = [m for m in came if m.lost]
    refused = [m for m in came if m.refused]
    late = [m for m in came if m.arrived_seconds >= LATE]
    evidence = _told(members, late)
    if members.missing:
        absent = _absent(members)
        summary = f"{members.missing} of {members.expected} nodes did not come"
        summary += f": {who(absent, 30)}" if absent else f" in {members.waited_seconds:.0f} s"
        fix = _find(absent, _launcher(nodes))
        return fail(summary, fix, evidence=evidence, basis="measured", nodes=absent)
    if lost:
        names = [m.name for m in lost]
        verb = "was" if len(names) == 1 else "were"
        summary = brief(f"{who(names, 20)} {verb} lost at {lost[0].step!r}: {lost[0].lost}")
        fix = _look(names)
        return fail(summary, fix, evidence=evidence, basis="measured", owner="node", nodes=names)
    if refused:
        names = [m.name for m in refused]
        summary = brief(f"{who(names, 20)} sent what cannot be used: {refused[0].refused}")
        fix = _same_tool(names)
        return fail(summary, fix, evidence=evidence, basis="measured", owner="image", nodes=names)
    spread = max(m.arrived_seconds for m in came)
    if late:
        return _late(late, came, spread, evidence)
    return ok(f"{len(came)} nodes came within {spread:.1f} s of each other", evidence)


def _late(
    late: list[Member], came: tuple[Member, ...], spread: float, evidence: list[str]
) -> Finding:
    names = [m.name for m in late]
    blamed = names if 2 * len(names) < len(came) else []
    fix = Fix(
        text="Start all nodes together, from an image that is already there",
        commands=["docker pull IMAGE  # on each node, before the job"],
    )
    summary = f"{who(names, 30)} came {spread:.0f} s after the first; torch waits {STORE:.0f} s"
    judge = fail if spread >= STORE else warn
    return judge(summary, fix, evidence=evidence, basis="vendor", nodes=blamed)


def _told(members: Members, late: list[Member]) -> list[str]:
    lines = [f"met at {members.meeting}"] if members.meeting else []
    if members.expected:
        lines.append(
            f"{len(members.members)} of {members.expected} nodes came"
            f" ({members.told_by or 'as told'}), waited for {members.waited_seconds:.1f} s"
        )
    for member in members.members:
        words = [f"lost: {member.lost}"] if member.lost else []
        words += [f"refused: {member.refused}"] if member.refused else []
        words += [f"came {member.arrived_seconds:.0f} s after the first"] if member in late else []
        if words:
            lines.append(f"{member.name} (last step: {member.step}): {'; '.join(words)}"[:300])
    return lines if len(lines) <= 20 else [*lines[:20], f"and {len(lines) - 20} more"]


def _absent(members: Members) -> list[str]:
    """Names that the launcher lists, of which nobody came; full and short names are the same."""
    came = {_short(member.name) for member in members.members}
    return [name for name in members.names if _short(name) not in came]


def _short(name: str) -> str:
    return name.partition("#")[0].partition(".")[0].lower()


def _launcher(nodes: Nodes | None) -> str:
    jobs = nodes.each(Job).values() if nodes else ()
    return next((job.launcher for job in jobs if job.launcher), "")


def _find(absent: list[str], launcher: str) -> Fix:
    names = fold(absent) if absent else ""
    if launcher == "slurm":
        commands = [f"sinfo -N -l -n {quote(names)}" if names else "sinfo -N -l"]
        commands += ["squeue --me -o '%i %t %N %r'"]
        commands += [f"#SBATCH --exclude={names}"] if names else []
    elif launcher == "kubernetes":
        commands = ["kubectl get pods -o wide", "kubectl get events --sort-by=.lastTimestamp"]
    else:
        started = "ps -ef | grep gpudoctor  # on each node"
        commands = [f"ssh {quote(absent[0])} true" if absent else started]
    several = listed(absent) if absent else "the missing nodes"
    text = f"See why {several} did not start, or begin the job without them"
    return Fix(text=text, commands=commands)


def _look(names: list[str]) -> Fix:
    return Fix(
        text=f"On {listed(names)}: see what happened; start jobs without it until then",
        commands=["sudo dmesg -T | tail -50", "sudo journalctl -k -b -1 -n 50"],
        needs_root=True,
    )


def _same_tool(names: list[str]) -> Fix:
    return Fix(
        text=f"On {listed(names)}: install the same gpudoctor that the others have",
        commands=[f"python3 -m pip install gpudoctor=={__version__}"],
    )
