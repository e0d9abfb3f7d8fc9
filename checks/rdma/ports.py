"""RDMA ports: up, as fast as their siblings, without the errors of a bad cable."""

from collections.abc import Sequence

from gpudoctor import (
    Environment,
    Finding,
    Fix,
    Gpus,
    NcclSettings,
    Rdma,
    Workload,
    check,
    count_of,
    fail,
    ok,
    skip,
    warn,
)
from gpudoctor.rules.nccl_ports import Port, asked, fabric, idle, told

# Gb/s of one PCIe lane, with its coding; PCI-SIG: 2.5 and 5 GT/s 8b/10b, then 128b/130b.
LANE_GBPS = {1: 2.0, 2: 4.0, 3: 7.88, 4: 15.75, 5: 31.5, 6: 60.5}
SIBLINGS = 3  # ports, fewer say nothing of each other
# Counted since the driver was loaded, so only one port among its siblings can be judged.
TIMES_SIBLINGS = 10
TELLING = {"link_downed": 10, "symbol_error": 1000, "local_link_integrity_errors": 10}

NO_FABRIC = "no port for NCCL's own RDMA: EFA, an ordinary network card's, or software"


@check(
    owner="network",
    symptoms=[
        r"NET/IB : No device found",
        r"ibv_modify_qp failed with error (?:Connection timed out|No such device)",
        r"Got (?:non-fatal )?async event ?: port error",
    ],
)
def rdma_ports(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
) -> Finding:
    """The RDMA ports of this node are up.

    NCCL passes over a port that is not ACTIVE: its traffic takes another's, or TCP when none is
    left: "NET/IB : No device found". Then this node differs from the others, and the job hangs
    or ends when they connect.
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    ports = fabric(rdma, values)
    if not ports:
        return skip(NO_FABRIC)
    up = [port for port in ports if port.active]
    down = [port for port in ports if not port.active]
    summary = f"{len(up)} of {count_of(len(ports), 'port')} ACTIVE"
    evidence = [_state(port) for port in down]
    if wanted := [port for port in asked(rdma, values) if not port.active]:
        summary += ", named by NCCL_IB_HCA"
        return fail(summary, _up(wanted), evidence=evidence, basis="vendor")
    if amiss := _amiss(up, down, len(gpus.alive) if gpus else 0) if up else down:
        return warn(summary, _up(amiss), evidence=evidence, basis="rule-of-thumb")
    return ok(summary, evidence)


def _amiss(up: Sequence[Port], down: Sequence[Port], rails: int) -> list[Port]:
    """Ports that are down and should not be: many a card has one that nobody uses."""
    if waiting := [port for port in down if port.port.state in ("INIT", "ARMED")]:
        return waiting
    working, fastest = {port.card for port in up}, _fastest(up)
    dead = _dead(up, down)
    for cards in (working, {port.card for port in fastest}):
        if len(cards) < rails <= len(cards | {port.card for port in dead}):
            return dead
    return []


def _fastest(up: Sequence[Port]) -> list[Port]:
    """Those for the GPUs, of the ports that are up: storage has ports of its own, often slower."""
    best = max(map(_rate, up))
    return [port for port in up if _rate(port) == best]


def _dead(up: Sequence[Port], down: Sequence[Port]) -> list[Port]:
    """Ports of cards that could be one of the fastest, of which nothing is up or switched off."""
    working = {port.card for port in up}
    boards = {port.device.board for port in _fastest(up)}
    return [
        port
        for port in down
        if port.card not in working
        and port.port.physical_state != "Disabled"
        and port.device.board in boards
    ]


def _state(port: Port) -> str:
    physical = f", {port.port.physical_state}" if port.port.physical_state else ""
    return f"{port.label} is {port.port.state or 'in a state not told'}{physical}"


def _up(ports: Sequence[Port]) -> Fix:
    """What to do about ports that are down, by what keeps the first of them."""
    first = ports[0]
    interface = first.port.interface
    if first.is_roce and interface:
        text = f"Switch {interface} on, then look at its cable and switch port"
        return Fix(text=text, commands=[f"ip link set {interface} up"], needs_root=True)
    if first.port.physical_state == "LinkUp":
        return Fix(
            text="Start a subnet manager in this InfiniBand network",
            commands=["systemctl enable --now opensm"],
            needs_root=True,
        )
    return _look_at(first)


def _look_at(port: Port) -> Fix:
    return Fix(
        text=f"Look at the cable of {port.label} and at the switch's port",
        commands=[f"ibstat {port.device.name} {port.port.number}"],
    )


@check(
    owner="network",
    symptoms=[r"NET/IB.* speed=\d+", r"mlx5_core .* PCIe bandwidth with", r"ib_write_bw"],
)
def rdma_rate(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
) -> Finding:
    """Every RDMA port runs at its full rate.

    A bad cable makes a port settle for fewer lanes or a lower speed, and so does a card in its
    slot: mlx5_core then logs "63.008 Gb/s available PCIe bandwidth". Every collective waits for
    the slowest port, with no error.
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    found = fabric(rdma, values)
    ports = [port for port in found if port.active and port.port.rate_gbps]
    if not ports:
        return skip(NO_FABRIC)
    if narrow := [port for port in ports if _narrow(port)]:
        return _in_narrow_slots(narrow)
    best = max(_rate(port) for port in ports)
    slow = [port for port in ports if _rate(port) < best]
    evidence = [f"{port.label}: {_rate(port):g} Gb/s" for port in slow]
    wanted = {port.label for port in asked(rdma, values)}
    down = [port for port in found if not port.active]
    amiss = [p for p in slow if p.label in wanted] or _stand_out(ports, down, gpus)
    if amiss:
        summary = f"{amiss[0].label} runs at {_rate(amiss[0]):g} Gb/s, others at {best:g}"
        return warn(summary, _look_at(amiss[0]), evidence=evidence, basis="rule-of-thumb")
    evidence += [line for port in ports if (line := _limited(port))]
    return ok(f"{best:g} Gb/s on {count_of(len(ports) - len(slow), 'port')}", evidence)


