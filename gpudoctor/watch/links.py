"""Network interfaces and RDMA ports: down, or with more errors than a good cable has."""

from collections.abc import Iterator

from gpudoctor.units import count_of
from gpudoctor.watch.course import FEW, Course
from gpudoctor.watch.event import Trouble
from gpudoctor.watch.look import Link, Port

ERRORS, ERROR_SHARE = 100, 1e-5  # of frames in an hour: those of check net-link
# Frames of unknown protocols (spanning tree, discovery) are dropped on every healthy host,
# some in a second; a link in trouble drops more, and a share of what it carries.
DROPS_PER_SECOND, DROP_SHARE = 50.0, 0.01
# In an hour. symbol_error and local_link_integrity_errors: check rdma-counters.
# local_ack_timeout_err: each one is a stall of seconds (NCCL_IB_TIMEOUT); peers that end make some.
TELLING = {
    "link_downed": 1,
    "symbol_error": 1000,
    "local_link_integrity_errors": 10,
    "port_rcv_errors": 100,
    "excessive_buffer_overrun_errors": 10,
    "local_ack_timeout_err": 100,
}
# Of the packets sent in an hour, and at least so many: RoCE that loses packets.
LOSSES, LOSS_SHARE = 1000, 1e-4
LOST = ("packet_seq_err", "out_of_sequence")
CABLE = "See to cable, transceiver and switch port of {}"


def troubles(course: Course) -> Iterator[Trouble]:
    """What is not well in the look of now."""
    now = {link.name: link for link in course.now.network or ()}
    hour = {link.name: link for link in course.hour.network or ()}
    last = {link.name: link for link in course.last.network or ()}
    for before in course.first.network or () if course.now.network is not None else ():
        link = now.get(before.name)
        yield from _down(before, link)
        if link and before.name in hour and before.name in last:
            yield from _flapped(hour[link.name], last[link.name], link, course.hour.at)
            yield from _errors(hour[link.name], link)
            yield from _drops(course, last[link.name], link)
    ports = {port.name: port for port in course.now.rdma or ()}
    earlier = {port.name: port for port in course.hour.rdma or ()}
    for first in course.first.rdma or () if course.now.rdma is not None else ():
        if first.name in ports and first.name in earlier:
            yield from _port(first, earlier[first.name], ports[first.name], course.hour.at)
        elif first.name not in ports:
            yield _gone(first)


def _down(before: Link, link: Link | None) -> Iterator[Trouble]:
    if not before.running or (link and link.running):
        return
    yield Trouble(
        id="net-down",
        subject=before.name,
        level="warning" if before.wireless else "error",
        text="has no carrier" if link else "is gone",
        means="connections over it stall, and NCCL ends with a timeout",
        do=CABLE.format(before.name),
        check="net-link",
        source="network",
        end="carries again",
    )


def _flapped(hour: Link, last: Link, link: Link, at: float) -> Iterator[Trouble]:
    times = (link.carrier_changes - hour.carrier_changes) // 2
    if link.carrier_changes - last.carrier_changes > 1 and link.running and last.running:
        yield Trouble(
            id="net-flap",
            subject=link.name,
            level="warning",
            text=f"lost its carrier {count_of(times, 'time')} and has it again",
            means="a bad cable or transceiver does so more and more often",
            do=CABLE.format(link.name),
            check="net-link",
            source="network",
            mark=f"{at:.0f} {times.bit_length()}",  # said again when it has doubled in an hour
        )


def _errors(hour: Link, link: Link) -> Iterator[Trouble]:
    errors, packets = link.errors - hour.errors, link.packets - hour.packets
    if packets > 0 and errors > max(ERRORS, ERROR_SHARE * packets):
        yield Trouble(
            id="net-errors",
            subject=link.name,
            level="warning",
            text=f"{errors} of {packets} frames had errors",
            means="what is lost is sent again: steps take longer, or NCCL times out",
            do=CABLE.format(link.name),
            check="net-link",
            source="network",
            end="no more errors",
        )


def _drops(course: Course, last: Link, link: Link) -> Iterator[Trouble]:
    seconds = course.now.at - course.last.at
    dropped, packets = link.dropped - last.dropped, link.packets - last.packets
    many = dropped > max(DROPS_PER_SECOND * seconds, DROP_SHARE * packets) and dropped > 0
    if course.holds(("drops", link.name), many).looks >= FEW:
        yield Trouble(
            id="net-drops",
            subject=link.name,
            level="warning",
            text=f"{dropped} packets dropped beside {packets} carried in {seconds:.3g} s",
            means="the kernel or the card cannot keep up, or a switch sends what is not for it",
            do=f"See which counter grows: `ethtool -S {link.name}`, `ip -s -s link`",
            check="net-link",
            source="network",
            end="no longer drops packets",
        )


def _port(first: Port, hour: Port, port: Port, at: float) -> Iterator[Trouble]:
    if first.state == "ACTIVE" and port.state != "ACTIVE":
        yield Trouble(
            id="rdma-down",
            subject=port.name,
            level="error",
            text=f"is {port.state or 'in no state that can be read'}, it was ACTIVE",
            means='the job ends with "IBV_WC_RETRY_EXC_ERR" or hangs until NCCL times out',
            do=CABLE.format(port.name),
            check="rdma-ports",
            source="rdma",
            end="ACTIVE again",
        )
    grown = {
        name: count - hour.counters[name]
        for name, count in port.counters.items()
        if count > hour.counters.get(name, count)
    }
    for name, least in TELLING.items():
        if grown.get(name, 0) >= least:
            yield _counted(port, name, f"{name} grew by {grown[name]}", grown[name], at)
    lost = grown.get("packet_seq_err", 0)
    sent = grown.get("port_xmit_packets", 0)
    if sent and lost >= max(LOSSES, LOSS_SHARE * sent):
        words = ", ".join(f"{name} {grown[name]}" for name in LOST if name in grown)
        yield _counted(port, "packet_seq_err", f"{words} in {sent} packets", lost, at)


def _counted(port: Port, name: str, text: str, count: int, at: float) -> Trouble:
    lossy = name in ("packet_seq_err", "local_ack_timeout_err")
    do = CABLE.format(port.name)
    return Trouble(
        id=f"rdma-{name.replace('_', '-')}",
        subject=port.name,
        level="warning",
        text=text,
        means="packets are lost on the way: steps stall, "
        'and too many end in "IBV_WC_RETRY_EXC_ERR(12)"',
        do=f"{do}, and to PFC and ECN on the switches" if lossy else do,
        check="rdma-counters",
        source="rdma",
        mark=f"{at:.0f} {count.bit_length()}",  # said again when it has doubled in an hour
    )


def _gone(port: Port) -> Trouble:
    return Trouble(
        id="rdma-down",
        subject=port.name,
        level="error",
        text="is gone",
        means="what went over it ends with an asynchronous error of its device",
        do="See the kernel's log for its driver, and seat the card again",
        check="rdma-devices",
        source="rdma",
        end="is back",
    )
