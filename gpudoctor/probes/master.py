"""Try to reach the master as ranks will; where it is this machine, try its port."""

import errno
import os
import select
import sys
import time
from collections.abc import Container
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpudoctor.facts.master import Attempt, Master
from gpudoctor.probes import Machine, probe
from gpudoctor.probes.names import SECONDS as RESOLVE_SECONDS
from gpudoctor.probes.names import Resolved, question, resolve
from gpudoctor.probes.way import is_ip, way_to
from gpudoctor.probes.workload import names_this_machine, one_node
from gpudoctor.rules import job_variables
from gpudoctor.snapshot import Absent

CONNECT_SECONDS = 2.0
MOST_ADDRESSES = 4
PORTS_TO_TRY = 50
TIME_WAIT, LISTEN = "06", "0A"  # include/net/tcp_states.h


def unnamed(machine: Machine) -> str:
    """Why there is no master to look for; empty: there is one."""
    job = job_variables.read(machine.env, machine.told, machine.shape)
    return "" if job.master_addr else "no MASTER_ADDR is set, and no --master-addr given"


def contacts(machine: Machine) -> list[str]:
    """Whom it would ask and connect to, for `--dry-run`."""
    job = job_variables.read(machine.env, machine.told, machine.shape)
    port = job.master_port or job_variables.TORCHRUN_PORT
    asked = [] if is_ip(job.master_addr) else [question(machine, job.master_addr)]
    if names_this_machine(machine, job.master_addr):
        return [*asked, f"binds port {port} of this machine, for a moment"]
    if not _connects(machine):
        return asked
    return [*asked, f"connects to {job.master_addr}, TCP port {port}, and closes the connection"]


@probe(
    isolated=True,
    timeout=RESOLVE_SECONDS + CONNECT_SECONDS + 2,
    unless=unnamed,
    contacts=contacts,
)
def master(machine: Machine) -> Master | Absent:
    """Resolve MASTER_ADDR; connect to it, or bind its port here."""
    if not machine.live:
        return Absent("the master is reached from the live machine only")
    job = job_variables.read(machine.env, machine.told, machine.shape)
    name, port = job.master_addr, job.master_port or job_variables.TORCHRUN_PORT
    found = Resolved((name,)) if is_ip(name) else resolve(name)
    seen = Master(
        name=name,
        port=port,
        addresses=found.addresses,
        resolve_error=found.error,
        resolve_seconds=found.seconds,
    )
    if any(way.here for way in map(way_to, found.addresses) if way):
        return _here(machine, seen)
    attempts = _attempts(machine, found.addresses, port) if _connects(machine) else ()
    return replace(seen, attempts=attempts)


def _connects(machine: Machine) -> bool:
    return "master_addr" in machine.told or not one_node(machine)


