"""What the nodes of a job amount to: each judged by itself, and all of them together."""

import datetime
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from gpudoctor import run
from gpudoctor.catalogue import of_several
from gpudoctor.check import CLUSTER
from gpudoctor.facts.members import Member, Members, Nodes
from gpudoctor.finding import Owner, Status
from gpudoctor.hostlist import fold
from gpudoctor.judge import judge
from gpudoctor.report import Cluster, Node, Report, Result
from gpudoctor.run import Request
from gpudoctor.snapshot import Absent, Snapshot, name_of

SEVERAL = (CLUSTER, "bandwidth")  # the topics that are judged over all nodes
_ELSEWHERE: tuple[Owner, ...] = ("node", "network", "cluster")  # a job cannot mend, but avoid


def report(
    request: Request,
    snapshots: Sequence[Snapshot],
    facts: Snapshot,
    *,
    missing: Sequence[str],
    launcher: str,
    started: str,
    began: float,
    complete: bool = True,
    alive: Callable[[], None] = lambda: None,
) -> Report:
    """Judge all nodes.

    Args:
        request: the same for every node.
        snapshots: of the nodes that answered.
        facts: of the cluster: members, links, all_reduce, pair_reduce.
        missing: the names of those that did not come.
        launcher: of the job.
        started: when, for people.
        began: when, by the monotonic clock.
        complete: nobody interrupted it; else nobody knows who would have come.
        alive: called now and then.
    """
    of_one = tuple(check for check in request.checks if not of_several(check))
    alone = replace(request, checks=of_one)
    nodes: list[Node] = []
    for snapshot in snapshots:
        nodes.append(run.judged(alone, snapshot))
        alive()
    together = [check for check in request.checks if complete and check.topic in SEVERAL]
    today = datetime.date.today()
    judged = Snapshot(
        facts.name, {**facts.facts, name_of(Nodes): Nodes(snapshots=tuple(snapshots))}
    )
    ignores = [i for i in request.config.ignore if not i.is_expired(today)]
    results = judge(together, judged, ignores=ignores)
    members = facts.get(Members)
    here = members.members if isinstance(members, Members) else ()
    exclude = excluded(nodes, results, here, missing)
    cluster = Cluster(
        facts=facts.facts,
        results=results,
        missing=tuple(missing),
        exclude=exclude,
        exclude_lines=exclude_lines(exclude, launcher),
    )
    return run.reported(
        request, nodes, started, time.monotonic() - began, complete=complete, cluster=cluster
    )


def report_alone(
    request: Request, snapshot: Snapshot, why: str, started: str, began: float
) -> Report:
    """One node, where the others could not be met: of all together nothing is known."""
    of_one = tuple(check for check in request.checks if check.topic != CLUSTER)
    node = run.judged(replace(request, checks=of_one), snapshot)
    together = [check for check in request.checks if check.topic == CLUSTER]
    unmet = Absent("the other nodes were not met", broken=True)
    facts = {name_of(need.kind): unmet for check in together for need in check.needs.values()}
    results = judge(together, Snapshot("cluster", facts))
    found = run.reported(
        request,
        [node],
        started,
        time.monotonic() - began,
        complete=True,
        cluster=Cluster(results=results),
    )
    remarks = (*found.run.remarks, f"the other nodes were not met: {why}")
    return replace(found, run=replace(found.run, remarks=remarks))


def excluded(
    nodes: Sequence[Node],
    results: Sequence[Result],
    members: Sequence[Member],
    missing: Sequence[str],
) -> tuple[str, ...]:
    """The nodes that a job should do without; nobody where that would be half of them."""
    names = set(missing) | {member.name for member in members if member.lost or member.refused}
    for result in results:
        if _is_elsewhere(result):
            names.update(result.nodes)
    for node in nodes:
        if any(_is_elsewhere(result) for result in node.results):
            names.add(node.name)
    everybody = {*missing, *(node.name for node in nodes), *(member.name for member in members)}
    names &= everybody
    return tuple(sorted(names)) if 2 * len(names) < len(everybody) else ()


def exclude_lines(names: Sequence[str], launcher: str) -> Mapping[str, str]:
    """How to say so: for the job's launcher."""
    hosts = sorted({name.partition("#")[0] for name in names})
    if not hosts:
        return {}
    if launcher == "slurm":
        return {"slurm": f"--exclude={fold(hosts)}"}
    if launcher == "kubernetes":
        values = "\n".join(f"          - {host}" for host in hosts)
        return {"kubernetes": f"{_AFFINITY}\n{values}"}
    if launcher in ("openmpi", "pmi"):
        words = "|".join(host.replace(".", r"\.") for host in hosts)
        return {launcher: f"grep -vwE {shlex.quote(words)} HOSTFILE > HOSTFILE.without"}
    return {}


_AFFINITY = """affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions:
        - key: kubernetes.io/hostname
          operator: NotIn
          values:"""


def _is_elsewhere(result: Result) -> bool:
    failed = result.status is Status.FAIL and result.ignored is None
    return failed and result.owner in _ELSEWHERE
