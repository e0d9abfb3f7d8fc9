"""torch's TCPStore: it picks no interface, the way to MASTER_ADDR decides.

The rules follow torch/csrc/distributed/c10d/socket.cpp. The client tries the addresses in the
resolver's order, IPv6 and IPv4 alike, and the server listens on all interfaces.
"""

from collections.abc import Sequence

from gpudoctor.facts.master import Attempt
from gpudoctor.interface_choice import Choice, Pick

TRIED_AGAIN = ("ECONNREFUSED", "ECONNRESET")  # nobody listens yet: until the timeout, 300 s
NO_ANSWER = ("ETIMEDOUT", "EAGAIN", "EINPROGRESS")


def choose(attempts: Sequence[Attempt]) -> Choice:
    """The interface that the store's connection leaves by, from what became of each address."""
    for attempt in attempts:
        pick = (Pick(attempt.interface, attempt.source),) if attempt.interface else ()
        if not attempt.error:
            return Choice(picked=pick, why=f"{attempt.ip} answers")
        if attempt.error in NO_ANSWER:
            # It waits for this one address; the kernel gives up after about two minutes.
            return Choice(picked=pick, error="The client socket has timed out", why=attempt.ip)
    for attempt in attempts:
        if attempt.error in TRIED_AGAIN:
            pick = (Pick(attempt.interface, attempt.source),) if attempt.interface else ()
            return Choice(picked=pick, why=f"it waits until {attempt.ip} listens")
    error = "The client socket has failed to connect to any network address"
    return Choice(error=error, why=", ".join(f"{a.ip}: {a.error}" for a in attempts))
