"""Ask the resolver for this machine's own name, as gloo does; and for others, for other probes."""

import functools
import os
import time

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.names import Names
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.in_time import in_time
from gpudoctor.probes.workload import hosts_lines, one_node
from gpudoctor.snapshot import Absent

SECONDS = 4.0  # a resolver that nobody answers gives up after 10: 5 s and another try
STACK = 1 << 20  # bytes: the resolver and the modules of nsswitch.conf use more than a little


class Resolved(Struct, frozen=True):
    """What getaddrinfo(3) says of a name."""

    addresses: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


def asks(machine: Machine) -> list[str]:
    """Whom the resolver asks, for `--dry-run`."""
    name = machine.text("/proc/sys/kernel/hostname") or "this machine's name"
    return [question(machine, name)]


def question(machine: Machine, name: str) -> str:
    """The resolver's question for a name, in words."""
    lines = (machine.text("/etc/resolv.conf") or "").splitlines()
    servers = [
        words[1] for words in map(str.split, lines) if words[:1] == ["nameserver"] and words[1:]
    ]
    where = f"nameserver {', '.join(servers)}" if servers else "no nameserver is set"
    return f"resolves {name}: /etc/hosts, then {where}"


@probe(isolated=True, timeout=SECONDS + 1, unless=one_node, contacts=asks)
def names(machine: Machine) -> Names | Absent:
    """The addresses of gethostname(2)."""
    if not machine.live:
        return Absent("what names resolve to is seen on the live machine only")
    import socket

    hostname = socket.gethostname()
    found = resolve(hostname)
    return Names(
        hostname=hostname,
        addresses=found.addresses,
        error=found.error,
        seconds=found.seconds,
        hosts_lines=tuple(" ".join(words) for words in hosts_lines(machine, hostname)),
    )


def resolve(name: str, seconds: float = SECONDS) -> Resolved:
    """The addresses of a name, each once, in the resolver's order; only in a probe's child."""
    started = time.monotonic()
    (found,) = in_time([functools.partial(_ask, name)], seconds, STACK)
    took = round(time.monotonic() - started, 4)
    if found is None:
        return Resolved(error=f"no answer in {seconds:g} s", seconds=took)
    return replace(found, seconds=took)


def _ask(name: str) -> Resolved:
    import socket

    try:
        # As bytes, as libraries in C do: Python would refuse a label of 64, which Linux allows.
        answers = socket.getaddrinfo(os.fsencode(name), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return Resolved(error=f"{_eai(error.errno)}: {error.strerror}")
    except OSError as error:
        return Resolved(error=f"not a name: {error}")
    return Resolved(addresses=tuple(dict.fromkeys(str(answer[4][0]) for answer in answers)))


def _eai(number: int | None) -> str:
    import socket

    names = [n for n, value in vars(socket).items() if n.startswith("EAI_") and value == number]
    return names[0] if names else f"EAI {number}"
