"""Read the packet filter, by the tools of its owner."""

import os
from typing import TYPE_CHECKING

from gpudoctor.facts.firewall import Chain, Firewall
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.workload import one_node
from gpudoctor.snapshot import Absent

if TYPE_CHECKING:
    import subprocess

TIMEOUT = 4.0  # seconds for one tool; a node of Kubernetes has many thousand rules
MOST_RULES = 5_000
_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"  # not on every user's PATH
# A save, its family, and the save of the older kind of tables, if those are there as well.
_SAVES = (
    ("iptables-save", "ip", "iptables-legacy-save"),
    ("ip6tables-save", "ip6", "ip6tables-legacy-save"),
)
_LEGACY = "legacy tables present"  # the newer iptables-save's warning


@probe(isolated=True, timeout=10.0, unless=one_node)
def firewall(machine: Machine) -> Firewall | Absent:
    """The chains for connections that come in."""
    if not machine.live:
        return Absent("the packet filter is the running kernel's: not known from --root")
    owner = _owner(machine)
    if os.geteuid() != 0:
        return Absent(f"the packet filter's rules need root to be read{_is_on(owner)}")
    try:
        chains, tools = _read()
    except PermissionError as error:
        return Absent(f"the packet filter's rules need CAP_NET_ADMIN to be read: {error}")
    if not tools:
        return Absent(f"neither nft nor iptables-save is here to tell the rules{_is_on(owner)}")
    if sum(len(chain.rules) for chain in chains) > MOST_RULES:
        return Absent(f"the packet filter has more than {MOST_RULES} rules: too many to judge")
    return Firewall(tool=_tool(owner, chains), chains=tuple(chains))


def _owner(machine: Machine) -> str:
    """The tool that is switched on, by its files."""
    if "ENABLED=yes" in (machine.text("/etc/ufw/ufw.conf") or ""):
        return "ufw"
    return "firewalld" if machine.exists("/run/firewalld") else ""


def _is_on(owner: str) -> str:
    return f"; {owner} is switched on" if owner else ""


def _tool(owner: str, chains: list[Chain]) -> str:
    names = {chain.name for chain in chains}
    if "ufw-user-input" in names:
        return "ufw"
    if "inet firewalld" in {chain.table for chain in chains} or "INPUT_ZONES" in names:
        return "firewalld"
    if any(chain.first and chain.name != chain.name.upper() for chain in chains):
        return "nftables"
    return owner or ("iptables" if chains else "")


def _read() -> tuple[list[Chain], int]:
    """All chains, and how many tools told of them.

    Raises:
        PermissionError: a tool may not look.
        OSError: a tool failed.
    """
    from gpudoctor.probes import iptables, nftables  # for jobs of several nodes only

    chains: list[Chain] = []
    tools = 0
    managed: set[str] = set()
    for save, family, older in _SAVES:
        said = _run(save)
        if said is None:
            continue
        tools += 1
        found = iptables.chains(said.stdout, family)
        if "(nf_tables)" in said.stdout:  # then nft tells of them as well
            managed |= {chain.table for chain in found}
        chains += found
        if _LEGACY in said.stderr and (said := _run(older)) is not None:
            chains += iptables.chains(said.stdout, family)
    said = _run("nft", "-j", "list", "ruleset")
    if said is not None:
        tools += 1
        chains += nftables.chains(said.stdout, managed)
    return chains, tools


def _run(*command: str) -> "subprocess.CompletedProcess[str] | None":
    """What a tool says; None: it is not here, or its tables are not.

    Raises:
        PermissionError: it may not look.
        OSError: it failed.
    """
    import shutil
    import subprocess

    path = shutil.which(command[0], path=_PLACES)
    if path is None:
        return None
    said = subprocess.run(
        [path, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT,
        env={"LC_ALL": "C", "PATH": _PLACES},
    )
    words = " ".join(said.stderr.split())[:200]
    if said.returncode == 0:
        return said
    if "ermission denied" in words or "not permitted" in words or "must be root" in words:
        raise PermissionError(f"{command[0]}: {words}")
    if "not supported" in words or "does not exist" in words:
        return None  # this kernel has no such tables
    raise OSError(f"{command[0]}: {words or f'exit code {said.returncode}'}")
