"""Figures of the memory bank's lesson: values in, Figure out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from ..explorers import Frames, Moving
from ..figures import Figure, describe, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's palette; a mark of its own for each, so that no one needs the colours.
LINES = {
    "coverage": ("#0072B2", "o"),
    "precision": ("#D55E00", "^"),
    "recall": ("#009E73", "s"),
    "fid": ("#CC79A7", "v"),
    "seconds": ("0.25", "D"),
}
SHARES = ("coverage", "precision", "recall")
PANELS = {  # what shares a row of panels, by the row's label; precision and recall need an axis of their own: both lie near 1
    "coverage": ("coverage",),
    "precision, recall": ("precision", "recall"),
    "Frechet distance\n(our features)": ("fid",),
    "seconds to\nsample": ("seconds",),
}
SHARD_STATES = {
    "sampled": ("#0072B2", ""),
    "missing": ("#FFFFFF", ""),
    "sampled later": ("#56B4E9", "+"),
    "damaged": ("#D55E00", "!"),
    "sampled again": ("#56B4E9", "↻"),
}
STAR = {"marker": "*", "markersize": 14, "markerfacecolor": "none", "markeredgewidth": 1.6, "linestyle": "none"}  # hollow: lines show
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
    most = max((len(images) for images in next(iter(rows.values()))), default=0)
    empty = [name for name, images in zip(names, next(iter(rows.values()))) if not len(images)]
    gaps = f" The {next(iter(rows))} has none of {', '.join(empty)}." if empty else ""
    return describe(figure, f"Up to {most} pictures of each of the classes {', '.join(names)}, in rows: {', '.join(rows)}.{gaps}")


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


def kind_bars(shares: pandas.DataFrame, *, balls: Mapping[str, int], title: str = "") -> Figure:
    """Coverage (0..1) of each kind (row) by each set of pictures (column), as bars; `balls`: of how many reference pictures it is a share."""
    with theme():
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axis = figure.subplots()
    colours = ("#0072B2", "#999999", "#E69F00")
    width = 0.8 / len(shares.columns)
    for number, (name, values) in enumerate(shares.items()):
        places = np.arange(len(shares)) + (number - (len(shares.columns) - 1) / 2) * width
        bars = axis.bar(places, values, 0.94 * width, label=name, color=colours[number])
        axis.bar_label(bars, fmt="%.2f", fontsize=10, padding=2)
    axis.set_xticks(range(len(shares)), [f"{kind}s\n(of {balls[kind]} balls)" for kind in shares.index])
    axis.set(ylim=(0, 1.12), ylabel="coverage")
    axis.set_title(title, fontsize=12)
    axis.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=len(shares.columns), frameon=False, fontsize=10)
    found = "; ".join(f"{kind}: " + ", ".join(f"{value:.2f} by {name}" for name, value in row.items()) for kind, row in shares.iterrows())
    return describe(figure, f"Coverage of each kind as bars. {found}.")


def coverage_slices(table: pandas.DataFrame, *, size: int, steps: int, guidance: float, real: pandas.DataFrame | None = None,
                    live: Mapping[str, float] | None = None) -> Figure:  # fmt: skip
    """Measures and seconds, a row of panels each, against size, steps and guidance, each time with the other two held.

    `table`: columns size, steps, guidance, precision, recall, coverage, fid, seconds.  `real`: size and the
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
    return Frames(axes, images)


def _slices(table: pandas.DataFrame, real: pandas.DataFrame | None, live: Mapping[str, float] | None,
            ) -> tuple[Figure, list[Artist], Callable[..., None]]:  # fmt: skip
    """The figure with empty lines, the artists that move, and what moves them."""
    with theme():
        figure = Figure(figsize=(10.2, 8.0), layout="constrained")
        axes = figure.subplots(len(PANELS), len(VARIED), sharey="row", sharex="col", height_ratios=[3, 2.4, 2.4, 2])
    values = {name: sorted(table[name].unique()) for name in VARIED}
    lines = {}
    for column, name in enumerate(VARIED):
        for axis, measures in zip(axes[:, column], PANELS.values()):
            for measure in measures:
                lines[name, measure], lines[name, measure, "real"], lines[name, measure, "live"] = _draw(axis, measure, values[name])
            lines[name, measures] = axis.axvline(values[name][0], color="0.6", linewidth=6, alpha=0.35, zorder=0)  # the point in common
            _scale(axis, values[name], log=name != "guidance")
        axes[-1, column].set_xlabel(VARIED[name])
    _set_heights(axes[:, 0], table, real, live)
    key = [lines["size", measure] for measure in SHARES]
    if real is not None:
        key.append(axes[0, 0].plot([], [], color="0.3", linestyle="--", linewidth=1, label="as many real pictures")[0])
    if live is not None:
        key.append(axes[0, 0].plot([], [], color="0.25", **STAR, label="your bank")[0])
    figure.legend(handles=key, loc="outside upper center", ncols=len(key), frameon=False, fontsize=11)

    def update(**here: float) -> None:
        for name in VARIED:
            held = {key: value for key, value in here.items() if key != name}
            rows = _where(table, held).sort_values(name)
            on_slice = live is not None and all(live[key] == value for key, value in held.items())
            for measure in LINES:
                lines[name, measure].set_data(rows[name], rows[measure])
                lines[name, measure, "live"].set_data(([live[name]], [live[measure]]) if on_slice else ([], []))
                if real is not None and measure in real:
                    lines[name, measure, "real"].set_data(*_real_line(real, name, values[name], measure, here["size"]))
            for measures in PANELS.values():
                lines[name, measures].set_xdata([here[name]] * 2)
        describe(figure, _what_slices_show(table, here))

    return figure, list(lines.values()), update


