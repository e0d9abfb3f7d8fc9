"""What a model holds, counted in the tensors of the real PyTorch on this machine's CPU."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpudoctor.rules.model_memory import (
    ACTIVATION,
    GRADIENT,
    OPTIMIZER,
    OPTIMIZER_16_BIT,
    SCORES,
    WEIGHT,
)

SCRIPT = Path(__file__).with_name("held_by_torch.py")
HEADS, LENGTH, WIDTH = 4, 256, 256  # as in the script
WIDER_MASK = 1  # byte: the CPU keeps dropout's masks in 16 bits, a GPU in 8


@pytest.fixture(scope="module")
def held(real_torch: Path) -> dict[str, Any]:
    words = [str(real_torch), "-W", "ignore", str(SCRIPT)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "total"),
    [
        pytest.param("float32", WEIGHT + GRADIENT + OPTIMIZER, id="fp32 with autocast: 16 bytes"),
        pytest.param("bfloat16", WEIGHT + GRADIENT + OPTIMIZER_16_BIT, id="bf16 throughout: 8"),
    ],
)
def test_bytes_of_each_parameter(held, kind, total):
    assert sum(held[kind].values()) == total


def test_gradients_are_as_wide_as_weights(held):
    assert held["float32"] == {"weights": 4, "gradients": 4, "optimizer": 8}
    assert held["bfloat16"] == {"weights": 2, "gradients": 2, "optimizer": 4}


def test_activations_of_a_layer_with_flash_attention(held):
    masks = 2 * WIDER_MASK  # after attention, and after the feed-forward matrices

    assert held["flash"] - masks == pytest.approx(ACTIVATION, rel=0.01)


def test_activations_of_a_layer_without(held):
    scores = HEADS * LENGTH / WIDTH
    masks = (2 + scores) * WIDER_MASK

    assert held["plain"] - masks == pytest.approx(ACTIVATION + SCORES * scores, rel=0.01)
