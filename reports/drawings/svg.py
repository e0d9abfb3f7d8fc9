"""What all drawings are made of: elements, axes, and the frame with the table beside it."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from gpudoctor.sheet import clean

WIDTH = 460  # of a chart, so that its text is readable on a phone, too
LARGE = 700  # what is wider shrinks to this, and is scrolled where that is too wide still


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """An element. What is not Markup is text and is escaped; an attribute that is None is not set.

    `class_` is class, `text_anchor` is text-anchor.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = "".join(part if isinstance(part, Markup) else escape(clean(part)) for part in inside)
    return Markup(f"<{name}{said}>{content}</{name}>")


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else clean(str(value))


def label(x: float, y: float, said: str, kind: str = "", *, at: str | None = None) -> Markup:
    """Text at a point; `at`: that point is its "middle" or "end"."""
    return tag("text", said, x=float(x), y=float(y), class_=kind or None, text_anchor=at)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return tag("line", **ends, class_=kind)


def box(x: float, y: float, width: float, height: float, kind: str, *inside: str) -> Markup:
    place = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return tag("rect", *inside, **place, rx=4, class_=kind)


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    """Straight lines through points."""
    name = "polygon" if closed else "polyline"
    return tag(name, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def picture(
    title: str,
    description: str,
    parts: Iterable[str],
    *,
    width: float,
    height: float,
    fits: bool = True,
) -> Markup:
    """An image with its name, for a screen reader and for the pointer that rests on it.

    `fits`: it shrinks and grows with its place, as far as its text stays readable.
    """
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="img",
        class_="fits" if fits else "large" if width > LARGE else None,
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """The figures; the first column names the row."""
    return tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))),
        tag(
            "tbody",
            *(
                tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
                for row in rows
            ),
        ),
    )


def figure(title: str, note: str, pictures: Iterable[Markup], twin: Markup) -> Markup:
    """Pictures side by side under their title, and the same figures as a table."""
    return tag(
        "figure",
        tag("figcaption", tag("strong", title), *([" ", tag("span", note)] if note else [])),
        tag("div", *pictures, class_="pictures", tabindex=0, role="group", aria_label=title),
        tag(
            "details",
            tag("summary", "The figures as a table"),
            tag("div", twin, class_="wide", tabindex=0, role="group", aria_label=f"{title}: table"),
        ),
        class_="drawing",
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from `low` to at least `high`."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12)))
    for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def short(name: str, most: int) -> str:
    """A name that finds room: its middle is left out."""
    name = clean(name)
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"
