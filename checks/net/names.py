"""The machine's own name, which gloo and torchrun go by."""

import re
from shlex import quote

from gpudoctor import (
    Environment,
    EnvSet,
    Finding,
    Fix,
    Master,
    Names,
    Network,
    Workload,
    check,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.addresses import is_loopback, outward
from gpudoctor.rules.leading import NO_WAY

SLOW_SECONDS = 1.0  # gloo, torchrun and Python's libraries ask many times while they start


@check(
    owner="node",
    symptoms=[
        r"Gloo connectFullMesh failed",
        r"Unable to resolve hostname to a \(local\) address",
        r"connect \[127\.0\.[01]\.1\].*Connection refused",
    ],
)
def net_hostname(
    names: Names,
    workload: Workload,
    network: Network | None,
    master: Master | None,
    environment: Environment | None,
) -> Finding:
    """This machine's name resolves to an address that other nodes reach.

    gloo binds to what the hostname resolves to, and tells that to the other nodes. With Debian's
    "127.0.1.1 node7" in /etc/hosts they connect to themselves: "Gloo connectFullMesh failed ...
    Connection refused". Whether that ends this job, gloo-interface says.
    """
    if workload.nodes == 1:
        return skip("the job is on one node, where every address of it will do")
    if network and outward(network) is None:
        return skip(NO_WAY)
    told = environment.values.get("GLOO_SOCKET_IFNAME", "") if environment else ""
    to = ", ".join(names.addresses) or "nothing"
    summary = f"{names.hostname} resolves to {to}"
    evidence = [names.error] if names.error else []
    evidence += [f"/etc/hosts: {line}" for line in names.hosts_lines]
    if told:
        return ok(f"{summary}; gloo goes by GLOO_SOCKET_IFNAME={told}", evidence)
    fix = _fix(names, network, master)
    own = [ip for ip in names.addresses if is_loopback(ip) or not network or network.holder_of(ip)]
    if names.error:
        return warn(f"{names.hostname} does not resolve", fix, evidence=evidence, basis="measured")
    if not own:
        return warn(f"{summary}, on no interface here", fix, evidence=evidence, basis="measured")
    if is_loopback(own[0]):
        return warn(f"{summary}, each node's own", fix, evidence=evidence, basis="measured")
    if names.seconds > SLOW_SECONDS:
        slow = f"{summary}, in {names.seconds:.1f} s"
        return warn(slow, fix, evidence=evidence, basis="rule-of-thumb")
    return ok(summary, evidence)


def _fix(names: Names, network: Network | None, master: Master | None) -> Fix:
    """The line that /etc/hosts lacks, or gloo's own variable."""
    ways = [attempt.interface for attempt in master.attempts] if master else []
    found = outward(network, next(iter(ways), ""))
    if found is None:
        return Fix(text=f"Give {names.hostname} a line with its address in /etc/hosts")
    interface, address = found
    return Fix(
        EnvSet("GLOO_SOCKET_IFNAME", interface.name),
        text="Name it by its address in /etc/hosts",
        commands=_rewriting(names, address.ip),
        needs_root=True,
    )


def _rewriting(names: Names, ip: str) -> list[str]:
    """Commands that give the name this address; a line of localhost keeps its own."""
    edits, lacks = [], True
    for line in names.hosts_lines:
        wrong, *others = line.split()
        start = f"/^{re.escape(wrong)}[[:space:]](.*[[:space:]])?{re.escape(names.hostname)}"
        if others == [names.hostname] or not any("localhost" in other for other in others):
            edits.append(f"{start}([[:space:]]|$)/s/^[^[:space:]]+/{ip}/")
            lacks = False
        else:
            name = re.escape(names.hostname)
            edits.append(f"{start}([[:space:]]|$)/s/[[:space:]]{name}([[:space:]]|$)/\\1/")
    line = quote(f"{ip} {names.hostname}")
    append = [f"echo {line} | sudo tee -a /etc/hosts"] if lacks else []
    if not edits:
        return append
    # In a container /etc/hosts is a mount, which sed -i cannot replace.
    script = " ".join(f"-e {quote(edit)}" for edit in edits)
    return [
        f"hosts=$(sed -E {script} /etc/hosts)",
        "printf '%s\\n' \"$hosts\" | sudo tee /etc/hosts",
        *append,
    ]
