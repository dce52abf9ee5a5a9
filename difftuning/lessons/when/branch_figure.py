"""The branches' distances as tiles: who answers under the labels by who guides."""

from __future__ import annotations

from pathlib import Path

from ...studies.branches import GUIDANCE
from ..figures import Figure, describe, theme
from ..filmstrip import Strip
from .branches import branches_table


def branches_figure(folder: Path | None = None) -> Figure:
    """Frechet distance of every mixture, a panel for each set; dark is low, which is good."""
    import seaborn

    table = branches_table(folder)
    names = table.index.get_level_values(0).unique()
    with theme():
        figure = Strip(figsize=(10.5, 3.6), layout="constrained")
        axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names):
        mine = table.xs(name).rename(columns=lambda guide: guide.removeprefix("the ").replace(" ", "\n", 1))
        seaborn.heatmap(mine, ax=axis, annot=True, fmt=".2f", cmap="Blues_r", cbar=False, linewidths=2, annot_kws={"fontsize": 11})
        axis.set_title(name, fontsize=12)
        axis.set(xlabel=f"guides, at {GUIDANCE:g}", ylabel="")
        axis.tick_params(labelsize=9, rotation=0)
    axes[0].set_ylabel("answers under the labels")
    told = "; ".join(f"{name}: lowest {table.xs(name).min().min():.2f}, highest {table.xs(name).max().max():.2f}" for name in names)
    return describe(figure, f"Frechet distance of the samples of every mixture of two models. {told}.")
