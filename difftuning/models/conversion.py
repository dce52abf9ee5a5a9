"""Weights of the published DiT (https://github.com/facebookresearch/DiT) in this package's denoiser, with the same outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support.kinds import require_kind
from ..support.surroundings import undisturbed
from .dit import DiT, build_dit


@undisturbed
def convert_original_dit(state_dict: dict[str, Tensor], *, num_heads: int) -> DiT:
    """A denoiser with the published DiT's weights and the published DiT's outputs.

    `state_dict` is the layout of facebookresearch/DiT's .pt files (or the "ema" or "model"
    entry of one of its training checkpoints); width, depth, patch and table sizes are read off the shapes.
    """
    require_kind("state_dict", state_dict, dict, "torch.load")
    for entry in ("ema", "model"):
        if isinstance(state_dict.get(entry), dict):
            state_dict = state_dict[entry]
            break
    try:
        return _built(state_dict, num_heads).eval()
    except (KeyError, RuntimeError) as error:  # KeyError names an entry that is not there, torch's strict loading a foreign one
        raise ValueError(f"not an original DiT state dict with learned variance: {' '.join(str(error).split())[:300]}") from error


def _built(state_dict: dict[str, Tensor], num_heads: int) -> DiT:
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
    dit.load_state_dict(converted)
    return dit


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
    """One original entry under its diffusers name(s), an unknown one under its own; the position table is a constant and is dropped."""
    if name == "pos_embed":
        return {}
    module, _, kind = name.rpartition(".")
    if not module.startswith("blocks."):
        return {f"{_RENAMED.get(module, module)}.{kind}": tensor}
    _, index, inner = module.split(".", 2)
    block = f"transformer_blocks.{index}"
    if inner == "attn.qkv":
        return {f"{block}.attn1.{part}.{kind}": rows for part, rows in zip(("to_q", "to_k", "to_v"), tensor.chunk(3))}
    return {f"{block}.{_RENAMED_IN_BLOCK.get(inner, inner)}.{kind}": tensor}
