"""Bars of the memory of trainings, stacked part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from .figures import Figure
from .memory import Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {  # of `Memory` -> colour
    "weights": "0.75",
    "gradients": "#E69F00",
    "optimizer": "#D55E00",
    "average": "#CC79A7",
    "activations": "#56B4E9",
}


def memory_bars(axis: Axes, memories: Sequence[Memory], unit: float) -> np.ndarray:
    """A bar for each, from the top down, in units of so many bytes; returns the bars' ends."""
    left = np.zeros(len(memories))
    for part, colour in PARTS.items():
        widths = np.array([getattr(memory, part) for memory in memories]) / unit
        axis.barh(range(len(memories)), widths, left=left, color=colour, height=0.68, label=part)
        left += widths
    axis.grid(False, axis="y")
    axis.set_ylim(len(memories) - 0.4, -0.6)
    return left


def name_parts(figure: Figure, axis: Axes) -> None:
    """The legend of the bars on an axis, below everything."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), fontsize=11, frameon=False)
