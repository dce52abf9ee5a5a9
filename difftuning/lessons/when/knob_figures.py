"""The knobs' figure on sliders, by setting and guidance; and how much each setting moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..explorers import Frames, precompute
from ..figures import COLOURS, Figure, describe, theme
from ..filmstrip import Strip
from ..knob_figures import knob_figure, knob_numbers
from ..knobs import KNOBS, sets_run
from ..parts import GUIDANCES, Parts
from .knobs import CHANCE, YARDSTICK

if TYPE_CHECKING:
    import pandas


def knob_explorer(parts: Parts) -> Frames:
    """The figure for every knob that was run, and both ways of guidance."""
    numbers = {guidance: knob_numbers(parts, guidance) for guidance in reversed(GUIDANCES)}

    def draw(setting: str, guidance: str) -> Figure:
        return knob_figure(parts, setting, guidance, numbers[guidance])

    return precompute(draw, setting=[name for name in KNOBS if sets_run(parts, name)], guidance=list(numbers))


def spreads_figure(table: pandas.DataFrame) -> Figure:
    """A bar for each knob, from 1 to its largest number / its smallest; a line where chance stands.  `table`: of `spreads`."""
    bars = table.drop(CHANCE, errors="ignore")
    with theme():
        figure = Strip(figsize=(10.0, 0.4 * len(bars) + 1.2), layout="constrained")
        axes = figure.subplots(1, len(table.columns), sharey=True)
    for axis, name in zip(axes, table):
        colours = ["0.6" if row == YARDSTICK else COLOURS["Diff-Tuning"] for row in bars.index]
        axis.barh(range(len(bars)), bars[name] - 1, left=1, color=colours, height=0.6)
        for place, value in enumerate(bars[name]):
            axis.text(value, place, f" {value:.2f}", va="center", fontsize=10)
        if CHANCE in table.index:
            axis.axvline(table.loc[CHANCE, name], color="black", linestyle=":", linewidth=2)
        axis.set_xlim(1, 1 + 1.3 * (table[name].max() - 1))
        axis.set_title(name, fontsize=12)
        axis.set_xlabel("largest / smallest", fontsize=11)
        axis.grid(False, axis="y")
    axes[0].set_yticks(range(len(bars)), bars.index, fontsize=11)
    axes[0].invert_yaxis()
    told = "; ".join(f"{name}: " + ", ".join(f"{row} {value:.2f}" for row, value in table[name].items()) for name in table)
    return describe(figure, f"The largest number that a setting gives, divided by the smallest. {told}.")
