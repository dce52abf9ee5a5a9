"""Figures of lesson 01: how many pictures an ideal denoiser averages, who denoises a task's pictures, errors in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from torch import Tensor

from .plots import COLOURS, Figure, describe, draw_with_interval, theme

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

DENOISERS = {  # name in the table: label, colour, line style
    "ideal": ("whole pictures (the theorem)", "#D55E00", "-"),
    "patches": ("windows, best size at each t", "#E69F00", "-"),
    "gaussian": ("mean and covariance only", "#999999", "--"),
    "network": ("the pre-trained network", "#0072B2", "-"),
}
SIZE_COLOURS = ["#CC79A7", "#D55E00", "#0072B2", "#009E73"]


def averaging_curves(counts: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """The effective number of pictures in the average against t; `counts` has (timesteps (K,), numbers (K,)) by set."""
    figure, axis = _one_panel()
    for (name, (timesteps, numbers)), colour in zip(counts.items(), SIZE_COLOURS):
        axis.plot(timesteps, numbers, marker="o", markersize=4, color=colour, label=name)
    axis.set(xlabel="timestep t (0 = least noise)", ylabel="pictures in the average\n(effective number)", yscale="log")
    axis.legend(fontsize=10)
    return describe(figure, "How many pictures the ideal denoiser averages, against the timestep: from one to the whole set.")


def error_curves(table: pandas.DataFrame, task: str, source_size: int) -> Figure:
    """Error of each denoiser on a task's pictures against t; `table` has the windows of the best size as "patches"."""
    figure, axis = _one_panel()
    rows = table[(table.task == task) & ((table.source_size == source_size) | (table.denoiser == "network"))]
    for name, (label, colour, style) in DENOISERS.items():
        own = rows[rows.denoiser == name].sort_values("t")
        if len(own):
            axis.errorbar(own.t, own.error, 1.96 * own.standard_error, color=colour, linestyle=style, marker="o", markersize=4, label=label)
    everything = table.error[table.error > 0]
    axis.set(
        xlabel="timestep t (0 = least noise)", ylabel="squared error of x_0\nper latent number", yscale="log",
        ylim=(everything.min() / 1.5, everything.max() * 1.5), title=f"{task}: denoised by what {source_size} source pictures say",
    )  # fmt: skip
    axis.legend(fontsize=10, loc="lower right")
    return describe(figure, f"Error of four denoisers on pictures of {task} against the timestep, from {source_size} source pictures.")


def size_curves(table: pandas.DataFrame, task: str, timesteps: tuple[int, ...] = (60, 200, 500)) -> Figure:
    """The same errors against the size of the source set, one panel for each timestep."""
    with theme():
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        axes = figure.subplots(1, len(timesteps))
    sizes = sorted(table.source_size.unique())
    for axis, t in zip(axes, timesteps):
        rows = table[(table.task == task) & (table.t == t)]
        for name, (label, colour, style) in DENOISERS.items():
            own = rows[rows.denoiser == name].sort_values("source_size")
            if name == "network":
                axis.axhline(float(own.error.iloc[0]), color=colour, label=label)
            else:
                axis.plot(own.source_size, own.error, color=colour, linestyle=style, marker="o", markersize=4, label=label)
        axis.set(title=f"t = {t}", xscale="log", xlabel="source pictures", ylim=(0, None))
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axes[0].set_ylabel("squared error of x_0\nper latent number")
    figure.suptitle(task, fontsize=13)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    return describe(figure, f"Error on pictures of {task} against the number of source pictures, at three timesteps.")


def plane(clouds: Mapping[str, Tensor]) -> Figure:
    """Clouds of points (N, 2) by name, the first one pale."""
    with theme():
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        axis = figure.subplots()
    styles = [("0.75", 4), (COLOURS["Diff-Tuning"], 26), (COLOURS["plain"], 12)]
    for (name, points), (colour, size) in zip(clouds.items(), styles):
        axis.scatter(*points.T.numpy(), s=size, color=colour, label=name, linewidths=0)
    axis.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    figure.legend(loc="outside lower center", ncols=len(clouds), fontsize=10, markerscale=2)
    return describe(figure, f"Points in the plane: {', '.join(clouds)}.")


def own_error_curves(table: pandas.DataFrame, step: int, data: str, live: pandas.DataFrame | None = None) -> Figure:
    """Own error as a share of the unavoidable loss against t, after `step` steps on `data`.

    Geometric mean over seeds and its 95 % interval; `live` has one run's rows; they are drawn as stars.
    """
    figure, axis = _one_panel()
    shown = table[(table.data == data) & table.step.isin([0, step])]
    for method, colour in COLOURS.items():
        rows = shown[shown.method == method]
        if rows.empty:
            continue
        style = "--" if method == "pre-trained" else "-"
        draw_with_interval(axis, rows.assign(error=100 * rows.error), "t", "error", colour, method, style=style, log=True)
        if live is not None and len(own := live[(live.method == method) & (live.data == data)]):
            axis.plot(own.t, 100 * own.error, linestyle="none", marker="*", markersize=11, color=colour, markeredgecolor="white")
    everything = 100 * table.error[table.data == data]
    axis.set(
        xlabel="timestep t (0 = least noise)", xscale="log", yscale="log", ylim=(everything.min() / 1.5, everything.max() * 1.5),
        ylabel="own error, % of the\nunavoidable loss", title=f"{data}, after {step} steps",
    )  # fmt: skip
    _plain_numbers(axis)
    axis.legend(fontsize=10)
    return describe(figure, f"The networks' own error on the {data} against the timestep, after {step} steps of tuning.")


def _plain_numbers(axis: Axes) -> None:
    """100 instead of 10^2 on both axes."""
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")


def _one_panel() -> tuple[Figure, Axes]:
    with theme():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        return figure, figure.subplots()
