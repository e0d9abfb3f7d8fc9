"""Bytes that torch holds: of each parameter in training, and of each token in a layer's pass.

Run by a Python that has torch; prints JSON.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, LENGTH, WIDTH, HEADS = 2, 256, 256, 4
DROPPED = 0.1


class Layer(nn.Module):  # type: ignore[misc]
    """GPT's, as figure 2 of Korthikanti et al. 2022 has it."""

    def __init__(self, flash: bool) -> None:
        super().__init__()
        self.flash = flash
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + functional.dropout(self.attend(self.norm1(x)), DROPPED)
        wide = functional.gelu(self.up(self.norm2(x)))
        return x + functional.dropout(self.down(wide), DROPPED)

    def attend(self, x: Tensor) -> Tensor:
        shape = (BATCH, LENGTH, HEADS, WIDTH // HEADS)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.flash:
            found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(2, 3)).mul(shape[-1] ** -0.5).softmax(-1)
            found = functional.dropout(scores, DROPPED) @ v
        return self.out(found.transpose(1, 2).reshape(x.shape))


def kept_by_layer(flash: bool) -> float:
    """Bytes that the backward pass will need, per token and unit of width."""
    layer = Layer(flash).to(torch.bfloat16)
    own = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    kept: dict[int, Tensor] = {}  # held here, so that no address is used again

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor
        return tensor

    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / x.numel()


def per_parameter(kind: torch.dtype) -> dict[str, float]:
    """Bytes for each parameter after one step of AdamW; fp32 with autocast."""
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)).to(kind)
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.float32):
        loss = model(torch.randn(8, WIDTH, dtype=kind)).float().square().mean()
    loss.backward()
    optimizer.step()
    parameters: list[Any] = list(model.parameters())
    moments = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    held = {
        "weights": parameters,
        "gradients": [parameter.grad for parameter in parameters],
        "optimizer": moments,
    }
    count = sum(parameter.numel() for parameter in parameters)
    return {name: sum(t.nbytes for t in tensors) / count for name, tensors in held.items()}


print(
    json.dumps(
        {
            "flash": kept_by_layer(flash=True),
            "plain": kept_by_layer(flash=False),
            "bfloat16": per_parameter(torch.bfloat16),
            "float32": per_parameter(torch.float32),
        }
    )
)