def _in_narrow_slots(ports: Sequence[Port]) -> Finding:
    lines = [_narrow(port) for port in ports]
    fix = Fix(
        text="Reseat the card, and look for a slot or riser with fewer lanes",
        commands=[f"lspci -vv -s {port.device.pci} | grep Lnk" for port in ports],
        needs_root=True,
    )
    return warn(lines[0], fix, evidence=lines[1:], basis="vendor", owner="node")


def _rate(port: Port) -> float:
    return port.port.rate_gbps or 0.0


def _stand_out(up: Sequence[Port], down: Sequence[Port], gpus: Gpus | None) -> list[Port]:
    """The slower ports that should be like the others, and are not those of storage."""
    fastest = _fastest(up)
    cards = {port.card for port in fastest}
    boards = {port.device.board for port in fastest}
    slow = [p for p in up if p not in fastest and p.device.board in boards]
    rails = len(gpus.alive) if gpus else 0
    if rails > 1 and len({port.card for port in up}) >= rails:
        # One that is down is missing there: rdma-ports tells.
        return slow if len(cards | {port.card for port in _dead(up, down)}) < rails else []
    return slow if len(slow) == 1 and len(up) > SIBLINGS else []


def _narrow(port: Port) -> str:
    """That the card has fewer lanes, or slower ones, than card and slot have together."""
    device = port.device
    gen, most, width, widest = (
        *(device.link_gen, device.link_gen_max),
        *(device.link_width, device.link_width_max),
    )
    if not (gen and most and width and widest) or (gen >= most and width >= widest):
        return ""
    if LANE_GBPS.get(gen, 0) * width >= _rate(port):
        return ""  # enough for its rate all the same
    have = f"PCIe {gen} x{width}, card and slot have {most} x{widest}"
    return f"{device.name} at {_rate(port):g} Gb/s has {have}"


def _limited(port: Port) -> str:
    """A slot that was never fast enough is how the machine was built: worth knowing, no fault."""
    gen, width = port.device.link_gen, port.device.link_width
    room = LANE_GBPS.get(gen or 0, 0) * (width or 0)
    if not room or room >= _rate(port):
        return ""
    return f"{port.label}: PCIe {gen} x{width} carries {room:.0f} of {_rate(port):g} Gb/s"


@check(
    owner="network",
    symptoms=[
        r"IBV_WC_RETRY_EXC_ERR",
        r"Got completion from peer .* with (?:status=|error )(?:IBV_WC_RETRY_EXC_ERR\()?12",
        r"vendor[ _]err[ =]129",
        r"local_ack_timeout_err",
    ],
)
def rdma_counters(
    rdma: Rdma,
    workload: Workload,
    gpus: Gpus | None,
    environment: Environment | None,
    nccl_settings: NcclSettings | None,
) -> Finding:
    """No RDMA port has the errors of a bad cable.

    A cable or transceiver that fails loses the link for a moment, again and again. The job
    stalls, or ends hours later with "Got completion from peer 10.0.0.2 with error 12, ...
    vendor err 129", "status=IBV_WC_RETRY_EXC_ERR(12)", on a node that looks healthy.
    """
    values = told(environment, nccl_settings)
    if why := idle(rdma, workload, gpus, values):
        return skip(why)
    ports: list[Port] = [port for port in fabric(rdma, values) if port.active]
    if not ports:
        return skip(NO_FABRIC)
    said = [f"{p.label}: {n} {count}" for p in ports for n, count in p.port.counters.items()]
    if len(ports) < SIBLINGS:
        return ok(f"{count_of(len(ports), 'port')}, none to compare with", said)
    for name, least in TELLING.items():
        counts = [port.port.counters.get(name, 0) for port in ports]
        usual = sorted(counts)[len(counts) // 2]
        if max(counts) >= max(least, TIMES_SIBLINGS * (usual + 1)):
            worst = ports[counts.index(max(counts))]
            summary = f"{worst.label} has {name} {max(counts)}, the others about {usual}"
            text = f"Look at the cable and transceiver of {worst.label}; it should not grow"
            fix = Fix(text=text, commands=[f"watch -d cat {_counter(worst, name)}"])
            return warn(summary, fix, evidence=said, basis="rule-of-thumb")
    return ok(f"{count_of(len(ports), 'port')}, none stands out among them", said[:10])


def _counter(port: Port, name: str) -> str:
    at = f"/sys/class/infiniband/{port.device.name}/ports/{port.port.number}"
    return f"{at}/counters/{name}"
