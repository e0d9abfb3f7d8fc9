"""The clocks of the nodes, compared with each other over the network."""

from gpudoctor import Clock, Finding, Fix, Links, Nodes, check, fail, ok, skip, warn
from gpudoctor.rules.clock_spread import Deviation, deviations
from gpudoctor.rules.differences import ONE_NODE, listed, who
from gpudoctor.rules.timekeeping import keep_time

# torchrun's elastic rendezvous drops a node whose heartbeat, stamped with its own clock, is older
# than keep_alive_interval x keep_alive_max_attempt = 5 s x 3: dynamic_rendezvous.py.
EVICTED = 15.0
LOGS = 1.0  # seconds; by more than a step nobody can tell which rank failed first; rule of thumb


@check(
    owner="node",
    symptoms=[
        r"Detected dead node '.*', removing it from the rendezvous",
        r"have been removed from the rendezvous '.*' since they had no heartbeat",
        r"Rewound credential",
        r"Expired credential",
        r"RequestTimeTooSkewed",
    ],
)
def cluster_clock(links: Links, nodes: Nodes | None) -> Finding:
    """The clocks of all nodes show the same time.

    torchrun's elastic agents stamp their heartbeats with their own clock, and drop a node whose
    last one is 15 s old ("Detected dead node ..., removing it from the rendezvous"): it joins
    again, and is dropped again. From a second on the logs of several nodes no longer tell which
    one failed first. Slurm's munge refuses what is five minutes old: "Expired credential".
    """
    found = deviations(links.ways)
    if not found:
        return skip("no two nodes answered each other" if links.ways else ONE_NODE)
    off = {name: told for name, told in found.items() if told.exceeds(LOGS)}
    values = [told.seconds for told in found.values()]
    spread = max(values) - min(values)
    blurred = [name for name, told in found.items() if told.uncertainty > LOGS and name not in off]
    evidence = [_line(name, off[name]) for name in sorted(off, key=lambda n: -abs(off[n].seconds))]
    evidence = evidence[:10] + ([f"and {len(off) - 10} more"] if len(off) > 10 else [])
    if blurred:
        evidence.append(f"too slow a way to tell to a second: {listed(blurred)}")
    if not off:
        return ok(f"{len(found)} nodes within {_seconds(spread)} of each other", evidence)
    worst = max(off.values(), key=lambda told: abs(told.seconds))
    is_tie = 2 * len(off) >= len(found)
    if is_tie:
        summary = f"{len(found)} nodes disagree on the time by {_seconds(spread)}"
    else:
        side = "ahead of" if worst.seconds > 0 else "behind"
        summary = f"{who(off, 40)}: {_seconds(abs(worst.seconds))} {side} the others"
    is_breaking = worst.exceeds(EVICTED) or (is_tie and spread > EVICTED + worst.uncertainty)
    return (fail if is_breaking else warn)(
        summary,
        _set(list(off), nodes, is_tie),
        evidence=evidence,
        basis="vendor" if is_breaking else "rule-of-thumb",
        nodes=() if is_tie else sorted(off),
    )


def _set(names: list[str], nodes: Nodes | None, is_tie: bool) -> Fix:
    clocks = nodes.each(Clock) if nodes else {}
    daemons = next((clocks[name].daemons for name in names if name in clocks), ())
    usual = keep_time(daemons)
    where = "all nodes" if is_tie else listed(names)
    text = f"On {where}: {usual.text[0].lower()}{usual.text[1:]}"
    return Fix(text=text, commands=usual.commands, needs_root=True)


def _line(name: str, told: Deviation) -> str:
    return f"{name}: {told.seconds:+.3f} s from the median of all, sure to {told.uncertainty:.3f} s"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
