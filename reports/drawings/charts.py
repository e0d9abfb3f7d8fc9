"""Figures over a size, or over many nodes."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import quantiles

from markupsafe import Markup

from gpudoctor.facts.all_reduce import Measured
from gpudoctor.units import size

from .svg import WIDTH, box, figure, label, line, path, picture, short, table, tag, ticks

LEFT, RIGHT, TOP, BOTTOM = 56, 12, 28, 34  # around the plot of a chart
HEIGHT = 232
MOST_TICKS = 6
MOST_DOTS = 16  # on the curve of times; each weighs 100 bytes
BINS = 56  # columns of a distribution
MOST_NAMED = 12  # nodes told by name in the table of a distribution


def sweep(
    points: Sequence[Measured],
    again: Sequence[Measured] = (),
    *,
    title: str = "All-reduce by size",
    note: str = "",
) -> Markup:
    """Bus bandwidth and time of an all-reduce over its size, in two charts.

    Args:
        points: of the fact AllReduce, by size; fewer than two are drawn as dots.
        again: sizes measured a second time, shown as rings.
        title: stands above.
        note: what was measured: "8 ranks, NCCL 2.29.7, over P2P".
    """
    points = [point for point in points if point.bytes > 0 and point.seconds > 0]
    if not points:
        return Markup()
    again = [point for point in again if point.bytes > 0]
    rows = [_row(point, "") for point in points] + [_row(point, " (again)") for point in again]
    head = ("Size", "Time", "10th to 90th percentile", "Algorithm", "Bus", "Rounds")
    return figure(
        title,
        note,
        [_busbw(points, again), _seconds(points)],
        table(title, head, rows),
    )


def distribution(
    title: str,
    values: Sequence[float],
    *,
    say: Callable[[float], str] = lambda value: f"{value:g}",
    named: Mapping[str, float] | None = None,
    note: str = "",
) -> Markup:
    """How a figure is spread over nodes: columns of counts, the middle half as a box.

    Args:
        title: what is measured: "All-reduce inside a node".
        values: one of each node, in any order; ten thousand are fine.
        say: a value for people.
        named: nodes to tell by name, such as those far from the others; their values are
            in `values` too.
        note: stands beside the title.
    """
    kept = sorted(value for value in values if math.isfinite(value))
    if not kept:
        return Markup()
    low, first, middle, third, high = _five(kept)
    named = dict(sorted((named or {}).items(), key=lambda item: -abs(item[1] - middle)))
    scale = _Scale(low, high, 12, WIDTH - 12)
    said = f"{say(low)} to {say(high)}, half of {len(kept)} nodes {say(first)} to {say(third)}"
    parts = [
        *_columns(kept, scale, say),
        box(scale(first), 66, scale.span(first, third), 10, "box"),
    ]
    parts += [line(scale(low), 71, scale(high), 71, "whisker")]
    parts += [line(scale(middle), 62, scale(middle), 80, "median")]
    parts += [
        tag(
            "circle",
            tag("title", f"{name}: {say(value)}"),
            cx=scale(value),
            cy=71,
            r=4,
            class_="far",
        )
        for name, value in named.items()
        if math.isfinite(value)
    ]
    names = {value: f", {short(name, 24)}" for name, value in reversed(named.items())}
    parts.append(label(12, 98, say(low) + (names.get(low, "") if low < high else "")))
    if low < high:
        parts.append(label(WIDTH - 12, 98, say(high) + names.get(high, ""), at="end"))
    if low < high and 0.25 < scale.share(middle) < 0.75 and not {low, high} & {*names}:
        parts.append(label(scale(middle), 98, say(middle), "strong", at="middle"))
    rows = [
        ("lowest", say(low)),
        ("lower quarter", say(first)),
        ("middle", say(middle)),
        ("upper quarter", say(third)),
        ("highest", say(high)),
        *((name, say(value)) for name, value in list(named.items())[:MOST_NAMED]),
    ]
    return figure(
        title,
        note,
        [picture(title, said, parts, width=WIDTH, height=106)],
        table(title, ("Of the nodes", "Value"), rows),
    )


def bar(share: float, kind: str = "") -> Markup:
    """A small bar for a cell of a table whose text says the same."""
    filled = 100 * min(1.0, max(0.0, share))
    return tag(
        "svg",
        tag("rect", width=100, height=6, rx=3, class_="track"),
        tag("rect", width=max(filled, 2.0), height=6, rx=3, class_=f"filled {kind}".strip()),
        viewBox="0 0 100 6",
        class_="bar",
        aria_hidden="true",
    )


def share_bar(counts: Mapping[str, int]) -> Markup:
    """One bar of parts, each of the class that names it ("pass", "fail"), beside text."""
    whole = sum(counts.values())
    parts, at = [], 0.0
    for name, count in counts.items():
        if count:
            width = 1000 * count / whole
            parts.append(tag("rect", x=at, width=width, height=8, class_=name))
            at += width
    return tag(
        "svg",
        *parts,
        viewBox="0 0 1000 8",
        preserveAspectRatio="none",
        class_="shares",
        aria_hidden="true",
    )


class _Scale:
    """From values to places; values that are all alike stand in the middle."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._range = low, high - low
        self._start, self._length = start, end - start

    def share(self, value: float) -> float:
        return (value - self._low) / self._range if self._range else 0.5

    def __call__(self, value: float) -> float:
        return self._start + self._length * self.share(value)

    def span(self, one: float, other: float) -> float:
        return max(1.0, abs(self(other) - self(one)))


