"""Drawings: plain data in, inline SVG out, with its figures as a table for whoever sees no picture.

All colours and fonts are classes of templates/drawings.css. An empty Markup: nothing to draw.
"""

from .charts import bar, distribution, share_bar, sweep
from .clocks import clock_offsets
from .topology import topology

__all__ = ["bar", "clock_offsets", "distribution", "share_bar", "sweep", "topology"]
