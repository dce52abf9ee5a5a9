"""VPT-Deep: trained tokens that the picture's tokens can look at, in every block anew."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .wrapping import Wrapper, replace_layer


def add_prompts(denoiser: nn.Module, tokens: int) -> None:
    """Give each block `tokens` tokens of its own, in place; attention sees them at once, so the output changes."""
    blocks = denoiser.transformer.transformer_blocks
    for number, block in enumerate(list(blocks)):
        replace_layer(blocks, str(number), Prompted(block, tokens, denoiser.label_table))


class Prompted(Wrapper):
    """A block before whose tokens (N, L, width) stand some of its own, (tokens, width), and which drops them at its end.

    Each block has new ones (Jia et al., ECCV 2022, eq. 6).  They take part in the attention from the first step on, so the
    output changes as soon as they are there.
    """

    def __init__(self, base_layer: nn.Module, tokens: int, like: Tensor):
        super().__init__(base_layer)
        width = like.shape[1]
        bound = math.sqrt(6 / (width + tokens))
        self.prompts = nn.Parameter(torch.empty(tokens, width).uniform_(-bound, bound).to(like))

    @property
    def norm1(self) -> nn.Module:
        """diffusers finds the timestep and label embedder here."""
        return self.base_layer.norm1

    def forward(self, hidden_states: Tensor, *inputs, **options) -> Tensor:
        prompts = self.prompts.to(hidden_states.dtype).expand(len(hidden_states), -1, -1)
        out = self.base_layer(torch.cat([prompts, hidden_states], dim=1), *inputs, **options)
        return out[:, len(self.prompts) :]