def _five(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Lowest, quarters and highest of sorted values."""
    if len(values) == 1:
        return (values[0],) * 5
    first, middle, third = quantiles(values, n=4, method="inclusive")
    return values[0], first, middle, third, values[-1]


def _columns(values: Sequence[float], scale: _Scale, say: Callable[[float], str]) -> list[Markup]:
    """How many values lie in each of equal parts of the range."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(scale.share(value) * BINS))] += 1
    width, most = (WIDTH - 24) / BINS, max(counts)
    columns = []
    for number, count in enumerate(counts):
        if count:
            height = max(2.0, 48 * count / most)
            place = 12 + number * width
            columns.append(box(place, 58 - height, width - 1, height, "column"))
    return columns


def _row(point: Measured, mark: str) -> tuple[str, ...]:
    return (
        size(point.bytes) + mark,
        time_of(point.seconds),
        f"{time_of(point.low_seconds)} to {time_of(point.high_seconds)}",
        rate_of(point.algbw),
        rate_of(point.busbw),
        str(point.iterations),
    )


def _busbw(points: Sequence[Measured], again: Sequence[Measured]) -> Markup:
    best = max(points, key=lambda point: point.busbw)
    marks = ticks(0, max(point.busbw for point in [*points, *again]) or 1.0)
    x, parts = _by_size([*points, *again])
    y = _Scale(0, marks[-1], HEIGHT - BOTTOM, TOP)
    parts += _levels([(y(mark), rate_of(mark, unit=False)) for mark in marks])
    parts.append(label(0, 14, "Bus bandwidth, GB/s", "strong"))
    parts.append(path([(x(point.bytes), y(point.busbw)) for point in points], "curve"))
    for kind, some in (("dot", points), ("ring", again)):
        parts += [_dot(x(p.bytes), y(p.busbw), kind, p, rate_of(p.busbw)) for p in some]
    low, said = y(best.busbw) < TOP + 12, rate_of(best.busbw)
    where = "end" if x(best.bytes) > WIDTH / 2 else None
    parts.append(label(x(best.bytes), y(best.busbw) + (18 if low else -8), said, "value", at=where))
    return picture(
        "Bus bandwidth by size",
        f"{said} at most, at {size(best.bytes)}",
        parts,
        width=WIDTH,
        height=HEIGHT,
    )


def _seconds(points: Sequence[Measured]) -> Markup:
    known = [v for p in points for v in (p.seconds, p.low_seconds, p.high_seconds) if v > 0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    x, parts = _by_size(points)
    scale = _Scale(low, max(high, low + 1), HEIGHT - BOTTOM, TOP)

    def y(value: float) -> float:
        return scale(math.log10(value)) if value > 0 else HEIGHT - BOTTOM

    parts += _levels([(scale(n), time_of(10.0**n)) for n in range(low, max(high, low + 1) + 1)])
    parts.append(label(0, 14, "Time of one all-reduce", "strong"))
    upper = [(x(point.bytes), y(point.high_seconds)) for point in points]
    lower = [(x(point.bytes), y(point.low_seconds)) for point in reversed(points)]
    parts.append(path([*upper, *lower], "band", closed=True))
    parts.append(path([(x(point.bytes), y(point.seconds)) for point in points], "curve"))
    if len(points) <= MOST_DOTS:
        parts += [_dot(x(p.bytes), y(p.seconds), "dot", p, time_of(p.seconds)) for p in points]
    first, last = points[0], points[-1]
    return picture(
        "Time by size",
        f"{time_of(first.seconds)} at {size(first.bytes)}, {time_of(last.seconds)} at "
        f"{size(last.bytes)}; the band is the 10th to the 90th percentile",
        parts,
        width=WIDTH,
        height=HEIGHT,
    )


def _by_size(points: Sequence[Measured]) -> tuple[Callable[[int], float], list[Markup]]:
    """Places on a logarithmic axis of sizes, and that axis."""
    low = math.log2(min(point.bytes for point in points))
    high = math.log2(max(point.bytes for point in points))
    scale = _Scale(low, high, LEFT + 8, WIDTH - RIGHT - 8)
    powers = range(math.ceil(low), math.floor(high) + 1)
    step = max(1, math.ceil(len(powers) / MOST_TICKS))
    base = HEIGHT - BOTTOM
    parts = [line(LEFT, base, WIDTH - RIGHT, base, "axis")]
    for power in powers[::step]:
        parts.append(line(scale(power), base, scale(power), base + 4, "axis"))
        parts.append(label(scale(power), base + 18, size(1 << power), at="middle"))
    return lambda count: scale(math.log2(count)), parts


def _levels(marks: Sequence[tuple[float, str]]) -> list[Markup]:
    """Faint lines across the plot, with their values on the left."""
    parts = []
    for y, said in marks:
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "level"))
        parts.append(label(LEFT - 8, y + 4, said, at="end"))
    return parts


def _dot(x: float, y: float, kind: str, point: Measured, said: str) -> Markup:
    words = tag("title", f"{size(point.bytes)}: {said}")
    return tag("circle", words, cx=x, cy=y, r=3.5, class_=kind)


def rate_of(value: float, *, unit: bool = True) -> str:
    """Bytes a second in GB/s with three digits that count."""
    figure = value / 1e9
    digits = 0 if figure >= 100 or figure == 0 else 1 if figure >= 10 else 2
    said = f"{figure:.{digits}f}"
    if "." in said and not unit:
        said = said.rstrip("0").rstrip(".")
    return f"{said} GB/s" if unit else said


def time_of(seconds: float) -> str:
    """Seconds in the unit that fits: 12 µs, 1.2 ms, 3.4 s."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        figure = seconds * factor
        if abs(figure) >= 1 or unit == "µs":
            return f"{figure:.0f} {unit}" if abs(figure) >= 10 else f"{figure:.2g} {unit}"
    raise AssertionError
