"""torch's TCPStore: it picks no interface, the way to MASTER_ADDR decides.

The rules follow torch/csrc/distributed/c10d/socket.cpp. The client tries the addresses in the
resolver's order, IPv6 and IPv4 alike, and the server listens on all interfaces.
"""

from collections.abc import Sequence

from gpudoctor.facts.master import Attempt
from gpudoctor.rules.interface_choice import Choice, Pick

TRIED_AGAIN = ("ECONNREFUSED", "ECONNRESET")  # nobody listens yet: until the timeout, 300 s
NO_ANSWER = "ETIMEDOUT"  # the kernel gives up after two minutes, then the next one is tried


def choose(attempts: Sequence[Attempt]) -> Choice:
    """The interface that the store's connection leaves by, from what became of each address."""
    silent = [attempt.ip for attempt in attempts if attempt.error == NO_ANSWER]
    for attempt in attempts:
        if not attempt.error:
            late = f"; {', '.join(silent)} may take minutes before" if silent else ""
            return Choice(picked=_picks(attempt), why=f"{attempt.ip} answers{late}")
    waiting = [attempt for attempt in attempts if attempt.error in TRIED_AGAIN]
    picked = next(filter(None, map(_picks, (*waiting, *attempts))), ())
    if waiting:
        return Choice(picked=picked, why=f"it waits until {waiting[0].ip} listens")
    why = ", ".join(f"{attempt.ip}: {attempt.error}" for attempt in attempts)
    error = "The client socket has timed out" if silent else "The client socket has failed"
    return Choice(picked=picked, error=error, why=why)


def _picks(attempt: Attempt) -> tuple[Pick, ...]:
    return (Pick(attempt.interface, attempt.source),) if attempt.interface else ()
