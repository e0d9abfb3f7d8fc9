"""reports/drawings: what is drawn, what is said of it, and that text of a machine stays text."""

import importlib
import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from gpudoctor import Gpus, Link, Measured, Pair, Way
from tests.gpu_machines import H100, HGX, INSTINCT, RTX_4090, but, machine
from tests.rdma_machines import INFINIBAND, UNPLUGGED, without
from tests.reports import nodes

drawings = importlib.import_module("gpudoctor.reports.drawings")
clocks = importlib.import_module("gpudoctor.reports.drawings.clocks")
svg = importlib.import_module("gpudoctor.reports.drawings.svg")
HOSTILE = "<script>alert(1)</script>\u202e"


class Figure(HTMLParser):
    """The elements of a drawing, and the cells of its table, row by row."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text.append(data)
        if self.tags[-1][0] in ("td", "th"):
            self.rows[-1][-1] += data

    def of_class(self, name: str) -> int:
        return sum(name == (attrs.get("class") or "") for _, attrs in self.tags)


def way(source: str, target: str, offset: float | None, doubt: float = 1e-5) -> Way:
    return Way(
        source=source,
        target=target,
        clock_offset_seconds=offset,
        clock_uncertainty_seconds=doubt,
    )


WAYS = (
    way("a", "b", 0.001),
    way("b", "a", -0.0011, 1e-3),
    way("b", "c", 0.499),
    way("a", "x", None),
)
DRAWN = {
    "topology": drawings.topology(HGX, INFINIBAND, nodes.NETWORK),
    "sweep": drawings.sweep(nodes.sweep().points, nodes.sweep(300e9).points[-3:]),
    "clocks": drawings.clock_offsets(WAYS),
    "distribution": drawings.distribution("busbw", [float(n) for n in range(200)]),
}


@pytest.mark.parametrize("drawn", DRAWN.values(), ids=DRAWN.keys())
def test_a_picture_has_a_name_and_a_table(drawn):
    figure = Figure(drawn)
    images = [attrs for tag, attrs in figure.tags if tag == "svg"]

    assert images
    assert all(attrs["role"] == "img" for attrs in images)
    assert drawn.count("<title>") >= len(images)
    assert drawn.count("<desc>") == len(images)
    assert len(figure.rows) > 2
    assert {len(row) for row in figure.rows} == {len(figure.rows[0])}
    assert [attrs for tag, attrs in figure.tags if tag == "th" and "scope" not in attrs] == []
    assert [attrs for _, attrs in figure.tags if {"style", "fill", "stroke"} & set(attrs)] == []


@pytest.mark.parametrize("drawn", DRAWN.values(), ids=DRAWN.keys())
def test_everything_is_inside_the_picture(drawn):
    for image in re.findall(r"<svg.*?</svg>", drawn):
        width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', image).groups())
        xs = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)"', image)]
        ys = [float(y) for y in re.findall(r' (?:y|y1|y2|cy)="(-?[\d.]+)"', image)]

        assert 0 <= min(xs) <= max(xs) <= width
        assert 0 <= min(ys) <= max(ys) <= height


@pytest.mark.parametrize(
    "drawn",
    [
        drawings.topology(None),
        drawings.topology(Gpus()),
        drawings.topology(machine(RTX_4090)),
        drawings.sweep(()),
        drawings.sweep((replace(nodes.sweep().points[0], seconds=0.0),)),
        drawings.clock_offsets(()),
        drawings.clock_offsets((way("a", "b", None),)),
        drawings.distribution("x", []),
        drawings.distribution("x", [float("nan")]),
    ],
)
def test_of_nothing_nothing_is_drawn(drawn):
    assert drawn == ""


def test_text_of_the_machine_stays_text():
    gpus = but(HGX, 0, name=HOSTILE, bus_id=HOSTILE)
    gpus = but(gpus, 1, lost=HOSTILE)
    rdma = replace(INFINIBAND, devices=(replace(INFINIBAND.devices[0], name=HOSTILE),))
    drawn = [
        drawings.topology(gpus, rdma, title=HOSTILE),
        drawings.clock_offsets((way(HOSTILE, "b", 1.0),), title=HOSTILE, note=HOSTILE),
        drawings.distribution(HOSTILE, [1.0, 2.0], named={HOSTILE: 2.0}, note=HOSTILE),
        drawings.sweep(nodes.sweep().points, title=HOSTILE, note=HOSTILE),
    ]
    for one in drawn:
        assert "script" not in {tag for tag, _ in Figure(one).tags}
        assert "\u202e" not in one


MESH = machine(H100, 4)
MESH = replace(
    MESH,
    devices=tuple(
        replace(
            gpu,
            links=tuple(
                Link(number=n, active=True, peer=MESH.devices[gpu.index ^ 1].bus_id)
                for n in range(4)
            ),
        )
        for gpu in MESH.devices
    ),
    pairs=tuple(
        Pair(one=one, other=other, p2p="ok", path="PCIe switch" if other < 2 else "system")
        for one in range(4)
        for other in range(one + 1, 4)
    ),
)


@pytest.mark.parametrize(
    ("gpus", "note", "fabric", "arcs", "links"),
    [
        (HGX, "NVLink through switches", 1, 0, 8),
        (but(HGX, 5, lost="gone", links=None), "NVLink through switches", 1, 0, 7),
        (INSTINCT, "xGMI, all to all", 1, 0, 8),
        (MESH, "NVLink", 0, 2, 0),
        (machine(RTX_4090, 2), "PCIe only", 0, 0, 0),
    ],
    ids=["switches", "one lost", "each to each", "bridges", "none"],
)
def test_a_topology_is_as_the_links_are(gpus, note, fabric, arcs, links):
    figure = Figure(drawings.topology(gpus))

    assert note in figure.text
    assert [figure.of_class(kind) for kind in ("fabric", "arc", "link")] == [fabric, arcs, links]


def test_a_topology_shows_what_is_missing():
    links = tuple(replace(link, active=link.number > 1) for link in H100.links or ())
    gpus = but(but(HGX, 3, lost="has fallen off the bus", links=None), 5, links=links)
    figure = Figure(drawings.topology(gpus, without(INFINIBAND, 4, **UNPLUGGED)))

    counted = [figure.of_class(kind) for kind in ("gpu off", "link off", "nic down", "nic")]
    assert counted == [1, 1, 1, 7]
    assert "16 of 18" in figure.text
    assert "DOWN" in figure.text


def test_links_that_no_gpu_has_are_no_fault():
    """Cards without the bridge between them: all their links are down."""
    down = tuple(Link(number=n, active=False) for n in range(12))
    gpus = machine(replace(H100, links=down), 2)
    figure = Figure(drawings.topology(gpus))

    assert figure.of_class("link off") == 0
    assert "PCIe only" in figure.text


def test_a_matrix_says_how_each_reaches_each():
    rows = Figure(drawings.topology(MESH)).rows

    assert rows[1][:5] == ["GPU 0", "–", "NVLink ×4", "system", "system"]
    assert rows[3][:5] == ["GPU 2", "system", "system", "–", "NVLink ×4"]


def test_a_sweep_says_its_figures():
    points = (
        Measured(
            bytes=1 << 30,
            iterations=20,
            seconds=0.0047,
            low_seconds=0.0046,
            high_seconds=0.005,
            algbw=228.5e9,
            busbw=399.8e9,
        ),
    )
    rows = Figure(drawings.sweep(points, points)).rows

    row = ["1 GiB", "4.7 ms", "4.6 ms to 5 ms", "228 GB/s", "400 GB/s", "20"]
    assert rows[1:] == [row, ["1 GiB (again)", *row[1:]]]


def test_clocks_are_set_against_the_middle():
    found = clocks.against_the_middle(WAYS)

    assert {name: round(offset, 6) for name, (offset, _) in found.items()} == {
        "a": -0.001,
        "b": 0.0,
        "c": 0.499,
    }
    assert found["b"][1] == pytest.approx(1e-5)  # the surer direction counts


def test_only_the_clocks_farthest_off_are_drawn():
    ways = [way("n0", f"n{n}", n * 1e-4) for n in range(1, 60)]
    figure = Figure(drawings.clock_offsets(ways))

    assert figure.of_class("dot") == 20
    assert any(said.startswith("and 40 more, within") for said in figure.text)
    assert len(figure.rows) == 61


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([5.0], "5"),
        ([5.0] * 50, "5"),
        ([1.0, 2.0, 9.0], "2"),
        ([float(n) for n in range(101)], "50"),
    ],
    ids=["one", "all alike", "three", "many"],
)
def test_a_distribution_tells_quarters(values, middle):
    rows = Figure(drawings.distribution("x", values, named={"gpu-7": values[0]})).rows

    assert ["middle", middle] in rows
    assert ["lowest", f"{values[0]:g}"] in rows
    assert ["gpu-7", f"{values[0]:g}"] in rows


def test_a_distribution_of_ten_thousand_is_small():
    assert len(drawings.distribution("x", [n % 977 / 7 for n in range(10_000)])) < 12_000


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0, 412, [0, 100, 200, 300, 400, 500]),
        (0, 0.7, [0, 0.2, 0.4, 0.6, 0.8]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (0, 0, [0, 0]),
    ],
)
def test_ticks_are_round(low, high, marks):
    assert svg.ticks(low, high) == pytest.approx(marks, abs=1e-9)
