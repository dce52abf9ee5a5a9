"""Figures of the memory bank's lesson: values in, Figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
from torch import Tensor

from ..figures import COLOURS, Figure, describe, label_ends, theme
from ..filmstrip import Strip

if TYPE_CHECKING:
    import pandas

GUIDANCES = {1.0: ("0.65", "guidance 1"), 1.5: ("0.35", "guidance 1.5")}  # greys: colours are methods'
REAL = "0"
LONG = 11  # letters of a class name on one line


def class_rows(rows: Mapping[str, Tensor], names: Sequence[str], columns: int = 8) -> Figure:
    """Rows of pictures (n, 3, H, W), a column for each of the class names; there is always room for as many `columns`."""
    left = 0.25 + 0.095 * max(map(len, rows))  # inches, for the rows' names; classes need room above and to the right
    width, height = left + 0.86 * columns + 0.6, 0.86 * len(rows) + 0.62
    figure = Figure(figsize=(width, height))
    side = next(iter(rows.values())).shape[-1] + 2
    sheet = np.ones((len(rows) * side, columns * side, 3))
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images[:columns].clamp(-1, 1).permute(0, 2, 3, 1).numpy() / 2 + 0.5):
            sheet[row * side + 1 : (row + 1) * side - 1, column * side + 1 : (column + 1) * side - 1] = image
    axis = figure.add_axes((left / width, 0, 0.86 * columns / width, 0.86 * len(rows) / height))
    axis.imshow(sheet, interpolation="nearest", aspect="auto")
    axis.set_yticks([(row + 0.5) * side for row in range(len(rows))], list(rows), fontsize=12)
    heads = [name.replace(" ", "\n") if len(name) > LONG else name for name in names]  # two lines, so as not to reach the next one
    places = [(column + 0.3) * side for column in range(len(names))]
    axis.set_xticks(places, heads, rotation=20, ha="left", rotation_mode="anchor", fontsize=10)
    axis.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    return describe(figure, f"Pictures of the classes {', '.join(names)}, in rows: {', '.join(rows)}.")


def coverage_figure(table: pandas.DataFrame, real: pandas.DataFrame, shipped: Mapping[str, float]) -> Figure:
    """Left: coverage against the bank's size, at the most sampling steps.  Right: Frechet distance of the largest banks against the steps.

    `table`: columns size, steps, guidance, coverage, fid.  `real`: size, coverage and fid of real pictures.  `shipped`: size, coverage and
    sampling steps of one more bank, a star.
    """
    with theme():
        figure = Strip(figsize=(9.6, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
    sizes, steps = sorted(table["size"].unique()), sorted(table.steps.unique())
    ends: dict[str, list] = {"left": [], "right": []}
    for guidance, (colour, name) in GUIDANCES.items():
        rows = table[table.guidance == guidance]
        by_size = rows[rows.steps == steps[-1]].sort_values("size")
        by_steps = rows[rows["size"] == sizes[-1]].sort_values("steps")
        left.plot(by_size["size"], by_size.coverage, color=colour, marker="o", linewidth=2)
        right.plot(by_steps.steps, by_steps.fid, color=colour, marker="o", linewidth=2)
        ends["left"].append((by_size.coverage.iloc[-1], name, colour))
        ends["right"].append((by_steps.fid.iloc[-1], name, colour))
    left.plot(real["size"], real.coverage, color=REAL, linestyle="--", linewidth=1.5)
    floor = float(real[real["size"] == real["size"].max()].fid.iloc[0])
    right.axhline(floor, color=REAL, linestyle="--", linewidth=1.5)
    star = {"color": COLOURS["Diff-Tuning"], "marker": "*", "markersize": 15, "linestyle": "none"}
    left.plot([shipped["size"]], [shipped["coverage"]], **star)
    left.set(xscale="log", ylim=(0, 1), xlabel="pictures in the bank", ylabel="share of the source covered")
    left.set_title(f"{steps[-1]} sampling steps (the star: {shipped['steps']:g})", fontsize=12)
    right.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel="Frechet distance (log scale)")
    right.set_title(f"{sizes[-1]:,} pictures", fontsize=12)
    for axis, values in ((left, sizes), (right, steps)):
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.minorticks_off()
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if 0.7 * floor < tick < 1.4 * float(np.max(table.fid))]
    right.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    label_ends(left, [*ends["left"], (real.coverage.iloc[-1], "real pictures", REAL), (shipped["coverage"], "shipped bank", star["color"])])
    label_ends(right, [*ends["right"], (floor, "real pictures", REAL)])
    best, few = (
        table[(table.guidance == 1.5) & (table.steps == steps[-1]) & (table["size"] == size)].iloc[0] for size in (sizes[-1], sizes[0])
    )
    return describe(
        figure,
        f"Left: coverage against the bank's size; at guidance 1.5 it goes from {few.coverage:.2f} with {sizes[0]} to {best.coverage:.2f} with "
        f"{sizes[-1]:,} pictures. Right: Frechet distance against the sampling steps; {best.fid:.2f} at guidance 1.5 and {steps[-1]} steps, "
        f"{floor:.2f} for real pictures. The shipped bank covers {shipped['coverage']:.2f}.",
    )
