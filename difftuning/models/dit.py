"""The diffusion transformer: diffusers' DiT, made to be one model again.

diffusers' class departs from the published DiT in ways that matter when it is trained
(https://github.com/facebookresearch/DiT is the model of Peebles and Xie, ICCV 2023):
every block owns a copy of the timestep and label embedder, each copy drops labels on its
own, and nothing is initialised as adaLN-zero.  `DiT` ties the copies, leaves dropping
labels to the training loop, and is initialised as published.  Sinusoid frequencies
and a LayerNorm epsilon differ as well: they follow the weights (`frequency_shift`, `norm_eps`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class DiT(nn.Module):
    """A class-conditional denoiser with learned variance over diffusers' `DiTTransformer2DModel`.

    `transformer` is the diffusers model; its embedders are tied to the first block's here.
    `frequency_shift` is 1 for models trained with diffusers, 0 for the published weights.

    Every denoiser says these of itself: `latent_shape`, `null_label`, `learned_variance`, `label_table` (None where labels
    have none), `conventions` and `pipeline`; one that hears prompts `takes_prompts`.  One that takes adapters also says which
    is on it, with the weights that it had before wherever the adapter trains them.
    """

    learned_variance = True
    takes_prompts = False
    adapter: object | None = None  # an options object of models/adapters
    before_adapter: dict[str, Tensor] = {}

    def __init__(self, transformer: nn.Module, *, frequency_shift: int = 1):
        super().__init__()
        shared = transformer.transformer_blocks[0].norm1.emb
        shared.class_embedder.dropout_prob = 0.0
        shared.time_proj.downscale_freq_shift = frequency_shift
        for block in transformer.transformer_blocks:
            block.norm1.emb = shared
        self.transformer = transformer
        self.frequency_shift = frequency_shift

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Latents (N, C, h, w), timesteps and labels int or int64 (N,) -> noise and variance (N, 2C, h, w), in the weights' precision."""
        if len(x_t) == 0:
            return x_t.new_empty(0, 2 * x_t.shape[1], *x_t.shape[2:], dtype=self.label_table.dtype)
        t, labels = (torch.as_tensor(value, device=x_t.device).expand(len(x_t)) for value in (t, labels))
        return self.transformer(x_t.to(self.label_table.dtype), timestep=t, class_labels=labels).sample

    @property
    def label_table(self) -> nn.Parameter:
        """One embedding per label, the last row for "no label"; (num_labels + 1, width)."""
        return self.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents that it denoises."""
        config = self.transformer.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def null_label(self) -> int:
        """The row of the label table that means "no label": the last one."""
        return len(self.label_table) - 1

    @property
    def conventions(self) -> dict[str, float]:
        """What the weights were trained with and diffusers' configuration does not say, or not all of its readers keep."""
        return {"frequency_shift": self.frequency_shift, "norm_eps": self.transformer.config.norm_eps}

    def pipeline(self, autoencoder: nn.Module, scheduler, dtype: torch.dtype):
        """Stock diffusers' pipeline around a copy of the weights, on the CPU: what is saved."""
        from diffusers import DiTPipeline

        return DiTPipeline(transformer=nn.Module.to(self.untied(), "cpu", dtype), vae=autoencoder, scheduler=scheduler)

    def untied(self) -> nn.Module:
        """A copy of `transformer` in which each block owns an embedder, as stock diffusers reads and saves it."""
        untied = copy.deepcopy(self.transformer)
        for block in untied.transformer_blocks[1:]:
            block.norm1.emb = copy.deepcopy(block.norm1.emb)
        return untied


def require_one_embedder(transformer: nn.Module) -> None:
    """ValueError where the blocks' timestep and label embedders differ: diffusers lets the copies drift apart in training."""
    first, *others = (dict(block.norm1.emb.named_parameters()) for block in transformer.transformer_blocks)
    for number, other in enumerate(others, 1):
        if any(not torch.equal(first[name], weight) for name, weight in other.items()):
            raise ValueError(
                f"block {number} has another timestep or label embedder than block 0: `DiT` has one for all blocks, as the "
                "published model has, and would change what this one draws; tune a model whose embedders are alike"
            )


def require_square(latent_shape: tuple[int, int, int], multiple: int) -> None:
    """ValueError where latents (C, h, w) are no squares whose side is a multiple of `multiple`."""
    _, height, side = latent_shape
    if height != side or side < 1 or side % multiple:
        raise ValueError(f"latents must be square and a multiple of {multiple}, got {height}x{side}")


def build_dit(*, width: int, num_heads: int, num_layers: int, latent_shape: tuple[int, int, int], num_labels: int = 1000,
              patch_size: int = 2, norm_eps: float = 1e-5, frequency_shift: int = 1) -> DiT:  # fmt: skip
    """A freshly initialised DiT; `num_labels` rows and the null row stand in its label table.

    It is built where torch's default device says (`with torch.device("meta")`: without memory).
    DiT-XL/2 is width 1152, 16 heads, 28 layers, latents (4, 32, 32), norm_eps 1e-6, frequency_shift 0.
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    channels, _, side = latent_shape
    if num_heads < 1 or width % num_heads or width % 4:  # a quarter for each sine and cosine of two coordinates
        raise ValueError(f"width must be a multiple of 4 and of num_heads, got width {width}, num_heads {num_heads}")
    require_square(latent_shape, patch_size)
    transformer = DiTTransformer2DModel(
        num_attention_heads=num_heads, attention_head_dim=width // num_heads, in_channels=channels,
        out_channels=2 * channels, num_layers=num_layers, sample_size=side, patch_size=patch_size,
        num_embeds_ada_norm=num_labels, norm_eps=norm_eps,
    )  # fmt: skip
    dit = DiT(transformer, frequency_shift=frequency_shift)
    initialise(dit)
    return dit


@torch.no_grad()
def initialise(dit: DiT) -> None:
    """The published initialisation: every block starts as the identity (adaLN-zero), the output at 0.

    One thing differs: queries, keys and values are three matrices here and start as such, sqrt(2) times as wide
    as they would as rows of the published code's single one.
    """
    for module in dit.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    transformer = dit.transformer
    patches = transformer.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
    nn.init.zeros_(patches.bias)
    embedder = transformer.transformer_blocks[0].norm1.emb
    nn.init.normal_(embedder.class_embedder.embedding_table.weight, std=0.02)
    for linear in (embedder.timestep_embedder.linear_1, embedder.timestep_embedder.linear_2):
        nn.init.normal_(linear.weight, std=0.02)
    modulations = [block.norm1.linear for block in transformer.transformer_blocks]
    for linear in [*modulations, transformer.proj_out_1, transformer.proj_out_2]:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