def _attempts(machine: Machine, addresses: tuple[str, ...], port: int) -> tuple[Attempt, ...]:
    """One connection to each address, all at the same time."""
    import socket

    started = time.monotonic()
    poll, waiting, ended = select.poll(), {}, {}
    mtus: dict[str, int | None] = {}

    def end(ip: str, number: int) -> None:
        error = errno.errorcode.get(number, str(number)) if number else ""
        ended[ip] = (error, round(time.monotonic() - started, 4))

    for ip in addresses[:MOST_ADDRESSES]:
        try:
            (family, kind, protocol, _, where), *_ = socket.getaddrinfo(
                ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            tried = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except socket.gaierror:  # fe80::1%eth0, and no eth0
            end(ip, errno.ENODEV)
            continue
        except OSError as error:  # no IPv6 here; of what a sandbox refuses nothing is known
            if error.errno != errno.EAFNOSUPPORT:
                raise
            end(ip, error.errno)
            continue
        number = tried.connect_ex(where)
        if number == errno.EINPROGRESS:
            poll.register(tried, select.POLLOUT)
            waiting[tried.fileno()] = (ip, tried)
        else:
            end(ip, number)
            tried.close()
    until = started + CONNECT_SECONDS
    while waiting and (left := until - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000 + 1):
            ip, tried = waiting.pop(descriptor)
            poll.unregister(descriptor)
            end(ip, tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            mtus[ip] = None if ended[ip][0] else _agreed_mtu(tried)
            tried.close()
    for ip, tried in waiting.values():
        end(ip, errno.ETIMEDOUT)
        tried.close()
    silent = _silent()
    return tuple(
        replace(_attempt(ip, *ended[ip], silent), peer_mtu=mtus.get(ip))
        for ip in addresses[:MOST_ADDRESSES]
    )


def _agreed_mtu(connected: Any) -> int | None:
    """The largest packet on a connection, by `struct tcp_info`: what the other end takes."""
    import socket

    try:
        told = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    except OSError:  # a sandbox's own TCP
        return None
    if len(told) < 32:
        return None
    options = 12 if told[5] & 1 else 0  # TCPI_OPT_TIMESTAMPS
    headers = 40 if connected.family == socket.AF_INET6 else 20
    segment = int.from_bytes(told[16:20], sys.byteorder)
    return segment + options + 20 + headers if segment else None


def _attempt(ip: str, error: str, seconds: float, silent: Container[tuple[str, str]]) -> Attempt:
    attempt = Attempt(ip=ip, error=error, seconds=seconds)
    way = way_to(ip)
    if way is None:
        return attempt
    if way.error:
        return replace(attempt, route_error=way.error)
    hop = way.gateway or ip.partition("%")[0]
    return replace(
        attempt,
        interface=way.interface,
        source=way.source,
        path_mtu=way.mtu,
        gateway=way.gateway,
        silent=hop if error and (way.interface, hop) in silent else "",
    )


def _silent() -> set[tuple[str, str]]:
    """Interfaces and addresses beyond them that answer no ARP, or its like of IPv6."""
    import socket

    from gpudoctor.probes import netlink

    try:
        told = map(netlink.silent, netlink.dump(netlink.GET_NEIGHBOUR))
        return {(socket.if_indextoname(found[0]), found[1]) for found in told if found}
    except OSError:  # a sandbox's kernel that does not tell
        return set()


def _here(machine: Machine, seen: Master) -> Master:
    error = _bind(seen.port)
    seen = replace(seen, here=True, bind_error=error)
    if error != "EADDRINUSE":
        return seen
    near = range(seen.port + 1, min(seen.port + PORTS_TO_TRY, 1 << 16))
    holder, pid = _holder(machine, seen.port)
    # Then ranks use the store of torchrun's agent, and rank 0 opens none.
    agents = machine.env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return replace(
        seen,
        holder=holder,
        holder_pid=pid,
        held_by_launcher=agents or pid in _ancestors(machine),
        free_port=next((port for port in near if not _bind(port)), None),
    )


def _holder(machine: Machine, port: int) -> tuple[str, int | None]:
    """Who has a port, in words, and the number of that process where it is seen."""
    tables = [machine.text(f"/proc/net/{name}") or "" for name in ("tcp", "tcp6")]
    held = [owner for table in tables for owner in owners(table, port)]
    if not held:
        return "", None
    owner = min(held, key=lambda owner: owner.state != LISTEN)
    pid = _process_with(machine, f"socket:[{owner.inode}]")
    if pid is None:
        return f"a process of uid {owner.uid} that is not seen from here", None
    command = machine.text(f"/proc/{pid}/comm") or "?"
    return f"{command} (pid {pid}, uid {owner.uid})", pid


def _bind(port: int) -> str:
    """Bind a port of all addresses as TCPStore does; the error's name, empty if it can be had.

    It does not listen, and says SO_REUSEADDR as TCPStore does: so a job that takes the port at
    the same moment is not disturbed.
    """
    import socket

    for family, everywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                tried.bind((everywhere, port))
                return ""
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES) or family == socket.AF_INET:
                return errno.errorcode.get(error.errno or 0, str(error.errno))
    return ""


class Owner(Struct, frozen=True):
    """A socket in /proc/net/tcp."""

    state: str
    uid: int
    inode: str


def owners(table: str, port: int) -> list[Owner]:
    """The sockets of /proc/net/tcp or tcp6 that have a local port."""
    rows: Any = (line.split() for line in table.splitlines()[1:])
    return [
        Owner(row[3], int(row[7]), row[9])
        for row in rows
        if len(row) > 9 and row[3] != TIME_WAIT and int(row[1].rpartition(":")[2], 16) == port
    ]


def _process_with(machine: Machine, link: str) -> int | None:
    for pid in machine.list("/proc"):
        if pid.isdigit() and any(
            machine.link(f"/proc/{pid}/fd/{fd}") == link for fd in machine.list(f"/proc/{pid}/fd")
        ):
            return int(pid)
    return None


def _ancestors(machine: Machine) -> set[int]:
    found, pid = set(), os.getppid()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = (machine.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        pid = int(stat[1]) if len(stat) > 1 else 0
    return found
