"""The host's own name, and what it resolves to."""

from gpudoctor.snapshot import Fact


class Names(Fact, frozen=True, kw_only=True):
    """gethostname(2), and what getaddrinfo(3) says of it: what gloo binds to."""

    hostname: str
    addresses: tuple[str, ...] = ()  # in the resolver's order
    error: str = ""  # "EAI_NONAME: Name or service not known"
    seconds: float = 0.0
    hosts_lines: tuple[str, ...] = ()  # of /etc/hosts, that name it: "127.0.1.1 node7"
