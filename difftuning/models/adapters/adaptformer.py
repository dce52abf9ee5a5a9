"""AdaptFormer: a narrow MLP with a residual connection, after the MLP of each block or beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .wrapping import Wrapper, replace_layer


def add_bottlenecks(denoiser: nn.Module, bottleneck: int, scale: float, parallel: bool) -> None:
    """Give each block's MLP a narrow one beside or after it, in place; its second layer starts at zero, so the output stays as it was."""
    for block in denoiser.transformer.transformer_blocks:
        replace_layer(block, "ff", Bottleneck(block.ff, bottleneck, scale, parallel))


class Bottleneck(Wrapper):
    """The MLP f of a block with a narrow one, g(x) = scale (W_up relu(W_down x + b_down) + b_up); W_up and b_up start at 0.

        sequential  f(x) + g(f(x))        parallel  f(x) + g(x)

    (Chen et al., NeurIPS 2022, eqs. 5 and 6.)  In a DiT both stand inside the gated residual branch, so that g sees x after
    the norm that timestep and label modulate; the paper's parallel form, for a ViT, takes it before the norm.
    """

    def __init__(self, base_layer: nn.Module, bottleneck: int, scale: float, parallel: bool):
        super().__init__(base_layer)
        like = base_layer.net[2].bias
        self.down = nn.Linear(len(like), bottleneck).to(like)
        self.up = nn.Linear(bottleneck, len(like)).to(like)
        self.scale, self.parallel = scale, parallel
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        out = self.base_layer(x)
        return out + self.scale * self.up(torch.relu(self.down(x if self.parallel else out)))
