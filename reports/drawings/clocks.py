"""Clocks of nodes against each other."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from gpudoctor.facts.links import Way

from .charts import time_of
from .svg import WIDTH, figure, label, line, picture, short, table, tag, ticks

MOST_ROWS = 20
LEFT, ROW = 122, 20  # where the plot begins, and the height of a node's row
VALUE = 96  # room on the right, for the figure


def clock_offsets(
    ways: Sequence[Way], *, title: str = "Clocks of the nodes", note: str = ""
) -> Markup:
    """How far each node's clock is off the middle of all, with how sure that is.

    Args:
        ways: of the fact Links. A node that no measured way joins to the others is left out;
            beyond the 20 farthest off, nodes are only in the table.
        title: stands above.
        note: stands beside the title.
    """
    offsets = against_the_middle(ways)
    if len(offsets) < 2:
        return Markup()
    order = sorted(offsets, key=lambda name: (-abs(offsets[name][0]), name))
    shown = order[:MOST_ROWS]
    far = max(abs(offsets[name][0]) + offsets[name][1] for name in shown) or 1e-6
    far = max(map(abs, ticks(-far, far, 4)))
    middle = (LEFT + WIDTH - VALUE) / 2
    scale = (WIDTH - VALUE - LEFT) / 2 / far
    base = 12 + ROW * len(shown)
    parts = [line(middle, 8, middle, base, "axis")]
    for place, name in enumerate(shown):
        offset, doubt = offsets[name]
        x, y = middle + offset * scale, 20 + ROW * place
        parts += [
            label(LEFT - 8, y + 4, short(name, 14), "name", at="end"),
            line(LEFT, y, WIDTH - VALUE, y, "level"),
            line(x - doubt * scale, y, x + doubt * scale, y, "doubt"),
            tag("circle", tag("title", f"{name}: {_said(offset)}"), cx=x, cy=y, r=4, class_="dot"),
            label(WIDTH, y + 4, _said(offset), "value", at="end"),
        ]
    for at, said in ((-far, _said(-far)), (0.0, "0"), (far, _said(far))):
        parts.append(label(middle + at * scale, base + 16, said, at="middle"))
    if len(order) > len(shown):
        rest = abs(offsets[order[len(shown)]][0])
        words = f"and {len(order) - len(shown)} more, within {time_of(rest)}"
        parts.append(label(0, base + 36, words))
    first = order[0]
    rows = [(n, _said(offsets[n][0]), f"± {time_of(offsets[n][1])}") for n in order[:200]]
    return figure(
        title,
        note or "against the middle of all",
        [
            picture(
                title,
                f"{len(offsets)} nodes; the farthest is {first}, {_said(offsets[first][0])}",
                parts,
                width=WIDTH,
                height=base + (44 if len(order) > len(shown) else 24),
            )
        ],
        table(title, ("Node", "Off the middle", "Sure to"), rows),
    )


def against_the_middle(ways: Sequence[Way]) -> dict[str, tuple[float, float]]:
    """For each node that can be compared: how far off the median clock, and how sure that is."""
    near: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for way in ways:
        if way.clock_offset_seconds is None:
            continue
        offset, doubt = way.clock_offset_seconds, way.clock_uncertainty_seconds or 0.0
        # The surer of both directions counts.
        if way.target not in near[way.source] or doubt < near[way.source][way.target][1]:
            near[way.source][way.target] = (offset, doubt)
            near[way.target][way.source] = (-offset, doubt)
    best: dict[str, tuple[float, float]] = {}
    left = dict.fromkeys(near)
    while left:
        found = _from(next(iter(left)), near)
        best = max(best, found, key=len)
        left = {name: None for name in left if name not in found}
    centre = median(offset for offset, _ in best.values()) if best else 0.0
    return {name: (offset - centre, doubt) for name, (offset, doubt) in best.items()}


def _from(
    start: str, near: dict[str, dict[str, tuple[float, float]]]
) -> dict[str, tuple[float, float]]:
    """Offsets of all that can be reached, against the first, over as few steps as there are."""
    found = {start: (0.0, 0.0)}
    queue = [start]
    for name in queue:
        offset, doubt = found[name]
        for other, (more, unsure) in near[name].items():
            if other not in found:
                found[other] = (offset + more, doubt + unsure)
                queue.append(other)
    return found


def _said(offset: float) -> str:
    return "0" if offset == 0 else f"{'+' if offset > 0 else '−'}{time_of(abs(offset))}"
