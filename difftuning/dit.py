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
    """

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
        last = len(self.label_table) - 1
        if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) <= last:
            raise ValueError(f"labels must be in 0..{last} (the null label), got {labels[:8].tolist()}")
        return self.transformer(x_t.to(self.label_table.dtype), timestep=t, class_labels=labels).sample

    @property
    def label_table(self) -> nn.Parameter:
        """One embedding per label, the last row for "no label"; (num_labels + 1, width)."""
        return self.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.transformer.config
        return config.in_channels, config.sample_size, config.sample_size

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


def build_dit(*, width: int, num_heads: int, num_layers: int, latent_shape: tuple[int, int, int], num_labels: int = 1000,
              patch_size: int = 2, norm_eps: float = 1e-5, frequency_shift: int = 1) -> DiT:  # fmt: skip
    """A freshly initialised DiT; `num_labels` rows and the null row stand in its label table.

    DiT-XL/2 is width 1152, 16 heads, 28 layers, latents (4, 32, 32), norm_eps 1e-6, frequency_shift 0.
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    channels, height, side = latent_shape
    if num_heads < 1 or width % num_heads or width % 4:  # a quarter for each sine and cosine of two coordinates
        raise ValueError(f"width must be a multiple of 4 and of num_heads, got width {width}, num_heads {num_heads}")
    if height != side or side < 1 or side % patch_size:
        raise ValueError(f"latents must be square and a multiple of patch_size {patch_size}, got {height}x{side}")
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


def convert_original_dit(state_dict: dict[str, Tensor], *, num_heads: int) -> DiT:
    """A denoiser with the published DiT's weights and the published DiT's outputs.

    `state_dict` is the layout of facebookresearch/DiT's .pt files (or the "ema" or "model"
    entry of one of its training checkpoints); width, depth, patch and table sizes are read off the shapes.
    """
    for entry in ("ema", "model"):
        if isinstance(state_dict.get(entry), dict):
            state_dict = state_dict[entry]
            break
    needed = {f"{module}.weight" for module in _RENAMED} | {"pos_embed", "blocks.0.attn.qkv.weight"}
    missing = needed - set(state_dict)
    if missing:
        raise ValueError(f"not an original DiT state dict: it has no {sorted(missing)[0]!r}")
    width, channels, patch_size, _ = state_dict["x_embedder.proj.weight"].shape
    num_layers = 1 + max(int(name.split(".")[1]) for name in state_dict if name.startswith("blocks."))
    side = patch_size * round(state_dict["pos_embed"].shape[1] ** 0.5)
    with torch.random.fork_rng(devices=[]):  # the first weights are overwritten
        dit = build_dit(
            width=width, num_heads=num_heads, num_layers=num_layers, latent_shape=(channels, side, side),
            num_labels=len(state_dict["y_embedder.embedding_table.weight"]) - 1, patch_size=patch_size,
            norm_eps=1e-6, frequency_shift=0,
        )  # fmt: skip
    converted: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        converted.update(_converted(name, tensor))
    converted = {f"transformer.{name}": tensor for name, tensor in converted.items()}
    own = dit.state_dict()
    # Tied embedders appear once per block in the state dict; the first block's entry stands for all.
    for name in own:
        if ".norm1.emb." in name:
            converted.setdefault(name, converted["transformer.transformer_blocks.0" + name[name.index(".norm1.") :]])
    try:
        dit.load_state_dict(converted)  # strict: a missing or foreign weight is an error
    except RuntimeError as error:
        raise ValueError(f"not an original DiT state dict with learned variance: {' '.join(str(error).split())[:300]}") from error
    return dit.eval()


_RENAMED = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2",
    "y_embedder.embedding_table": "transformer_blocks.0.norm1.emb.class_embedder.embedding_table",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_RENAMED_IN_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}


def _converted(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One original entry under its diffusers name(s); the position table is a constant and is dropped."""
    if name == "pos_embed":
        return {}
    module, _, kind = name.rpartition(".")
    if not module.startswith("blocks."):
        if module not in _RENAMED:
            raise ValueError(f"not an original DiT state dict: unknown entry {name!r}")
        return {f"{_RENAMED[module]}.{kind}": tensor}
    _, index, inner = module.split(".", 2)
    block = f"transformer_blocks.{index}"
    if inner == "attn.qkv":
        return {f"{block}.attn1.{part}.{kind}": rows for part, rows in zip(("to_q", "to_k", "to_v"), tensor.chunk(3))}
    if inner not in _RENAMED_IN_BLOCK:
        raise ValueError(f"not an original DiT state dict: unknown entry {name!r}")
    return {f"{block}.{_RENAMED_IN_BLOCK[inner]}.{kind}": tensor}
