"""The network interface that gloo picks: torch's way between CPUs, and NCCL's companion."""

from gpudoctor import (
    Container,
    Devices,
    Environment,
    EnvSet,
    EnvUnset,
    Finding,
    Fix,
    Master,
    Names,
    NcclSettings,
    Network,
    Owner,
    Workload,
    check,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.interface_choice.gloo import choose
from gpudoctor.rules.interface_choice.reach import best, doubt, way
from gpudoctor.rules.leading import lead_out

NAME = "GLOO_SOCKET_IFNAME"


SYMPTOMS = [
    r"Gloo connectFullMesh failed",
    r"Unable to find address for: ",
    r"Unable to resolve hostname to a \(local\) address",
    r"connect \[127\.0\.\d\.1\].*Connection refused",
]


@check(owner="launch", symptoms=SYMPTOMS)
def gloo_interface(
    network: Network,
    workload: Workload,
    environment: Environment,
    names: Names | None,
    nccl_settings: NcclSettings | None,
    master: Master | None,
    devices: Devices | None,
    container: Container | None,
) -> Finding:
    """Other nodes reach the interface that gloo picks.

    gloo listens on the address that the hostname resolves to. Debian and Ubuntu write 127.0.1.1
    into /etc/hosts, and every other node then tries to connect to itself: "Gloo connectFullMesh
    failed ... connect [127.0.1.1]: Connection refused". NCCL's jobs use gloo as well: for
    checkpoints, barriers on the CPU, vLLM. GLOO_SOCKET_IFNAME takes whole names, no prefixes.
    """
    told = environment.values.get(NAME, "")
    told = told if len(told) > 1 else ""
    spans = workload.nodes > 1
    if not told and not spans:
        return skip("one node: every address of it will do; --nnodes 2 makes it count")
    choice = choose(network, told, names)
    if choice.unknown:
        return skip(choice.unknown)
    leads, how = way(network, master)
    where = nccl_settings.origins.get(NAME, "") if nccl_settings else ""
    evidence = [choice.error, choice.why, how, f"{NAME} is set by {where}" if where else ""]
    evidence = [line for line in evidence if line]
    only_gloo = devices is not None and not devices.gpus
    fix = _fix(best(network, leads), told, container)
    owner: Owner = "launch" if fix.settings else "node"
    if choice.error:
        summary = f"{NAME}={told}: gloo ends with an error" if told else "gloo finds no address"
        answer = fail if spans or only_gloo else warn
        return answer(summary[:79], fix, evidence=evidence, basis="vendor", owner=owner)
    for pick in choice.picked if spans else ():
        if wrong := doubt(network, pick, leads):
            summary = f"gloo picks {pick}: {wrong.words}"
            # With GPUs most jobs never make a group of gloo's; nobody says so by accident.
            answer = fail if wrong.certain and (told or only_gloo) else warn
            return answer(summary, fix, evidence=evidence, basis="vendor", owner=owner)
    return ok(", ".join(map(str, choice.picked))[:79], evidence)


def _fix(wanted: str, told: str, container: Container | None) -> Fix:
    if wanted:
        return Fix(EnvSet(NAME, wanted))
    return Fix(EnvUnset(NAME)) if told else lead_out(container)
