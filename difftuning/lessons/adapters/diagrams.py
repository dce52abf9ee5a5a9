"""Where an adapter sits in a block of a DiT: a drawing whose colours are asked of a model that has it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from matplotlib.patches import FancyArrowPatch, Rectangle

from ...models.dit import build_dit
from ..figures import COLOURS, describe
from ..filmstrip import Strip
from .variants import SHOWN, with_adapter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..figures import Figure

FROZEN, TRAINED, LINE = "0.92", COLOURS["Diff-Tuning"], "0.4"
LAYERS = {"to_q": (1.75, "Q"), "to_k": (2.95, "K"), "to_v": (4.15, "V")}


def block_diagram(adapter: str) -> Figure:
    """One block from its tokens (below) to its output (above): blue is trained, grey is frozen.  `adapter`: one of `SHOWN`."""
    trained = trained_in_first_block(adapter)
    figure = Strip(figsize=(4.3, 5.2))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0.3, 8.9), ylim=(0, 10.6))
    axis.set_axis_off()
    _stem(axis)
    _told(axis, trained)
    _attention(axis, trained)
    _mlp(axis, trained, beside=getattr(SHOWN[adapter], "parallel", False))
    _tokens(axis, trained)
    return describe(
        figure, f"A block of a DiT with {adapter}. Trained in it: {', '.join(sorted(trained)) or 'nothing'}; and the label table."
    )


@functools.cache
def trained_in_first_block(adapter: str) -> frozenset[str]:
    """Names of the weights that are trained in the first block of a DiT, as they are called without the block around."""
    with torch.device("meta"):
        denoiser = with_adapter(build_dit(width=8, num_heads=2, num_layers=2, latent_shape=(4, 4, 4), num_labels=3), adapter)
    block = denoiser.transformer.transformer_blocks[0]
    names = (name for name, weight in block.named_parameters() if weight.requires_grad and ".emb." not in name)
    return frozenset(name.replace("base_layer.", "") for name in names)


def _has(trained: frozenset[str], *parts: str) -> bool:
    """Is a weight trained in whose name all these parts stand?"""
    return any(all(part in name for part in parts) for name in trained)


def _stem(axis: Axes) -> None:
    axis.add_patch(FancyArrowPatch((3.4, 0.75), (3.4, 10.5), arrowstyle="-|>", mutation_scale=14, color=LINE, linewidth=1.5, zorder=0))
    for low, high in ((1.05, 5.2), (5.55, 9.75)):  # around attention and around the MLP
        axis.plot([3.4, 0.55, 0.55, 3.4], [low, low, high, high], color=LINE, linewidth=1.2, zorder=0)
        axis.text(3.4, high, "+", ha="center", va="center", fontsize=13, bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": LINE})


def _told(axis: Axes, trained: frozenset[str]) -> None:
    """Timestep and label, which scale and shift the norms and gate both branches."""
    _box(axis, 6.2, 0.25, 2.3, 0.8, "label table", True)
    _layer(axis, 6.2, 1.35, 2.3, "timestep, label", trained, "norm1.linear", size=9)
    for height in (1.75, 6.25):
        _box(axis, 1.7, height - 0.3, 3.4, 0.55, "norm, scale, shift", False, size=8.5)
        axis.plot(
            [8.1, 8.1, 5.1],
            [1.9, height, height] if height > 2 else [1.7, height, height],
            color=LINE,
            linewidth=0.8,
            linestyle=":",
            zorder=0,
        )
    for height in (4.77, 9.4):
        axis.text(4.05, height, "× gate", fontsize=8.5, va="center", color="0.3")


def _attention(axis: Axes, trained: frozenset[str]) -> None:
    for name, (left, letter) in LAYERS.items():
        _layer(axis, left, 2.45, 0.8, letter, trained, f"attn1.{name}.")
        if _has(trained, name, "lora_A"):
            side = left - 0.75 if left < 3 else left + 0.9  # beside the layer, away from the stem
            _box(axis, side, 2.5, 0.65, 0.5, "B A", True, size=8)
    axis.text(3.3, 3.33, "attention", ha="center", va="center", fontsize=9, color="0.3", bbox={"fc": "white", "ec": "none", "pad": 1})
    _layer(axis, 1.8, 3.65, 3.1, "out", trained, "attn1.to_out.0")
    if _has(trained, "attn1.gamma"):
        _box(axis, 2.95, 4.42, 0.9, 0.5, "γ", True)


def _mlp(axis: Axes, trained: frozenset[str], *, beside: bool) -> None:
    _layer(axis, 1.7, 6.8, 3.2, "MLP: widen", trained, "ff.net.0")
    _layer(axis, 1.7, 7.55, 3.2, "MLP: narrow", trained, "ff.net.2")
    if _has(trained, "ff.gamma"):
        _box(axis, 2.95, 8.8, 0.9, 0.45, "γ", True)
    if not _has(trained, "ff.down"):
        return
    if beside:
        _box(axis, 6.0, 7.05, 2.0, 0.75, "adapter", True, size=9)
        axis.plot([3.4, 7.0, 7.0], [6.65, 6.65, 7.05], color=TRAINED, linewidth=1.5)
        axis.plot([7.0, 7.0, 3.4], [7.8, 8.55, 8.55], color=TRAINED, linewidth=1.5)
    else:
        axis.plot([3.4, 7.0, 7.0], [8.3, 8.3, 8.5], color=TRAINED, linewidth=1.5)
        _box(axis, 6.0, 8.45, 2.0, 0.5, "adapter", True, size=9)
        axis.plot([7.0, 7.0, 3.4], [8.95, 9.12, 9.12], color=TRAINED, linewidth=1.5)


def _tokens(axis: Axes, trained: frozenset[str]) -> None:
    for place in range(5):
        _box(axis, 2.15 + 0.55 * place, 0.25, 0.45, 0.45, "", False)
    axis.text(5.0, 0.45, "tokens", fontsize=9, va="center", color="0.3")
    if _has(trained, "prompts"):
        for place in range(2):
            _box(axis, 0.95 + 0.55 * place, 0.25, 0.45, 0.45, "", True)


def _layer(axis: Axes, left: float, low: float, width: float, text: str, trained: frozenset[str], name: str, size: float = 10) -> None:
    """A linear layer, its bias a small square at its right edge."""
    own = [each for each in trained if name in each and "lora" not in each]
    _box(axis, left, low, width, 0.6, text, any(each.endswith("weight") for each in own), size)
    if any(each.endswith("bias") for each in own) and not any(each.endswith("weight") for each in own):
        _box(axis, left + width - 0.08, low + 0.1, 0.3, 0.4, "b", True, size=8)


def _box(axis: Axes, left: float, low: float, width: float, height: float, text: str, trained: bool, size: float = 10) -> None:
    colour = TRAINED if trained else FROZEN
    axis.add_patch(Rectangle((left, low), width, height, facecolor=colour, edgecolor="0.5", linewidth=0.8, zorder=2))
    if text:
        axis.text(
            left + width / 2, low + height / 2, text, ha="center", va="center", fontsize=size, color="white" if trained else "0.2", zorder=3
        )
