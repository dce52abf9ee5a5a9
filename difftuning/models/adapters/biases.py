"""BitFit and DiffFit: biases, and scales after attention and MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .wrapping import Wrapper, replace_layer


def train_biases(denoiser: nn.Module) -> None:
    """BitFit: every bias of the model."""
    for name, parameter in denoiser.named_parameters():
        if name.endswith("bias"):
            parameter.requires_grad_(True)


def add_scales(denoiser: nn.Module, depth: int | None) -> None:
    """DiffFit (Xie et al., ICCV 2023, section 3.2): biases, norms and, in the first `depth` blocks, gamma_1 and gamma_2.

        x + gate gamma_1 * attention(x)          x + gate gamma_2 * MLP(x)

    A DiT's norms have no weights of their own (adaLN), so here "norms" is empty.  The published code scales queries, keys,
    values and the attention's projection as well, which the paper's text does not.
    """
    train_biases(denoiser)
    for module in denoiser.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            module.weight.requires_grad_(True)
    blocks = denoiser.transformer.transformer_blocks
    if depth is not None and depth > len(blocks):
        raise ValueError(f"depth must be at most {len(blocks)}, the model's blocks, got {depth}")
    for block in blocks[: len(blocks) // 2 if depth is None else depth]:
        replace_layer(block, "attn1", Scaled(block.attn1))
        replace_layer(block, "ff", Scaled(block.ff))


class Scaled(Wrapper):
    """An attention or MLP whose output is multiplied by one number per channel, 1 at the start."""

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.gamma = nn.Parameter(torch.ones_like(self._last.bias))

    @property
    def _last(self) -> nn.Linear:
        return self.base_layer.net[2] if hasattr(self.base_layer, "net") else self.base_layer.to_out[0]

    def forward(self, *inputs: Tensor, **options) -> Tensor:
        return self.gamma * self.base_layer(*inputs, **options)

    @torch.no_grad()
    def merge(self) -> None:
        """gamma (W x + b) = (gamma W) x + gamma b."""
        self._last.weight.mul_(self.gamma[:, None])
        self._last.bias.mul_(self.gamma)
