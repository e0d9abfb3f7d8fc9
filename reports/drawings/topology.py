"""How GPUs, NICs and processors of one node hang together, as far as the facts know it."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from gpudoctor.facts.gpus import Gpu, Gpus
from gpudoctor.facts.network import Interface, Network
from gpudoctor.facts.rdma import Rdma, RdmaDevice
from gpudoctor.units import count_of, size

from .svg import box, figure, label, line, picture, short, table, tag

CARD, GAP = 100, 8  # width of a GPU or NIC, and what lies between two
PAD, BETWEEN = 12, 24  # inside a NUMA node, and between two
FABRIC, REACH = 30, 34  # height of the switch's band, and of the links up to it
TALL = 60  # a GPU's height
MOST_NICS = 16


def topology(
    gpus: Gpus | None,
    rdma: Rdma | None = None,
    network: Network | None = None,
    *,
    title: str = "Topology",
) -> Markup:
    """GPUs under what links them, on their NUMA nodes, with the NICs there.

    Args:
        gpus: of one node; with fewer than two GPUs and no NIC there is nothing to draw.
        rdma: its RDMA devices.
        network: its interfaces; physical ones that are no RDMA device's are drawn, too.
        title: stands above.
    """
    devices = gpus.devices if gpus else ()
    cards = [_rdma_card(device) for device in rdma.devices] if rdma else []
    taken = {device.pci for device in rdma.devices if device.pci} if rdma else set()
    taken_names = {port.interface for d in rdma.devices for port in d.ports} if rdma else set()
    if network:
        cards += [
            _interface_card(interface)
            for interface in network.interfaces
            if interface.kind == "physical"
            and interface.pci not in taken
            and interface.name not in taken_names
        ]
    if not devices or len(devices) + len(cards) < 2:
        return Markup()
    drawn = _Drawing(devices, gpus, cards)
    return figure(title, drawn.note, [drawn.picture(title)], drawn.twin(title))


class _Card:
    """A NIC to draw."""

    def __init__(self, name: str, said: str, numa: int | None, *, is_up: bool, words: str) -> None:
        self.name, self.said, self.numa, self.is_up, self.words = name, said, numa, is_up, words


def _rdma_card(device: RdmaDevice) -> _Card:
    up = [port for port in device.ports if port.state == "ACTIVE"]
    layer = {"InfiniBand": "IB", "Ethernet": "RoCE"}
    said = "no port" if not device.ports else device.ports[0].state or "state not known"
    if up:
        kind = layer.get(up[0].link_layer, up[0].link_layer)
        said = f"{up[0].rate_gbps:g} Gb/s {kind}" if up[0].rate_gbps else f"up {kind}"
    words = f"{device.name}: {said}" + (f", PCI {device.pci}" if device.pci else "")
    return _Card(device.name, said, device.numa_node, is_up=bool(up), words=words)


def _interface_card(interface: Interface) -> _Card:
    speed = interface.speed_mbps
    said = f"{speed / 1000:g} Gb/s" if speed and speed > 0 else "up"
    said = said if interface.running else "down"
    words = f"{interface.name}: {said}, MTU {interface.mtu}"
    return _Card(interface.name, said, interface.numa_node, is_up=interface.running, words=words)


class _Drawing:
    """Places of everything, from left to right by NUMA node."""

    def __init__(self, devices: Sequence[Gpu], gpus: Gpus | None, cards: Sequence[_Card]) -> None:
        self._pairs = {(p.one, p.other): p for p in (gpus.pairs if gpus else ())}
        self._pairs |= {(p.other, p.one): p for p in self._pairs.values()}
        self._gpus = list(devices)
        numas = sorted({d.numa_node for d in devices} | {c.numa for c in cards}, key=_last)
        if len(numas) > 1 and all(d.numa_node is None for d in devices):
            numas = [None, *(n for n in numas if n is not None)]
        self._groups = [
            (
                numa,
                [gpu for gpu in devices if gpu.numa_node == numa],
                [card for card in cards if card.numa == numa],
            )
            for numa in numas
        ]
        self._name = "xGMI" if any(gpu.vendor == "amd" for gpu in devices) else "NVLink"
        self._bus = {gpu.bus_id: gpu.index for gpu in devices if gpu.bus_id}
        self._wires = self._count_wires()
        self._shape = self._find_shape()

    @property
    def note(self) -> str:
        said = {"switch": f"{self._name} through switches", "all": f"{self._name}, all to all"}
        return said.get(self._shape, self._name if self._shape else "PCIe only")

    def _count_wires(self) -> dict[tuple[int, int], int]:
        """Active links between two GPUs, by their indexes, the smaller one first."""
        wires: dict[tuple[int, int], int] = {}
        for gpu in self._gpus:
            for link in gpu.links or ():
                other = self._bus.get(link.peer)
                if link.active and other is not None and gpu.index < other:
                    wires[gpu.index, other] = wires.get((gpu.index, other), 0) + 1
        for (one, other), pair in self._pairs.items():
            if one < other and pair.path.upper() in ("NVLINK", "XGMI"):
                wires.setdefault((one, other), 0)  # how many is not known
        return wires

    def _find_shape(self) -> str:
        """ "switch", "all" (each to each, alike), "some" (drawn one by one), or none: ""."""
        if any(link.peer == "switch" for gpu in self._gpus for link in gpu.links or ()):
            return "switch"
        alive = [gpu for gpu in self._gpus if not gpu.lost]
        pairs = len(alive) * (len(alive) - 1) // 2
        if len(alive) > 2 and len(self._wires) == pairs and len(set(self._wires.values())) == 1:
            return "all"
        return "some" if self._wires else ""

    def picture(self, title: str) -> Markup:
        places = self._places()
        top = FABRIC + REACH + 4 if self._shape in ("switch", "all") else 8.0
        if self._shape == "some":
            top += max(_rise(places[one] - places[other]) for one, other in self._wires)
        parts: list[Markup] = []
        x, height = 0.0, 0.0
        for numa, gpus, cards in self._groups:
            width = _width(gpus, cards)
            parts += self._numa(numa, x, top, width, gpus, cards)
            for gpu in gpus:
                parts += _gpu(gpu, places[gpu.index] - CARD / 2, top + PAD)
            height = max(height, top + _height(gpus, cards, width))
            x += width + BETWEEN
        width = x - BETWEEN
        if self._shape in ("switch", "all"):
            parts += self._fabric(places, top, width)
        elif self._shape == "some":
            parts += self._arcs(places, top + PAD)
        return picture(title, self._said(), parts, width=width, height=height + 2, fits=False)

    def _places(self) -> dict[int, float]:
        """Where the middle of each GPU is, from the left."""
        places, x = {}, 0.0
        for _, gpus, cards in self._groups:
            for place, gpu in enumerate(gpus):
                places[gpu.index] = x + PAD + place * (CARD + GAP) + CARD / 2
            x += _width(gpus, cards) + BETWEEN
        return places

    def _numa(
        self,
        numa: int | None,
        x: float,
        top: float,
        width: float,
        gpus: Sequence[Gpu],
        cards: Sequence[_Card],
    ) -> Iterable[Markup]:
        """The frame of a NUMA node, its processor, and the NICs under it."""
        yield box(x + 0.5, top + 0.5, width - 1, _height(gpus, cards, width) - 1, "numa")
        bar = top + PAD + (TALL + 24 if gpus else 0)
        if gpus:
            yield from self._pcie(gpus, x + PAD, top + PAD + TALL, bar)
        name = self._numa_name(numa)
        yield box(x + PAD, bar, width - 2 * PAD, 24, "cpu")
        yield label(x + width / 2, bar + 16, name, "strong", at="middle")
        across = _across(width)
        for place, card in enumerate(cards[:MOST_NICS]):
            left = x + PAD + place % across * (CARD + GAP)
            y = bar + 24 + 18 + place // across * 54
            if place < across:
                yield line(left + CARD / 2, bar + 24, left + CARD / 2, y, "wire")
            yield box(
                left, y, CARD, 44, "nic" if card.is_up else "nic down", tag("title", card.words)
            )
            yield label(left + CARD / 2, y + 18, short(card.name, 11), "name", at="middle")
            yield label(left + CARD / 2, y + 34, short(card.said, 14), "small", at="middle")

    def _numa_name(self, numa: int | None) -> str:
        if numa is None:
            return "NUMA node not known" if len(self._groups) > 1 else "Processors"
        return f"NUMA node {numa}"

    def _pcie(self, gpus: Sequence[Gpu], left: float, y: float, bar: float) -> Iterable[Markup]:
        """Lines from GPUs to their processor; those behind one PCIe switch share a line."""
        shared: list[list[int]] = []
        for place, gpu in enumerate(gpus):
            before = shared[-1][-1] if shared else None
            pair = self._pairs.get((gpus[before].index, gpu.index)) if before is not None else None
            if pair and pair.path == "PCIe switch":
                shared[-1].append(place)
            else:
                shared.append([place])
        for places in shared:
            xs = [left + place * (CARD + GAP) + CARD / 2 for place in places]
            middle, knee = sum(xs) / len(xs), y + 10
            for x in xs:
                yield line(x, y, x, knee if len(xs) > 1 else bar, "wire")
            if len(xs) > 1:
                yield line(xs[0], knee, xs[-1], knee, "wire switch")
                yield line(middle, knee, middle, bar, "wire")

    def _fabric(self, places: dict[int, float], top: float, width: float) -> Iterable[Markup]:
        """A band that all GPUs reach up to."""
        switched = self._shape == "switch"
        name = "NVSwitch" if switched else f"{self._name}: every GPU to every other"
        yield box(0.5, 0.5, width - 1, FABRIC, "fabric")
        yield label(width / 2, 20, name, "strong", at="middle")
        most = max(sum(link.active for link in gpu.links or ()) for gpu in self._gpus)
        for gpu in self._gpus:
            links = gpu.links or ()
            active = sum(link.active for link in links)
            x = places[gpu.index]
            kind = "off" if active < most else ""
            if gpu.lost or not (active or self._shape == "all"):
                continue
            yield line(x, FABRIC, x, top + PAD, f"link {kind}".strip())
            said = f"{active} of {len(links)}" if active < len(links) else f"×{active}"
            if links:
                yield label(x + 7, FABRIC + 22, said, "bad" if kind else "small")

    def _arcs(self, places: dict[int, float], y: float) -> Iterable[Markup]:
        """A bow for each pair that has links, the thicker the more."""
        for (one, other), count in self._wires.items():
            left, right = sorted((places[one], places[other]))
            rise = (PAD + _rise(right - left)) * 4 / 3
            said = f"GPU {one} to GPU {other}: " + (
                count_of(count, f"{self._name} link") if count else self._name
            )
            yield tag(
                "path",
                tag("title", said),
                d=f"M{left:.1f} {y:.1f}C{left:.1f} {y - rise:.1f} "
                f"{right:.1f} {y - rise:.1f} {right:.1f} {y:.1f}",
                stroke_width=min(1.5 + count * 0.75, 6.0),
                class_="arc",
            )

    def _said(self) -> str:
        alive = sum(not gpu.lost for gpu in self._gpus)
        said = [
            count_of(len(self._gpus), "GPU")
            + (f", {len(self._gpus) - alive} lost" * (alive < len(self._gpus)))
        ]
        said.append(self.note)
        for numa, gpus, cards in self._groups:
            where = self._numa_name(numa)
            held = [f"GPU {gpu.index}" for gpu in gpus] + [card.name for card in cards]
            said.append(f"{where}: {', '.join(held) or 'nothing'}")
        return "; ".join(said)

    def twin(self, title: str) -> Markup:
        """GPU by GPU: how each reaches each other, and its NUMA node."""
        head = ["From", *(f"GPU {gpu.index}" for gpu in self._gpus), "NUMA", "NICs there"]
        nics = {numa: [card.name for card in cards] for numa, _, cards in self._groups}
        rows = []
        for gpu in self._gpus:
            cells = [self._way(gpu, other) for other in self._gpus]
            numa = "–" if gpu.numa_node is None else str(gpu.numa_node)
            rows.append([f"GPU {gpu.index}", *cells, numa, ", ".join(nics[gpu.numa_node])])
        return table(title, head, rows)

    def _way(self, one: Gpu, other: Gpu) -> str:
        if one.index == other.index:
            return "–"
        if one.lost or other.lost:
            return "lost"
        key = (min(one.index, other.index), max(one.index, other.index))
        if count := self._wires.get(key):
            return f"{self._name} ×{count}"
        pair = self._pairs.get(key)
        if pair is None:
            return "not known"
        return pair.path if pair.p2p == "ok" else f"{pair.path or 'no P2P'}: {pair.p2p}"


def _rise(length: float) -> float:
    """How high a bow of that length rises above the frame."""
    return min(8 + abs(length) * 0.1, 80.0)


def _last(numa: int | None) -> int:
    return 1 << 30 if numa is None else numa


def _width(gpus: Sequence[Gpu], cards: Sequence[_Card]) -> float:
    """Of a NUMA node's frame."""
    wide = max(len(gpus), min(len(cards), 4), 2)
    return 2 * PAD + wide * CARD + (wide - 1) * GAP


def _across(width: float) -> int:
    return int((width - 2 * PAD + GAP) // (CARD + GAP))


def _height(gpus: Sequence[Gpu], cards: Sequence[_Card], width: float) -> float:
    rows = -(-min(len(cards), MOST_NICS) // _across(width))
    nics = 18 + rows * 54 - 10 if rows else 0
    return PAD + (TALL + 24 if gpus else 0) + 24 + nics + PAD


def _gpu(gpu: Gpu, left: float, top: float) -> Iterable[Markup]:
    memory = f", {size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
    words = f"GPU {gpu.index}: {gpu.lost or gpu.name + memory}, PCI {gpu.bus_id}"
    yield box(left, top, CARD, TALL, "gpu off" if gpu.lost else "gpu", tag("title", words))
    yield label(left + CARD / 2, top + 21, f"GPU {gpu.index}", "strong", at="middle")
    said = "lost" if gpu.lost else size(gpu.memory_bytes) if gpu.memory_bytes else gpu.vendor
    yield label(left + CARD / 2, top + 37, said, "bad" if gpu.lost else "small", at="middle")
    bus = gpu.bus_id.removeprefix("0000:").removeprefix("00000000:")
    yield label(left + CARD / 2, top + 51, short(bus, 12), "small", at="middle")
