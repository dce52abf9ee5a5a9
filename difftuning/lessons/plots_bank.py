"""Figures of the memory bank's lesson: values in, Figure out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from .explorers import Frames, Moving
from .plots import Figure, describe, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.artist import Artist

# Okabe and Ito's palette; a mark of its own for each, so that no one needs the colours.
MEASURES = {"precision": ("#D55E00", "^"), "recall": ("#009E73", "s"), "coverage": ("#0072B2", "o")}
SHARD_STATES = {
    "sampled": ("#0072B2", ""),
    "missing": ("#FFFFFF", ""),
    "sampled later": ("#56B4E9", "+"),
    "damaged": ("#D55E00", "!"),
    "sampled again": ("#56B4E9", "↻"),
}
STAR = {"marker": "*", "markersize": 17, "markeredgecolor": "black", "linestyle": "none"}
VARIED = {"size": "pictures in the bank", "steps": "sampling steps", "guidance": "guidance"}


def class_page(
    names: Sequence[str], rows: Mapping[str, Sequence[Tensor]], *, heights: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """A column of pictures under each class name; each of `rows` holds one (n, 3, H, W) per class, as many as there are.

    `heights`: for how many pictures of a class each of `rows` has room, so that pages are of one size; default: as many as there are.
    """
    count = len(names)
    heights = heights or [max([len(images) for images in pictures] + [1]) for pictures in rows.values()]
    figure = Figure(figsize=(0.78 * count + 1.7, 0.78 * sum(heights) + 1.5), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, height, (row, pictures) in zip(axes, heights, rows.items()):
        side = next((images.shape[-1] for images in pictures if len(images)), 32) + 2
        sheet = np.ones((height * side, count * side, 3))
        for column, images in enumerate(pictures):
            for place, image in enumerate(images[:height].clamp(-1, 1).permute(0, 2, 3, 1).numpy() / 2 + 0.5):
                sheet[place * side + 1 : (place + 1) * side - 1, column * side + 1 : (column + 1) * side - 1] = image
        axis.imshow(sheet, interpolation="nearest")
        axis.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=11)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    ticks = (np.arange(count) + 0.5) * side - 0.5
    axes[0].set_xticks(ticks, names, rotation=35, ha="left", rotation_mode="anchor", fontsize=10)
    axes[0].tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False, pad=1)
    if title:
        figure.suptitle(title, fontsize=12)
    return describe(figure, f"Pictures of the classes {', '.join(names)}, in rows: {', '.join(rows)}.")


def shard_states(rows: Mapping[str, Sequence[str]], *, title: str = "") -> Figure:
    """One square for each shard, row by row of moments; the states are those of SHARD_STATES."""
    from matplotlib.patches import Patch

    count = max(len(states) for states in rows.values())
    figure = Figure(figsize=(7.2, 0.55 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    for y, states in enumerate(rows.values()):
        for x, state in enumerate(states):
            colour, mark = SHARD_STATES[state]
            dash = "--" if state == "missing" else "-"
            axis.bar(x, 0.7, 0.9, bottom=y - 0.35, color=colour, edgecolor="0.35", linestyle=dash, linewidth=1)
            axis.text(x, y, mark, ha="center", va="center", fontsize=13, color="white", fontweight="bold")
    axis.set(xlim=(-0.6, count - 0.4), ylim=(len(rows) - 0.5, -0.5), xlabel="shard", title=title)
    axis.set_xticks(range(count))
    axis.set_yticks(range(len(rows)), list(rows))
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    shown = [state for state in SHARD_STATES if any(state in states for states in rows.values())]
    handles = [Patch(facecolor=SHARD_STATES[state][0], edgecolor="0.35", label=state) for state in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(shown), frameon=False, fontsize=10)
    counts = "; ".join(f"{name}: " + ", ".join(f"{list(s).count(k)} {k}" for k in shown if k in s) for name, s in rows.items())
    return describe(figure, f"Shards of a bank. {counts}.")


def kind_bars(shares: pandas.DataFrame, *, title: str = "") -> Figure:
    """Coverage (0..1) of each kind (row) by each set of pictures (column), as bars with their values."""
    with theme():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axis = figure.subplots()
    colours = ("#0072B2", "#999999", "#E69F00")
    width = 0.8 / len(shares.columns)
    for number, (name, values) in enumerate(shares.items()):
        places = np.arange(len(shares)) + (number - (len(shares.columns) - 1) / 2) * width
        bars = axis.bar(places, values, 0.94 * width, label=name, color=colours[number])
        axis.bar_label(bars, fmt="%.2f", fontsize=10, padding=2)
    axis.set_xticks(range(len(shares)), shares.index)
    axis.set(ylim=(0, 1.12), ylabel="coverage", title=title)
    axis.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=len(shares.columns), frameon=False, fontsize=10)
    return describe(figure, f"Coverage by {' and '.join(shares.columns)} for {', '.join(shares.index)}.")


def coverage_slices(table: pandas.DataFrame, *, size: int, steps: int, guidance: float, real: pandas.DataFrame | None = None,
                    live: Mapping[str, float] | None = None) -> Figure:  # fmt: skip
    """Measures (above) and seconds (below) against size, steps and guidance, each time with the other two held.

    `table`: columns size, steps, guidance, precision, recall, coverage, seconds.  `real`: size and the
    measures of real pictures, drawn as dashed lines.  `live`: a row like the table's, drawn as stars
    where it lies on a slice.
    """
    figure, _, update = _slices(table, real, live)
    update(size=size, steps=steps, guidance=guidance)
    return figure


def coverage_explorer(table: pandas.DataFrame, *, real: pandas.DataFrame | None = None) -> Frames:
    """`coverage_slices` for every size, steps and guidance of the table, one frame each."""
    figure, moving, update = _slices(table, real, None)
    axes = {name: sorted(table[name].unique().tolist()) for name in VARIED}
    picture = Moving(figure, moving, update, **axes)  # three times as fast as a whole figure for each
    images = {values: picture(**dict(zip(axes, values))) for values in itertools.product(*axes.values())}
    return Frames(axes, images, figure.get_label())


def _slices(table: pandas.DataFrame, real: pandas.DataFrame | None, live: Mapping[str, float] | None,
            ) -> tuple[Figure, list[Artist], Callable[..., None]]:  # fmt: skip
    """The figure with empty lines, the artists that move, and what moves them."""
    with theme():
        figure = Figure(figsize=(10.2, 5.6), layout="constrained")
        axes = figure.subplots(2, 3, sharey="row", sharex="col", height_ratios=[3, 2])
    lines: dict[tuple[str, str], Any] = {}
    for column, name in enumerate(VARIED):
        above, below = axes[:, column]
        values = sorted(table[name].unique())
        for measure, (colour, mark) in MEASURES.items():
            lines[name, measure] = above.plot(values, np.full(len(values), np.nan), color=colour, marker=mark, label=measure)[0]
            lines[name, measure, "real"] = above.plot([], [], color=colour, linestyle="--", linewidth=1)[0]
            lines[name, measure, "live"] = above.plot([], [], color=colour, **STAR)[0]
        lines[name, "seconds"] = below.plot(values, np.full(len(values), np.nan), color="0.25", marker="D", markersize=5)[0]
        lines[name, "seconds", "live"] = below.plot([], [], color="0.25", **STAR)[0]
        lines[name, "here"] = [axis.axvline(values[0], color="0.6", linewidth=6, alpha=0.35, zorder=0) for axis in (above, below)]
        for axis in (above, below):
            if name != "guidance":
                axis.set_xscale("log", base=2)
            axis.set_xlim(_padded(values, log=name != "guidance"))
            axis.set_xticks(values, [f"{value:g}" for value in values])
            axis.minorticks_off()
        below.set_xlabel(VARIED[name])
    axes[0, 0].set(ylim=(-0.03, 1.05), ylabel="share")
    seconds = [*table.seconds, *([] if live is None else [live["seconds"]])]
    axes[1, 0].set(yscale="log", ylim=(min(seconds) / 1.6, max(seconds) * 1.6), ylabel="seconds to sample")
    axes[1, 0].yaxis.set_major_formatter("{x:g}")
    key = [lines["size", measure] for measure in MEASURES]
    if real is not None:
        key.append(axes[0, 0].plot([], [], color="0.3", linestyle="--", linewidth=1, label="as many real pictures")[0])
    if live is not None:
        key.append(axes[0, 0].plot([], [], color="white", marker="*", markersize=13, markeredgecolor="black", label="your bank")[0])
    figure.legend(handles=key, loc="outside upper center", ncols=len(key), frameon=False, fontsize=11)
    describe(figure, "Precision, recall, coverage and seconds against size, sampling steps and guidance of a memory bank.")

    def update(**here: float) -> None:
        for name in VARIED:
            held = {key: value for key, value in here.items() if key != name}
            rows = _where(table, held).sort_values(name)
            for measure in (*MEASURES, "seconds"):
                lines[name, measure].set_data(rows[name], rows[measure])
                on_slice = live is not None and all(live[key] == value for key, value in held.items())
                lines[name, measure, "live"].set_data(([live[name]], [live[measure]]) if on_slice else ([], []))
            for line in lines[name, "here"]:
                line.set_xdata([here[name]] * 2)
            if real is not None:
                _draw_real(lines, name, sorted(table[name].unique()), real, here["size"])

    moving = [artist for found in lines.values() for artist in (found if isinstance(found, list) else [found])]
    return figure, moving, update


def _padded(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits with room for markers at both ends, also of a single value."""
    first, last = float(values[0]), float(values[-1])
    if log:
        factor = max((last / first) ** 0.08, 1.1)
        return first / factor, last * factor
    room = max(0.08 * (last - first), 0.1)
    return first - room, last + room


def _draw_real(lines: dict, name: str, values: Sequence[float], real: pandas.DataFrame, size: int) -> None:
    for measure in MEASURES:
        rows = real.sort_values("size") if name == "size" else real[real["size"] == size]
        places = rows["size"] if name == "size" else [values[0], values[-1]] if len(rows) else []
        heights = rows[measure] if name == "size" else [float(value) for value in rows[measure]] * 2
        lines[name, measure, "real"].set_data(places, heights)


def _where(table: pandas.DataFrame, held: Mapping[str, float]) -> pandas.DataFrame:
    for name, value in held.items():
        table = table[table[name] == value]
    return table
