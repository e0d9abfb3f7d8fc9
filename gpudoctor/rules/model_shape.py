"""Layers and width of a transformer, where only its parameters are told.

A layer of width h has 4 h^2 weights of attention and 8 h^2 of its two feed-forward matrices:
N = 12 L h^2, without the embeddings.
"""

import math

from msgspec import Struct

from gpudoctor.facts.workload import Workload

LAYER = 12  # weights of a layer in units of h^2; Kaplan et al. 2020, section 2.1
HEAD = 128  # width of a head; Brown et al. 2020, table 2.1: 64 to 128, larger models 128
SHAPES = (  # parameters, layers
    (125e6, 12),  # GPT-3, Brown et al. 2020, table 2.1, as those down to 13B
    (350e6, 24),
    (760e6, 24),
    (1.3e9, 24),
    (2.7e9, 32),
    (6.7e9, 32),
    (13e9, 40),
    (32.5e9, 60),  # LLaMA, Touvron et al. 2023, table 2
    (65.2e9, 80),
    (175e9, 96),  # GPT-3
    (530e9, 105),  # Korthikanti et al. 2022, table 3
    (1e12, 128),
)


class Shape(Struct, frozen=True):
    """Layers, width, and heads of attention."""

    layers: int
    hidden: int
    estimated: bool

    @property
    def heads(self) -> int:
        return max(1, self.hidden // HEAD)


def shape_of(job: Workload) -> Shape:
    """The model's shape as told, or the usual one of its size."""
    layers, hidden = job.layers, job.hidden
    if not layers and hidden:
        layers = max(1, round(job.model_params / (LAYER * hidden * hidden)))
    if not layers:
        _, layers = min(SHAPES, key=lambda row: abs(math.log(row[0] / max(1, job.model_params))))
    if not hidden:
        width = math.sqrt(job.model_params / (LAYER * layers))
        hidden = max(HEAD, round(width / HEAD) * HEAD)
    return Shape(layers, hidden, estimated=not (job.layers and job.hidden))