def _draw(axis: Axes, measure: str, values: Sequence[float]) -> tuple[Artist, Artist, Artist]:
    """The table's line, that of real pictures, and the live bank's star; all still without data."""
    colour, mark = LINES[measure]
    table = axis.plot(values, np.full(len(values), np.nan), color=colour, marker=mark, markersize=5, label=measure)[0]
    real = axis.plot([], [], color=colour, linestyle="--", linewidth=1)[0]
    return table, real, axis.plot([], [], color=colour, zorder=3, **STAR)[0]


def _scale(axis: Axes, values: Sequence[float], *, log: bool) -> None:
    if log:
        axis.set_xscale("log", base=2)
    axis.set_xlim(_padded(values, log=log))
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.minorticks_off()


def _set_heights(first: Sequence[Axes], table: pandas.DataFrame, real: pandas.DataFrame | None, live: Mapping[str, float] | None) -> None:
    """Labels and limits of each row of panels, set on its first one; they must hold for every slice."""
    for axis, (label, measures) in zip(first, PANELS.items()):
        found = [float(value) for measure in measures for value in table[measure]]
        found += [float(value) for measure in measures if real is not None and measure in real for value in real[measure]]
        found += [live[measure] for measure in measures if live is not None]
        axis.set_ylabel(label, fontsize=11)
        if measures[0] in SHARES:
            axis.set_ylim(-0.03 if measures[0] == "coverage" else min(found) - 0.015, 1.03 if measures[0] == "coverage" else 1.01)
        else:
            axis.set_yscale("log")
            if measures[0] == "fid":
                axis.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20])  # the decades alone are too few
            axis.set_ylim(min(found) / 1.6, max(found) * 1.6)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.tick_params(axis="y", which="minor", labelleft=False)


def _what_slices_show(table: pandas.DataFrame, here: Mapping[str, float]) -> str:
    """The description: the three columns in words, coverage and Frechet distance from end to end."""
    parts = []
    for name, words in VARIED.items():
        rows = _where(table, {key: value for key, value in here.items() if key != name}).sort_values(name)
        first, last = rows.iloc[0], rows.iloc[-1]
        parts.append(
            f"from {first[name]:g} to {last[name]:g} {words} coverage goes from {first.coverage:.2f} to {last.coverage:.2f} "
            f"and the Frechet distance from {first.fid:.1f} to {last.fid:.1f}"
        )
    point = ", ".join(f"{words} {here[name]:g}" for name, words in VARIED.items())
    return f"Coverage, precision, recall, Frechet distance and seconds of memory banks around {point}: {'; '.join(parts)}."


def _padded(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits with room for markers at both ends, also of a single value."""
    first, last = float(values[0]), float(values[-1])
    if log:
        factor = max((last / first) ** 0.08, 1.1)
        return first / factor, last * factor
    room = max(0.08 * (last - first), 0.1)
    return first - room, last + room


def _real_line(real: pandas.DataFrame, name: str, values: Sequence[float], measure: str, size: int) -> tuple[Sequence, Sequence]:
    """Where the dashed line of real pictures runs: along the sizes, or level at the size that is held."""
    if name == "size":
        rows = real.sort_values("size")
        return rows["size"], rows[measure]
    rows = real[real["size"] == size]
    return ([values[0], values[-1]], [float(value) for value in rows[measure]] * 2) if len(rows) else ([], [])


def _where(table: pandas.DataFrame, held: Mapping[str, float]) -> pandas.DataFrame:
    for name, value in held.items():
        table = table[table[name] == value]
    return table
